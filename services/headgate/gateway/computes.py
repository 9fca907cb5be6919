"""Routes of computes, named pools of instances for batch jobs, and of the nodes that run."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from headgate.azure import arm_nodes, arm_schema, arm_storage
from headgate.azure import arm_storage_answers as answers
from headgate.azure.arm_answers import list_of
from headgate.azure.arm_resources import page
from headgate.gateway import core
from headgate.gateway.access import Action
from headgate.gateway.backend import (
    Backend,
    deletion_revision,
    require_existing,
    resource_answer,
)
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.patches import patch_stored, patched
from headgate.gateway.routes import WORKSPACE, Route
from headgate.gateway.things import REMOVALS, answer_list, is_chosen, is_filtered, removal_answer
from headgate_contracts.nodes import ListNodes, Node, NodesReply
from headgate_contracts.storage import (
    Compute,
    ComputeReply,
    ComputesReply,
    DeleteCompute,
    GetCompute,
    ListComputes,
    PutCompute,
    RemovedReply,
)

_LIST = f"{WORKSPACE}/computes"
_ONE = f"{_LIST}/{{name}}"
_PATCHABLE = ("tags", "properties")


class Computes:
    """Handlers of computes and their nodes. What is changed takes effect at once."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def _read(self, call: Call) -> Compute:
        query = GetCompute(workspace=call.workspace, name=call.params["name"])
        return (await self._backend.ask(query, ComputeReply)).compute

    async def list_all(self, call: Call) -> web.StreamResponse:
        async def part(after: str, limit: int) -> tuple[Sequence[Compute], str]:
            query = ListComputes(workspace=call.workspace, after=after, limit=limit)
            reply = await self._backend.ask(query, ComputesReply)
            return reply.computes, reply.after

        def is_wanted(item: Compute) -> bool:
            return is_chosen(call, item.spec.name, item.spec.tags, {})

        return await answer_list(
            call,
            part,
            lambda item: arm_storage.compute_resource(item, call.context),
            is_wanted if is_filtered(call) else None,
            is_kept_so=not core.has_order(call.query),
        )

    async def get(self, call: Call) -> web.StreamResponse:
        found = await self._read(call)
        return resource_answer(
            call, arm_storage.compute_resource(found, call.context), found.revision
        )

    async def put(self, call: Call) -> web.StreamResponse:
        condition = call.condition
        command = PutCompute(
            workspace=call.workspace,
            spec=arm_storage.compute_spec(call.params["name"], await call.json()),
            create_only=condition.create_only,
            if_revision=condition.if_revision,
        )
        if condition.must_exist and condition.if_revision is None:
            await require_existing(self._read, call)
        return await self._store(call, command)

    async def patch(self, call: Call) -> web.StreamResponse:
        patch = await call.json()

        async def store(compute: Compute, revision: int) -> web.StreamResponse:
            body = patched(arm_storage.compute_body(compute.spec), patch, _PATCHABLE)
            spec = arm_storage.compute_spec(compute.spec.name, body)
            command = PutCompute(workspace=call.workspace, spec=spec, if_revision=revision)
            return await self._store(call, command)

        return await patch_stored(call, self._read, store)

    async def _store(self, call: Call, command: PutCompute) -> web.StreamResponse:
        reply = await self._backend.ask(command, ComputeReply, arm_storage.COMPUTE)
        body = arm_storage.compute_resource(reply.compute, call.context)
        return resource_answer(call, body, reply.compute.revision, created=reply.created)

    async def delete(self, call: Call) -> web.StreamResponse:
        revision = await deletion_revision(self._read, call)
        command = DeleteCompute(
            workspace=call.workspace, name=call.params["name"], if_revision=revision
        )
        return removal_answer((await self._backend.ask(command, RemovedReply)).existed)

    async def list_nodes(self, call: Call) -> web.StreamResponse:
        """The nodes of one compute, in Azure's words."""
        name = (await self._read(call)).spec.name
        nodes = [node for node in await self._nodes(call) if node.compute == name]
        return answer(arm_nodes.compute_nodes(nodes))

    async def list_all_nodes(self, call: Call) -> web.StreamResponse:
        """Every node of the workspace, also those of no compute."""
        nodes = await self._nodes(call)
        return answer(page([arm_nodes.node_resource(node) for node in nodes]))

    async def _nodes(self, call: Call) -> list[Node]:
        found = (await self._backend.ask(ListNodes(), NodesReply)).nodes
        return [node for node in found if node.workspace == call.workspace]

    def routes(self) -> tuple[Route[Handle], ...]:
        paging = ("$skip", "$top", "count", "$orderBy", "tags", "names")
        return (
            Route(
                "GET",
                _LIST,
                self.list_all,
                "List computes",
                query=paging,
                reply=list_of(answers.COMPUTE),
            ),
            Route(
                "GET",
                _ONE,
                self.get,
                "Read a compute",
                reply=answers.COMPUTE,
                tagged=True,
            ),
            Route(
                "PUT",
                _ONE,
                self.put,
                "Create or replace a compute",
                body=arm_schema.COMPUTE,
                reply=answers.COMPUTE,
                tagged=True,
                conditional=True,
                answers={200: "updated", 201: "created"},
            ),
            Route(
                "PATCH",
                _ONE,
                self.patch,
                "Change tags or scale of a compute",
                body=arm_schema.only(arm_schema.COMPUTE, _PATCHABLE),
                reply=answers.COMPUTE,
                tagged=True,
                conditional=True,
            ),
            Route(
                "DELETE",
                _ONE,
                self.delete,
                "Delete a compute",
                conditional=True,
                query=("underlyingResourceAction",),
                answers=REMOVALS,
            ),
            Route(
                "POST",
                f"{_ONE}/listNodes",
                self.list_nodes,
                "List instances of a compute",
                reply=arm_nodes.OF_COMPUTE,
                action=Action.READ,
            ),
            Route(
                "GET",
                f"{WORKSPACE}/nodes",
                self.list_all_nodes,
                "List nodes of batch jobs, with their jobs and computes",
                reply=list_of(arm_nodes.NODE),
            ),
        )
