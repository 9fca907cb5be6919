"""Routes of managed identities, in Azure's form: who a model is when it asks for something.

Azure keeps identities in resource groups. Here they belong to a workspace, which the query names
(``?workspace=``), or the tag ``workspace`` of a new one; otherwise it is the usual one.
"""

from __future__ import annotations

from aiohttp import web

from headgate.azure import arm_answers, arm_schema
from headgate.azure.arm_answers import TEXT, TEXTS, TIME, plain
from headgate.azure.arm_fields import Field, Json, Problems, Shape, checked
from headgate.azure.arm_ids import LOCATION
from headgate.azure.arm_resources import page, timestamp
from headgate.gateway import access
from headgate.gateway.access import Action
from headgate.gateway.backend import Backend
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.routes import Route
from headgate.gateway.things import REMOVALS
from headgate.gateway.tokens import GRANTS
from headgate_contracts.envelope import Done
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.identity import (
    DeleteIdentity,
    GetIdentity,
    IdentitiesReply,
    IdentityReply,
    ListIdentities,
    ManagedIdentity,
    PutIdentity,
)

IDENTITY_TYPE = "Microsoft.ManagedIdentity/userAssignedIdentities"
_LIST = (
    f"/subscriptions/{{subscription}}/resourceGroups/{{resourceGroup}}/providers/{IDENTITY_TYPE}"
)
_ONE = f"{_LIST}/{{identity}}"
_TAG = "workspace"

_IDENTITY = Shape(
    Field("tags", "tags"),
    Field(
        "properties",
        "",
        Shape(
            Field("grants", "grants", GRANTS),
            ignored=("tenantId", "principalId", "clientId", "workspace", "isolationScope"),
        ),
    ),
    ignored=("id", "name", "type", "location", "systemData"),
)

_SHOWN = plain(
    "ManagedIdentity",
    id=TEXT,
    name=TEXT,
    type=TEXT,
    location=TEXT,
    tags=TEXTS,
    properties=plain(
        tenantId=TEXT,
        principalId=TEXT,
        clientId=TEXT,
        workspace=TEXT,
        grants=arm_answers.WORDS,
    ),
    systemData=plain(createdAt=TIME, lastModifiedAt=TIME),
)


class Identities:
    """Handlers of named identities."""

    def __init__(self, backend: Backend, workspace: str) -> None:
        self._backend = backend
        self._workspace = workspace

    def _place(self, call: Call, action: Action, tags: object = None) -> str:
        """The workspace that is meant, where the caller may do this."""
        tag = tags.get(_TAG) if isinstance(tags, dict) else None
        workspace = (call.query.get("workspace") or tag or self._workspace).lower()
        call.require(action, workspace)
        return workspace

    def _resource(self, call: Call, identity: ManagedIdentity) -> Json:
        return _resource(call, identity, self._backend.tenant_id)

    async def list_all(self, call: Call) -> web.StreamResponse:
        query = ListIdentities(workspace=self._place(call, Action.READ))
        reply = await self._backend.ask(query, IdentitiesReply)
        named = (identity for identity in reply.identities if identity.kind == "user")
        return answer(page([self._resource(call, identity) for identity in named]))

    async def get(self, call: Call) -> web.StreamResponse:
        workspace = self._place(call, Action.READ)
        query = GetIdentity(workspace=workspace, name=call.params["identity"])
        return answer(
            self._resource(call, (await self._backend.ask(query, IdentityReply)).identity)
        )

    async def put(self, call: Call) -> web.StreamResponse:
        """Whoever may give the roles may make an identity that has them."""
        problems = Problems()
        values = _IDENTITY.load(await call.json(), problems)
        workspace = self._place(call, Action.GIVE_ACCESS, values.get("tags"))
        about = {"workspace": workspace, "name": call.params["identity"]}
        command = checked(PutIdentity, values | about, _IDENTITY, problems)
        access.require_may_give(call.principal, command.grants)
        reply = await self._backend.ask(command, IdentityReply, _IDENTITY)
        return answer(self._resource(call, reply.identity), 201 if reply.created else 200)

    async def delete(self, call: Call) -> web.StreamResponse:
        workspace = self._place(call, Action.GIVE_ACCESS)
        command = DeleteIdentity(workspace=workspace, name=call.params["identity"])
        try:
            await self._backend.ask(command, Done)
        except HeadgateError as error:
            if error.error.code is not ErrorCode.RESOURCE_NOT_FOUND:
                raise
            return web.Response(status=204)
        return web.Response(status=200)

    def routes(self) -> tuple[Route[Handle], ...]:
        query = ("workspace",)
        return (
            Route(
                "GET",
                _LIST,
                self.list_all,
                "List named identities",
                query=query,
                reply=arm_answers.list_of(_SHOWN),
                action=Action.ANY,
            ),
            Route(
                "GET",
                _ONE,
                self.get,
                "Read an identity",
                query=query,
                reply=_SHOWN,
                action=Action.ANY,
            ),
            Route(
                "PUT",
                _ONE,
                self.put,
                "Create a named identity, or change its roles",
                query=query,
                body=arm_schema.describe(_IDENTITY, PutIdentity),
                reply=_SHOWN,
                answers={200: "updated", 201: "created"},
                action=Action.ANY,
            ),
            Route(
                "DELETE",
                _ONE,
                self.delete,
                "Delete a named identity",
                query=query,
                answers=REMOVALS,
                action=Action.ANY,
            ),
        )


def _resource(call: Call, identity: ManagedIdentity, tenant_id: str) -> Json:
    prefix = (
        f"/subscriptions/{call.params['subscription']}"
        f"/resourceGroups/{call.params['resourceGroup']}/providers/{IDENTITY_TYPE}"
    )
    return {
        "id": f"{prefix}/{identity.name}",
        "name": identity.name,
        "type": IDENTITY_TYPE,
        "location": LOCATION,
        "tags": identity.tags,
        "properties": {
            "tenantId": tenant_id,
            "principalId": identity.principal_id,
            "clientId": identity.client_id,
            "workspace": identity.workspace,
            "grants": [str(grant) for grant in identity.grants],
        },
        "systemData": {
            "createdAt": timestamp(identity.created_at),
            "lastModifiedAt": timestamp(identity.updated_at),
        },
    }
