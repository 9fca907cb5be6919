"""Routes of batch endpoints."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from headgate.azure import arm_answers, arm_batch, arm_schema
from headgate.azure.arm_fields import Json
from headgate.gateway import core
from headgate.gateway.access import Action
from headgate.gateway.backend import (
    Backend,
    all_of,
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
    BatchEndpoint,
    BatchEndpointReply,
    BatchEndpointsReply,
    DeleteBatchEndpoint,
    GetBatchEndpoint,
    ListBatchEndpoints,
    PutBatchEndpoint,
)
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.identity import DATA_AUDIENCE
from headgate_contracts.registry import OperationReply

_LIST = f"{WORKSPACE}/batchEndpoints"
_ONE = f"{_LIST}/{{endpoint}}"
_SHOWN = arm_answers.BATCH_ENDPOINT
_PAGE = arm_answers.list_of(_SHOWN)
_PATCHABLE = ("tags", "properties")


async def batch_endpoint(backend: Backend, call: Call) -> BatchEndpoint:
    """The batch endpoint named in the path, if it is of this workspace."""
    query = GetBatchEndpoint(workspace=call.workspace, name=call.params["endpoint"])
    return (await backend.ask(query, BatchEndpointReply)).endpoint


class BatchEndpoints:
    """Handlers of batch endpoints."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def _read(self, call: Call) -> BatchEndpoint:
        return await batch_endpoint(self._backend, call)

    @staticmethod
    def _resource(endpoint: BatchEndpoint, call: Call, operation_url: str = "") -> Json:
        jobs_url = call.url(arm_batch.jobs_path(call.context, endpoint.spec.name))
        return arm_batch.endpoint_resource(
            endpoint, call.context, jobs_url, operation_url=operation_url
        )

    async def list_all(self, call: Call) -> web.StreamResponse:
        async def part(after: str, limit: int) -> tuple[Sequence[BatchEndpoint], str]:
            query = ListBatchEndpoints(workspace=call.workspace, after=after, limit=limit)
            reply = await self._backend.ask(query, BatchEndpointsReply)
            return reply.endpoints, reply.after

        found = [item for item in await all_of(part) if self._is_wanted(item, call)]
        return list_answer(call, found, lambda item: self._resource(item, call))

    @staticmethod
    def _is_wanted(endpoint: BatchEndpoint, call: Call) -> bool:
        query, spec = call.query, endpoint.spec
        return (
            query.get("name", spec.name) == spec.name
            and core.has_labels(spec.tags, query.get("tags", ""))
            and core.has_labels(spec.properties, query.get("properties", ""))
        )

    async def get(self, call: Call) -> web.StreamResponse:
        endpoint = await self._read(call)
        return resource_answer(call, self._resource(endpoint, call), endpoint.revision)

    async def put(self, call: Call) -> web.StreamResponse:
        condition = call.condition
        command = PutBatchEndpoint(
            workspace=call.workspace,
            spec=arm_batch.endpoint_spec(call.params["endpoint"], await call.json()),
            create_only=condition.create_only,
            if_revision=condition.if_revision,
        )
        if condition.must_exist and condition.if_revision is None:
            await require_existing(self._read, call)
        return await self._store(call, command)

    async def patch(self, call: Call) -> web.StreamResponse:
        patch = await call.json()

        async def store(endpoint: BatchEndpoint, revision: int) -> web.StreamResponse:
            spec = endpoint.spec
            body = patched(arm_batch.endpoint_body(spec), patch, _PATCHABLE)
            spec = arm_batch.endpoint_spec(spec.name, body)
            command = PutBatchEndpoint(workspace=call.workspace, spec=spec, if_revision=revision)
            return await self._store(call, command)

        return await patch_stored(call, self._read, store)

    async def _store(self, call: Call, command: PutBatchEndpoint) -> web.StreamResponse:
        reply = await self._backend.ask(command, BatchEndpointReply, arm_batch.ENDPOINT)
        return resource_answer(
            call,
            self._resource(reply.endpoint, call, operation_url(call, reply.operation)),
            reply.endpoint.revision,
            created=reply.created,
            operation=reply.operation,
        )

    async def delete(self, call: Call) -> web.StreamResponse:
        command = DeleteBatchEndpoint(
            workspace=call.workspace,
            name=call.params["endpoint"],
            if_revision=await deletion_revision(self._read, call),
        )
        reply = await self._backend.ask(command, OperationReply)
        return deletion_answer(call, reply.operation)

    async def list_keys(self, call: Call) -> web.StreamResponse:
        """There are none: Azure has the route, and batch endpoints have no keys there either."""
        spec = (await self._read(call)).spec
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"the batch endpoint {spec.name!r} has no keys, for its auth_mode is "
            f"{spec.auth_mode}; invoke it with a token of your own for {DATA_AUDIENCE}",
            target="auth_mode",
        )

    def routes(self) -> tuple[Route[Handle], ...]:
        listing = ("name", "count", "$skip", "tags", "properties", "orderBy")
        return (
            Route("GET", _LIST, self.list_all, "List batch endpoints", query=listing, reply=_PAGE),
            Route("GET", _ONE, self.get, "Read a batch endpoint", reply=_SHOWN, tagged=True),
            Route(
                "PUT",
                _ONE,
                self.put,
                "Create or replace a batch endpoint",
                body=arm_schema.BATCH_ENDPOINT,
                reply=_SHOWN,
                tagged=True,
                answers={200: "updated", 201: "created"},
                conditional=True,
            ),
            Route(
                "PATCH",
                _ONE,
                self.patch,
                "Change a batch endpoint; what is not mentioned stays",
                body=arm_schema.only(arm_schema.BATCH_ENDPOINT, _PATCHABLE),
                reply=_SHOWN,
                tagged=True,
                conditional=True,
            ),
            Route(
                "DELETE",
                _ONE,
                self.delete,
                "Delete a batch endpoint and its deployments",
                answers={202: "being deleted", 204: "there was none"},
                conditional=True,
            ),
            Route(
                "POST",
                f"{_ONE}/listkeys",
                self.list_keys,
                "Refused: batch endpoints have no keys",
                answers={},
                action=Action.LIST_KEYS,
            ),
        )
