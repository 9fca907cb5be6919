"""Routes of batch deployments."""

from __future__ import annotations

from aiohttp import web

from headgate.azure import arm_answers, arm_batch, arm_schema
from headgate.gateway.backend import (
    Backend,
    deletion_answer,
    deletion_revision,
    list_answer,
    operation_url,
    require_existing,
    resource_answer,
)
from headgate.gateway.http import Call, Handle
from headgate.gateway.patches import patch_stored, patched
from headgate.gateway.routes import WORKSPACE, Route
from headgate_contracts.batch import (
    BatchDeployment,
    BatchDeploymentReply,
    BatchDeploymentsReply,
    DeleteBatchDeployment,
    GetBatchDeployment,
    ListBatchDeployments,
    PutBatchDeployment,
)
from headgate_contracts.registry import OperationReply

_LIST = f"{WORKSPACE}/batchEndpoints/{{endpoint}}/deployments"
_ONE = f"{_LIST}/{{deployment}}"
_SHOWN = arm_answers.BATCH_DEPLOYMENT
_PAGE = arm_answers.list_of(_SHOWN)
_PATCHABLE = ("tags", "properties")


async def batch_deployment(backend: Backend, call: Call) -> BatchDeployment:
    """The batch deployment named in the path, if it is of this workspace."""
    query = GetBatchDeployment(
        workspace=call.workspace,
        endpoint=call.params["endpoint"],
        name=call.params["deployment"],
    )
    return (await backend.ask(query, BatchDeploymentReply)).deployment


class BatchDeployments:
    """Handlers of batch deployments."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def _read(self, call: Call) -> BatchDeployment:
        return await batch_deployment(self._backend, call)

    async def list_all(self, call: Call) -> web.StreamResponse:
        query = ListBatchDeployments(workspace=call.workspace, endpoint=call.params["endpoint"])
        reply = await self._backend.ask(query, BatchDeploymentsReply)
        return list_answer(
            call,
            list(reply.deployments),
            lambda item: arm_batch.deployment_resource(item, call.context),
        )

    async def get(self, call: Call) -> web.StreamResponse:
        found = await self._read(call)
        resource = arm_batch.deployment_resource(found, call.context)
        return resource_answer(call, resource, found.revision)

    async def put(self, call: Call) -> web.StreamResponse:
        condition = call.condition
        spec = arm_batch.deployment_spec(
            call.params["endpoint"],
            call.params["deployment"],
            await call.json(),
            workspace=call.workspace,
        )
        if condition.must_exist and condition.if_revision is None:
            await require_existing(self._read, call)
        return await self._store(
            call,
            PutBatchDeployment(
                workspace=call.workspace,
                spec=spec,
                create_only=condition.create_only,
                if_revision=condition.if_revision,
            ),
        )

    async def patch(self, call: Call) -> web.StreamResponse:
        patch = await call.json()

        async def store(found: BatchDeployment, revision: int) -> web.StreamResponse:
            spec = found.spec
            body = patched(arm_batch.deployment_body(spec), patch, _PATCHABLE)
            spec = arm_batch.deployment_spec(
                spec.endpoint_name, spec.name, body, workspace=call.workspace
            )
            command = PutBatchDeployment(workspace=call.workspace, spec=spec, if_revision=revision)
            return await self._store(call, command)

        return await patch_stored(call, self._read, store)

    async def _store(self, call: Call, command: PutBatchDeployment) -> web.StreamResponse:
        reply = await self._backend.ask(command, BatchDeploymentReply, arm_batch.DEPLOYMENT)
        url = operation_url(call, reply.operation)
        return resource_answer(
            call,
            arm_batch.deployment_resource(reply.deployment, call.context, operation_url=url),
            reply.deployment.revision,
            created=reply.created,
            operation=reply.operation,
        )

    async def delete(self, call: Call) -> web.StreamResponse:
        command = DeleteBatchDeployment(
            workspace=call.workspace,
            endpoint=call.params["endpoint"],
            name=call.params["deployment"],
            if_revision=await deletion_revision(self._read, call),
        )
        reply = await self._backend.ask(command, OperationReply)
        return deletion_answer(call, reply.operation)

    def routes(self) -> tuple[Route[Handle], ...]:
        listing = ("$orderBy", "$top", "$skip")
        return (
            Route(
                "GET",
                _LIST,
                self.list_all,
                "List deployments of a batch endpoint",
                listing,
                reply=_PAGE,
            ),
            Route("GET", _ONE, self.get, "Read a batch deployment", reply=_SHOWN, tagged=True),
            Route(
                "PUT",
                _ONE,
                self.put,
                "Create or replace a batch deployment",
                body=arm_schema.BATCH_DEPLOYMENT,
                reply=_SHOWN,
                tagged=True,
                answers={200: "updated", 201: "created"},
                conditional=True,
            ),
            Route(
                "PATCH",
                _ONE,
                self.patch,
                "Change a batch deployment; what is not mentioned stays",
                body=arm_schema.only(arm_schema.BATCH_DEPLOYMENT, _PATCHABLE),
                reply=_SHOWN,
                tagged=True,
                conditional=True,
            ),
            Route(
                "DELETE",
                _ONE,
                self.delete,
                "Delete a batch deployment that is not the default",
                answers={202: "being deleted", 204: "there was none"},
                conditional=True,
            ),
        )
