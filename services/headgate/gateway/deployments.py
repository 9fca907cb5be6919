"""Routes of online deployments: the resource, its logs, sizes and instances."""

from __future__ import annotations

import contextlib

from aiohttp import web
from pydantic import Field

from headgate.azure import arm, arm_answers, arm_schema
from headgate.azure.arm_fields import Field as Row
from headgate.azure.arm_fields import Problems, Shape, checked, choice
from headgate.azure.arm_resources import deployment_resource, page
from headgate.gateway import core
from headgate.gateway.access import Action
from headgate.gateway.backend import (
    Backend,
    accepted,
    deletion_answer,
    deletion_revision,
    list_answer,
    operation_url,
    require_existing,
    resource_answer,
)
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.patches import patch_stored, patched
from headgate.gateway.routes import WORKSPACE, Route
from headgate_contracts import limits
from headgate_contracts.envelope import Value
from headgate_contracts.errors import HeadgateError
from headgate_contracts.power import StartDeployment, StopDeployment
from headgate_contracts.provisioning import CapacityReply, GetCapacity, GetLogs, LogsReply
from headgate_contracts.registry import (
    DeleteDeployment,
    DeploymentReply,
    DeploymentsReply,
    ListDeployments,
    OperationReply,
    PutDeployment,
)
from headgate_contracts.resources import Deployment

_LIST = f"{WORKSPACE}/onlineEndpoints/{{endpoint}}/deployments"
_ONE = f"{_LIST}/{{deployment}}"
_PAGE = arm_answers.list_of(arm_answers.DEPLOYMENT)
_INSTANCES = arm_answers.list_of(arm_answers.INSTANCE)
_SKUS = arm_answers.list_of(arm_answers.SKU)
_PATCHABLE = ("tags", "sku")

LOG_POLL_S = 0.5


class LogRequest(Value):
    """Which log lines are wanted. Container and tail are Azure's, the rest is ours."""

    container: str = "inference-server"
    tail: int = Field(limits.LOG_LINES_DEFAULT, ge=1, le=limits.LOG_LINES_MAX)
    cursor: str = Field("", max_length=1_024)
    request_id: str = Field("", max_length=limits.CLIENT_REQUEST_ID_CHARS_MAX)
    contains: str = Field("", max_length=limits.LOG_FILTER_CHARS_MAX)


_LOG_REQUEST = Shape(
    Row(
        "containerType",
        "container",
        choice(
            {"inference-server": "InferenceServer", "storage-initializer": "StorageInitializer"}
        ),
    ),
    Row("tail", "tail"),
    Row("cursor", "cursor"),
    Row("requestId", "request_id"),
    Row("contains", "contains"),
)


class Deployments:
    """Handlers of deployments."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def list_all(self, call: Call) -> web.StreamResponse:
        endpoint = call.params.get("endpoint", "")
        query = ListDeployments(workspace=call.workspace, endpoint=endpoint)
        reply = await self._backend.ask(query, DeploymentsReply)
        return list_answer(
            call, list(reply.deployments), lambda item: deployment_resource(item, call.context)
        )

    async def get(self, call: Call) -> web.StreamResponse:
        found = await self._backend.deployment(call)
        return resource_answer(call, deployment_resource(found, call.context), found.revision)

    async def put(self, call: Call) -> web.StreamResponse:
        condition = call.condition
        spec = arm.deployment_spec(
            call.params["endpoint"],
            call.params["deployment"],
            await call.json(),
            workspace=call.workspace,
        )
        if condition.must_exist and condition.if_revision is None:
            await require_existing(self._backend.deployment, call)
        return await self._store(
            call,
            PutDeployment(
                workspace=call.workspace,
                spec=spec,
                create_only=condition.create_only,
                if_revision=condition.if_revision,
            ),
        )

    async def patch(self, call: Call) -> web.StreamResponse:
        patch = await call.json()

        async def store(found: Deployment, revision: int) -> web.StreamResponse:
            spec = found.spec
            body = patched(arm.deployment_body(spec), patch, _PATCHABLE)
            spec = arm.deployment_spec(spec.endpoint_name, spec.name, body)
            command = PutDeployment(workspace=call.workspace, spec=spec, if_revision=revision)
            return await self._store(call, command)

        return await patch_stored(call, self._backend.deployment, store)

    async def _store(self, call: Call, command: PutDeployment) -> web.StreamResponse:
        reply = await self._backend.ask(command, DeploymentReply, arm.DEPLOYMENT)
        url = operation_url(call, reply.operation)
        return resource_answer(
            call,
            deployment_resource(reply.deployment, call.context, operation_url=url),
            reply.deployment.revision,
            created=reply.created,
            operation=reply.operation,
        )

    async def delete(self, call: Call) -> web.StreamResponse:
        command = DeleteDeployment(
            workspace=call.workspace,
            endpoint=call.params["endpoint"],
            name=call.params["deployment"],
            if_revision=await deletion_revision(self._backend.deployment, call),
        )
        reply = await self._backend.ask(command, OperationReply)
        return deletion_answer(call, reply.operation)

    async def stop(self, call: Call) -> web.StreamResponse:
        return await self._set_power(call, StopDeployment)

    async def start(self, call: Call) -> web.StreamResponse:
        return await self._set_power(call, StartDeployment)

    async def _set_power(
        self, call: Call, kind: type[StopDeployment | StartDeployment]
    ) -> web.StreamResponse:
        """As Azure answers stop and start of its machines: 202, and where to ask how it goes."""
        command = kind(
            workspace=call.workspace,
            endpoint=call.params["endpoint"],
            name=call.params["deployment"],
        )
        reply = await self._backend.ask(command, DeploymentReply)
        return accepted(call, reply.operation)

    async def get_logs(self, call: Call) -> web.StreamResponse:
        """The last lines, or with ``cursor`` what came since; ``wait`` waits for new ones."""
        found = await self._backend.deployment(call)
        wanted = await self._read_log_request(call)
        wait_s = core.read_number(call.query, "wait", 0, least=0, most=limits.LOG_WAIT_S_MAX)
        query = GetLogs(
            endpoint=found.spec.endpoint_name,
            deployment=found.spec.name,
            container=wanted.container,
            tail=wanted.tail,
            cursor=wanted.cursor,
            request_id=wanted.request_id,
            contains=wanted.contains,
        )
        until = self._backend.clock.monotonic() + wait_s
        reply = await self._backend.ask(query, LogsReply)
        while not reply.content and self._backend.clock.monotonic() < until:
            if await self._backend.closes_within(LOG_POLL_S):
                break
            query = query.model_copy(update={"cursor": reply.cursor or query.cursor})
            reply = await self._backend.ask(query, LogsReply)
        return answer({"content": reply.content, "cursor": reply.cursor})

    @staticmethod
    async def _read_log_request(call: Call) -> LogRequest:
        problems = Problems()
        values = _LOG_REQUEST.load(await call.json(optional=True), problems)
        if "cursor" in call.query:
            values["cursor"] = call.query["cursor"]
        return checked(LogRequest, values, _LOG_REQUEST, problems)

    async def skus(self, call: Call) -> web.StreamResponse:
        """How far a deployment can be scaled by ``sku.capacity``: as far as its host is large."""
        found = await self._backend.deployment(call)
        most = None
        with contextlib.suppress(HeadgateError):  # nobody tells: what may be asked for at all
            query = GetCapacity(instance_type=found.spec.instance_type)
            most = (await self._backend.ask(query, CapacityReply)).instances_max
        capacity = {
            "default": 1,
            "minimum": 0,
            "maximum": limits.INSTANCES_PER_DEPLOYMENT_MAX if most is None else most,
            "scaleType": "Automatic",
        }
        kind = "Microsoft.MachineLearning.Services/endpoints/deployments"
        return answer(
            page([{"resourceType": kind, "sku": {"name": "Default"}, "capacity": capacity}])
        )

    async def instances(self, call: Call) -> web.StreamResponse:
        spec = (await self._backend.deployment(call)).spec
        return answer(page(await self._backend.instances(spec.endpoint_name, spec.name)))

    def routes(self) -> tuple[Route[Handle], ...]:
        stored = {200: "updated", 201: "created"}
        listing = ("$orderBy", "$top", "$skip")
        return (
            Route(
                "GET",
                _LIST,
                self.list_all,
                "List deployments of an endpoint",
                query=listing,
                reply=_PAGE,
            ),
            Route(
                "GET",
                f"{WORKSPACE}/onlineDeployments",
                self.list_all,
                "List deployments of all endpoints",
                query=listing,
                reply=_PAGE,
            ),
            Route(
                "GET",
                _ONE,
                self.get,
                "Read a deployment",
                reply=arm_answers.DEPLOYMENT,
                tagged=True,
            ),
            Route(
                "PUT",
                _ONE,
                self.put,
                "Create or replace a deployment",
                body=arm_schema.DEPLOYMENT,
                reply=arm_answers.DEPLOYMENT,
                tagged=True,
                answers=stored,
                conditional=True,
            ),
            Route(
                "PATCH",
                _ONE,
                self.patch,
                "Change tags or instance count of a deployment",
                body=arm_schema.only(arm_schema.DEPLOYMENT, _PATCHABLE),
                reply=arm_answers.DEPLOYMENT,
                tagged=True,
                conditional=True,
            ),
            Route(
                "DELETE",
                _ONE,
                self.delete,
                "Delete a deployment without live traffic",
                answers={202: "being deleted", 204: "there was none"},
                conditional=True,
            ),
            Route(
                "POST",
                f"{_ONE}/stop",
                self.stop,
                "Take the instances of a deployment away until it is started",
                answers={202: "being stopped"},
            ),
            Route(
                "POST",
                f"{_ONE}/start",
                self.start,
                "Bring a stopped deployment back",
                answers={202: "being started"},
            ),
            Route(
                "POST",
                f"{_ONE}/getLogs",
                self.get_logs,
                "Read log lines",
                query=("cursor", "wait"),
                body=arm_schema.describe(_LOG_REQUEST, LogRequest),
                body_optional=True,
                reply=arm_answers.LOGS,
                action=Action.READ,
            ),
            Route(
                "GET", f"{_ONE}/skus", self.skus, "Tell the possible instance counts", reply=_SKUS
            ),
            Route(
                "GET",
                f"{_ONE}/instances",
                self.instances,
                "List running instances",
                reply=_INSTANCES,
            ),
        )
