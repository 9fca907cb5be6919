"""Routes of workspaces: which there are, one of them, and where its services are."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from headgate.azure import arm_storage
from headgate.azure import arm_storage_answers as answers
from headgate.azure.arm_answers import list_of
from headgate.azure.arm_ids import PROVIDER, Context
from headgate.gateway.access import Action
from headgate.gateway.backend import Backend, page_answer, read_page
from headgate.gateway.cursors import Position
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.routes import WORKSPACE, Route
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.identity import ANY_WORKSPACE
from headgate_contracts.storage import ListWorkspaces, WorkspaceContents, WorkspacesReply

_SUBSCRIPTION = "/subscriptions/{subscription}"
_GROUP = f"{_SUBSCRIPTION}/resourceGroups/{{resourceGroup}}"
_DEFAULT_GROUP = "local"


class Workspaces:
    """Handlers of workspaces. Each exists as soon as somebody who may addresses it."""

    def __init__(self, backend: Backend, own: str) -> None:
        self._backend = backend
        self._own = own

    def _resource(self, call: Call, context: Context) -> dict[str, object]:
        return arm_storage.workspace_resource(context, call.origin, self._backend.tenant_id)

    async def list_all(self, call: Call) -> web.StreamResponse:
        """What the caller may see: workspaces that hold something, and those named in a role."""
        names = sorted(
            name for name in await self._names(call) if call.principal.role_in(name) is not None
        )
        page = read_page(call)
        shown, next_skip = names[page.skip :][: page.size], page.skip + page.size
        group = call.params.get("resourceGroup", _DEFAULT_GROUP)
        contexts = [Context(name, call.params["subscription"], group) for name in shown]
        following = Position(skip=next_skip) if next_skip < len(names) else None
        return page_answer(call, [self._resource(call, each) for each in contexts], following)

    async def _names(self, call: Call) -> set[str]:
        names = {grant.workspace for grant in call.principal.grants} - {ANY_WORKSPACE}
        after = ""
        while True:
            query = ListWorkspaces(after=after, limit=limits.PAGE_SIZE_MAX)
            reply = await self._backend.ask(query, WorkspacesReply)
            names |= {each.name for each in reply.workspaces}
            after = reply.after
            if not after:
                return names | {self._own}

    async def get(self, call: Call) -> web.StreamResponse:
        return answer(self._resource(call, call.context))

    async def put(self, call: Call) -> web.StreamResponse:
        """Nothing to make: whoever may address a workspace has it."""
        if not isinstance(await call.json(), dict):
            raise HeadgateError(ErrorCode.BAD_ARGUMENT, "an object is expected")
        return await self.get(call)

    async def delete(self, call: Call) -> web.StreamResponse:
        """An empty workspace is nothing, so there is nothing left to delete."""
        query = ListWorkspaces(name=call.workspace)
        found = (await self._backend.ask(query, WorkspacesReply)).workspaces
        _refuse_holding(found)
        return web.Response(status=204)

    async def discovery(self, call: Call) -> web.StreamResponse:
        return answer(arm_storage.discovery(call.origin))

    async def no_registries(self, call: Call) -> web.StreamResponse:
        raise HeadgateError(
            ErrorCode.RESOURCE_NOT_FOUND,
            "there are no registries here: register models, environments and data in a workspace",
            target="registry",
        )

    def routes(self) -> tuple[Route[Handle], ...]:
        tail = f"/providers/{PROVIDER}/workspaces"
        query = ("$skip", "$top", "count", "kind")
        registries = f"{_GROUP}/providers/{PROVIDER}/registries"
        return (
            Route(
                "GET",
                f"{_GROUP}{tail}",
                self.list_all,
                "List workspaces",
                query=query,
                reply=list_of(answers.WORKSPACE),
                action=Action.ANY,
            ),
            Route(
                "GET",
                f"{_SUBSCRIPTION}{tail}",
                self.list_all,
                "List workspaces, whatever their resource group",
                query=query,
                reply=list_of(answers.WORKSPACE),
                action=Action.ANY,
            ),
            Route("GET", WORKSPACE, self.get, "Read the workspace", reply=answers.WORKSPACE),
            Route(
                "PUT",
                WORKSPACE,
                self.put,
                "Make sure that there is the workspace",
                body={"type": "object"},
                reply=answers.WORKSPACE,
            ),
            Route(
                "DELETE",
                WORKSPACE,
                self.delete,
                "Delete the workspace, which must be empty",
                answers={204: "there is nothing in it"},
            ),
            Route(
                "GET",
                "/discovery",
                self.discovery,
                "Tell where Azure's services are: here",
                reply=answers.DISCOVERY,
                public=True,
            ),
            Route(
                "GET",
                f"{registries}/{{registry}}",
                self.no_registries,
                "Tell that there are no registries",
                action=Action.ANY,
            ),
            Route(
                "GET",
                f"{registries}/{{registry}}/{{rest...}}",
                self.no_registries,
                "Tell that registries hold nothing",
                action=Action.ANY,
            ),
        )


def _refuse_holding(found: Sequence[WorkspaceContents]) -> None:
    for each in found:
        parts = {
            "endpoints": each.endpoints,
            "versions of assets": each.assets,
            "datastores, computes, batch endpoints and batch deployments": each.others,
        }
        held = ", ".join(f"{count} {what}" for what, count in parts.items() if count)
        raise HeadgateError(
            ErrorCode.RESOURCE_CONFLICT,
            f"the workspace {each.name!r} still holds {held}; delete those first",
            target="workspace",
        )
