"""Routes of jobs: invoke a batch endpoint, look at jobs, cancel, pause and resume them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from headgate.azure import arm_jobs
from headgate.azure.arm_answers import list_of
from headgate.azure.arm_fields import Json
from headgate.azure.arm_resources import page
from headgate.gateway import core
from headgate.gateway.access import Action
from headgate.gateway.backend import Backend, page_answer, read_page
from headgate.gateway.batch_deployments import batch_deployment
from headgate.gateway.batch_endpoints import batch_endpoint
from headgate.gateway.cursors import Position
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.routes import WORKSPACE, Route
from headgate.runtime.networks import Network, comes_from
from headgate_contracts import limits
from headgate_contracts.envelope import Command
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.jobs import (
    CancelJob,
    DeadLettersReply,
    GetJob,
    GetMiniBatches,
    Job,
    JobReply,
    JobsReply,
    ListDeadLetters,
    ListJobs,
    MiniBatchesReply,
    PauseJob,
    RedriveDeadLetters,
    ResumeJob,
    SubmitJob,
)

# Azure's client lists the jobs of an endpoint at another service of the workspace, below the
# address that the discovery document calls "api".
_FRONTEND = f"/mferp/managementfrontend{WORKSPACE}"
_OF_ENDPOINT = "/batchEndpoints/{endpoint}/jobs"
_OF_DEPLOYMENT = "/batchEndpoints/{endpoint}/deployments/{deployment}/jobs"
_ONE = f"{WORKSPACE}/jobs/{{job}}"
_JOB: Json = {"type": "object"}
_PAGE = list_of(_JOB)
_DEPLOYMENT_HEADER = "azureml-model-deployment"
_REPEAT_HEADER = "repeatability_request-id"
_LIST_MAX = 1_000


class Jobs:
    """Handlers of jobs."""

    def __init__(self, backend: Backend, networks: Sequence[Network] = ()) -> None:
        """``networks`` have the clients of endpoints that are not public."""
        self._backend = backend
        self._networks = networks

    def _resource(self, job: Job, call: Call) -> Json:
        return arm_jobs.job_resource(job, call.context, f"{call.origin}/studio")

    # --- lists ---------------------------------------------------------------------------------

    async def list_all(self, call: Call) -> web.StreamResponse:
        return await self._list(call)

    async def list_of_endpoint(self, call: Call) -> web.StreamResponse:
        await batch_endpoint(self._backend, call)
        return await self._list(call, endpoint=call.params["endpoint"])

    async def list_of_deployment(self, call: Call) -> web.StreamResponse:
        await batch_deployment(self._backend, call)
        return await self._list(
            call, endpoint=call.params["endpoint"], deployment=call.params["deployment"]
        )

    async def _list(self, call: Call, **of: str) -> web.StreamResponse:
        """Newest first; a start by number needs everything before it as well."""
        wanted = read_page(call)
        if wanted.skip:
            found: list[Job] = []
            after = ""
            while len(found) < min(wanted.skip + wanted.size, _LIST_MAX):
                part = await self._part(call, after, limits.PAGE_SIZE_MAX, of)
                found += part.jobs
                after = part.after
                if not after:
                    break
            shown = found[wanted.skip : wanted.skip + wanted.size]
            return answer(page([self._resource(job, call) for job in shown]))
        part = await self._part(call, wanted.after, wanted.size, of)
        following = Position(after=part.after) if part.after else None
        return page_answer(call, [self._resource(job, call) for job in part.jobs], following)

    async def _part(self, call: Call, after: str, limit: int, of: dict[str, str]) -> JobsReply:
        query = ListJobs(workspace=call.workspace, after=after, limit=limit, **of)
        return await self._backend.ask(query, JobsReply)

    # --- one job -------------------------------------------------------------------------------

    async def get(self, call: Call) -> web.StreamResponse:
        return answer(self._resource(await read_job(self._backend, call), call))

    async def invoke(self, call: Call) -> web.StreamResponse:
        """A new job, or the one that the same invocation has made already."""
        await self._check_access(call)
        headers = call.request.headers
        repeat_id = headers.get(_REPEAT_HEADER, "")
        if len(repeat_id) > limits.REPEAT_KEY_CHARS_MAX:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"{_REPEAT_HEADER} may have {limits.REPEAT_KEY_CHARS_MAX} characters",
                target=_REPEAT_HEADER,
            )
        command = arm_jobs.invocation(
            call.workspace,
            call.params["endpoint"],
            await call.json(),
            deployment=headers.get(_DEPLOYMENT_HEADER) or None,
            repeat_id=repeat_id,
        )
        reply = await self._backend.ask(command, JobReply)
        return answer(self._resource(reply.job, call), 201 if reply.created else 200)

    async def _check_access(self, call: Call) -> None:
        spec = (await batch_endpoint(self._backend, call)).spec
        if spec.public_network_access == "disabled" and not comes_from(
            call.address, self._networks
        ):
            raise HeadgateError(
                ErrorCode.FORBIDDEN,
                f"the batch endpoint {spec.name!r} has public_network_access: disabled. It takes "
                f"jobs over the bus ({SubmitJob.TYPE}) and from the networks of the setting "
                f"private_networks, of which {call.address} is none",
                target="public_network_access",
            )

    async def cancel(self, call: Call) -> web.StreamResponse:
        """202 with where to look; Azure's client polls that until the job has ended."""
        command = CancelJob(workspace=call.workspace, name=call.params["job"])
        job = (await self._backend.ask(command, JobReply)).job
        response = web.Response(status=200 if job.status.is_final else 202)
        response.headers["Location"] = call.url(f"{arm_jobs.job_id(call.context, job.name)}/ended")
        response.headers["Retry-After"] = "1"
        return response

    async def ended(self, call: Call) -> web.StreamResponse:
        """202 until the job has ended."""
        job = await read_job(self._backend, call)
        response = web.Response(status=200 if job.status.is_final else 202)
        if not job.status.is_final:
            response.headers["Location"] = call.url(call.request.path)
            response.headers["Retry-After"] = "1"
        return response

    def _order(self, command: Callable[..., Command]) -> Handle:
        async def handle(call: Call) -> web.StreamResponse:
            wanted = command(workspace=call.workspace, name=call.params["job"])
            job = (await self._backend.ask(wanted, JobReply)).job
            return answer(self._resource(job, call))

        return handle

    async def redrive(self, call: Call) -> web.StreamResponse:
        body = await call.json(optional=True)
        numbers: Any = body.get("numbers", ()) if isinstance(body, dict) else None
        if not isinstance(numbers, list | tuple) or not all(type(n) is int for n in numbers):
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT, "/numbers: a list of whole numbers", target="/numbers"
            )
        if len(numbers) > limits.PAGE_SIZE_MAX:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"/numbers: at most {limits.PAGE_SIZE_MAX} at once; none means all",
                target="/numbers",
            )
        command = RedriveDeadLetters(
            workspace=call.workspace, name=call.params["job"], numbers=tuple(numbers)
        )
        job = (await self._backend.ask(command, JobReply)).job
        return answer(self._resource(job, call))

    async def dead_letters(self, call: Call) -> web.StreamResponse:
        wanted = read_page(call)
        after = int(wanted.after) if wanted.after else wanted.skip - 1
        query = ListDeadLetters(
            workspace=call.workspace, name=call.params["job"], after=after, limit=wanted.size
        )
        reply = await self._backend.ask(query, DeadLettersReply)
        items = [each.model_dump(mode="json") for each in reply.dead_letters]
        following = None if reply.after is None else Position(after=str(reply.after))
        return page_answer(call, items, following)

    async def mini_batches(self, call: Call) -> web.StreamResponse:
        """A picture of the whole job, or of some neighbours, that never grows with the job."""
        said, most = call.query, limits.BATCH_GROUPS_MAX
        query = GetMiniBatches(
            workspace=call.workspace,
            name=call.params["job"],
            first=core.read_number(said, "first", 0, least=0, most=limits.INT32_MAX),
            count=core.read_number(said, "number", 0, least=0, most=limits.INT32_MAX),
            groups=core.read_number(
                said, "groups", limits.BATCH_GROUPS_DEFAULT, least=1, most=most
            ),
        )
        reply = await self._backend.ask(query, MiniBatchesReply)
        return answer(arm_jobs.mini_batches(reply))

    def routes(self) -> tuple[Route[Handle], ...]:
        listing = ("$top", "$skip", "count")
        routes: list[Route[Handle]] = [
            Route("GET", f"{WORKSPACE}/jobs", self.list_all, "List jobs", listing, reply=_PAGE),
            Route("GET", _ONE, self.get, "Read a job", reply=_JOB),
            Route(
                "GET",
                f"{_ONE}/ended",
                self.ended,
                "Tell whether a job has ended",
                answers={200: "it has", 202: "it has not"},
            ),
            Route(
                "POST",
                f"{_ONE}/cancel",
                self.cancel,
                "Cancel a job",
                answers={200: "it has ended", 202: "it is ending"},
            ),
            Route(
                "POST", f"{_ONE}/pause", self._order(PauseJob), "Let a job's nodes go", reply=_JOB
            ),
            Route(
                "POST",
                f"{_ONE}/resume",
                self._order(ResumeJob),
                "Go on with a job where it was",
                reply=_JOB,
            ),
            Route(
                "GET",
                f"{_ONE}/miniBatches",
                self.mini_batches,
                "Count a job's mini-batches by state, in groups of neighbours",
                ("first", "number", "groups"),
                reply=_JOB,
            ),
            Route(
                "GET",
                f"{_ONE}/deadLetters",
                self.dead_letters,
                "List mini-batches that were given up",
                listing,
                reply=_PAGE,
            ),
            Route(
                "POST",
                f"{_ONE}/deadLetters/redrive",
                self.redrive,
                "Try mini-batches again that were given up: these, or all",
                body={
                    "type": "object",
                    "properties": {"numbers": {"type": "array", "items": {"type": "integer"}}},
                },
                body_optional=True,
                reply=_JOB,
            ),
        ]
        for place in (WORKSPACE, _FRONTEND):
            where = "" if place == WORKSPACE else ", for Azure's client"
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
        routes.append(
            Route(
                "POST",
                f"{WORKSPACE}{_OF_ENDPOINT}",
                self.invoke,
                "Invoke a batch endpoint: make a job",
                body=arm_jobs.INVOCATION,
                reply=_JOB,
                answers={200: "the same invocation has made it before", 201: "made"},
                action=Action.SCORE,
            )
        )
        return tuple(routes)


async def read_job(backend: Backend, call: Call) -> Job:
    """The job named in the path, if it is of this workspace."""
    query = GetJob(workspace=call.workspace, name=call.params["job"])
    return (await backend.ask(query, JobReply)).job
