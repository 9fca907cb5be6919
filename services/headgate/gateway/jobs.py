"""Routes of jobs. Nothing here runs jobs yet, and these routes say so."""

from __future__ import annotations

from aiohttp import web

from headgate.azure import arm_answers
from headgate.azure.arm_resources import page
from headgate.gateway import core
from headgate.gateway.access import Action
from headgate.gateway.backend import Backend
from headgate.gateway.batch_deployments import batch_deployment
from headgate.gateway.batch_endpoints import batch_endpoint
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.routes import WORKSPACE, Route
from headgate_contracts.errors import ErrorCode, HeadgateError

# Azure's client lists the jobs of an endpoint at another service of the workspace, below the
# address that the discovery document calls "api".
_FRONTEND = f"/mferp/managementfrontend{WORKSPACE}"
_OF_ENDPOINT = "/batchEndpoints/{endpoint}/jobs"
_OF_DEPLOYMENT = "/batchEndpoints/{endpoint}/deployments/{deployment}/jobs"
_PAGE = arm_answers.list_of(arm_answers.plain(id=arm_answers.TEXT))


class Jobs:
    """Handlers of jobs."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def list_all(self, call: Call) -> web.StreamResponse:
        core.read_page(call.query)
        return answer(page([]))

    async def list_of_endpoint(self, call: Call) -> web.StreamResponse:
        await batch_endpoint(self._backend, call)
        return await self.list_all(call)

    async def list_of_deployment(self, call: Call) -> web.StreamResponse:
        await batch_deployment(self._backend, call)
        return await self.list_all(call)

    async def get(self, call: Call) -> web.StreamResponse:
        raise HeadgateError(
            ErrorCode.RESOURCE_NOT_FOUND,
            f"there is no job {call.params['job'][:80]!r} in this workspace",
            target="job",
        )

    async def invoke(self, call: Call) -> web.StreamResponse:
        """Batch jobs are dispatched by a service of their own, which this installation lacks."""
        endpoint = await batch_endpoint(self._backend, call)
        raise HeadgateError(
            ErrorCode.UNAVAILABLE,
            f"the batch endpoint {endpoint.spec.name!r} cannot be invoked, for no batch "
            "dispatcher runs here; no job was made",
        )

    def routes(self) -> tuple[Route[Handle], ...]:
        listing = ("$top", "$skip")
        routes: list[Route[Handle]] = [
            Route("GET", f"{WORKSPACE}/jobs", self.list_all, "List jobs", listing, reply=_PAGE),
            Route("GET", f"{WORKSPACE}/jobs/{{job}}", self.get, "Read a job", answers={}),
            Route(
                "POST",
                f"{WORKSPACE}{_OF_ENDPOINT}",
                self.invoke,
                "Invoke a batch endpoint: make a job",
                answers={},
                action=Action.SCORE,
            ),
        ]
        for place, where in ((WORKSPACE, ""), (_FRONTEND, ", for Azure's client")):
            routes += [
                Route(
                    "GET",
                    f"{place}{_OF_ENDPOINT}",
                    self.list_of_endpoint,
                    f"List jobs of a batch endpoint{where}",
                    listing,
                    reply=_PAGE,
                ),
                Route(
                    "GET",
                    f"{place}{_OF_DEPLOYMENT}",
                    self.list_of_deployment,
                    f"List jobs of a batch deployment{where}",
                    listing,
                    reply=_PAGE,
                ),
            ]
        return tuple(routes)
