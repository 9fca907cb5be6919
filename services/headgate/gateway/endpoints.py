"""Routes of online endpoints: the resource, its keys, its instances and its traffic."""

from __future__ import annotations

from aiohttp import web

from headgate.azure import arm, arm_answers, arm_schema
from headgate.azure.arm_fields import Json
from headgate.azure.arm_resources import endpoint_resource, page
from headgate.gateway import access, core, traffic_core
from headgate.gateway.access import Action
from headgate.gateway.backend import (
    Backend,
    deletion_answer,
    deletion_revision,
    list_answer,
    operation_url,
    require_existing,
    resource_answer,
)
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.patches import patch_stored, patched
from headgate.gateway.repeats import Repeats
from headgate.gateway.routes import WORKSPACE, Route
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.identity import (
    DATA_AUDIENCE,
    IssuedTokenReply,
    IssueToken,
    endpoint_audience,
)
from headgate_contracts.registry import (
    DeleteEndpoint,
    EndpointReply,
    KeysReply,
    ListKeys,
    OperationReply,
    PutEndpoint,
    RegenerateKey,
)
from headgate_contracts.resources import AuthMode, Endpoint

_LIST = f"{WORKSPACE}/onlineEndpoints"
_ONE = f"{_LIST}/{{endpoint}}"
_PAGE = arm_answers.list_of(arm_answers.ENDPOINT)
_INSTANCES = arm_answers.list_of(arm_answers.INSTANCE)
_PATCHABLE = ("tags", "identity")
_ELSEWHERE = {
    AuthMode.KEY: "read its keys with listKeys",
    AuthMode.AML_TOKEN: "get a token with POST .../token",
    AuthMode.AAD_TOKEN: f"score with a token of your own for {DATA_AUDIENCE}",
}


class Endpoints:
    """Handlers of endpoints."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def list_all(self, call: Call) -> web.StreamResponse:
        found = [
            endpoint
            for endpoint in await self._backend.endpoints(call.workspace)
            if self._is_wanted(endpoint, call)
        ]
        return list_answer(call, found, lambda item: self._resource(item, call))

    @staticmethod
    def _is_wanted(endpoint: Endpoint, call: Call) -> bool:
        query, spec = call.query, endpoint.spec
        return (
            query.get("name", spec.name) == spec.name
            and query.get("computeType", "Managed").lower() == "managed"
            and core.has_labels(spec.tags, query.get("tags", ""))
            and core.has_labels(spec.properties, query.get("properties", ""))
        )

    def _resource(self, endpoint: Endpoint, call: Call, *, operation_url: str = "") -> Json:
        """The resource, with who its system-assigned identity is."""
        body = endpoint_resource(endpoint, call.context, operation_url=operation_url)
        principal_id = self._backend.principal_id(endpoint)
        if principal_id and body["identity"]["type"].startswith("SystemAssigned"):
            tenant_id = self._backend.tenant_id
            body["identity"] |= {"principalId": principal_id, "tenantId": tenant_id}
        return body

    async def get(self, call: Call) -> web.StreamResponse:
        endpoint = await self._backend.endpoint(call)
        return resource_answer(call, self._resource(endpoint, call), endpoint.revision)

    async def put(self, call: Call) -> web.StreamResponse:
        body = await call.json()
        condition = call.condition
        command = PutEndpoint(
            workspace=call.workspace,
            spec=arm.endpoint_spec(call.params["endpoint"], body),
            keys=arm.endpoint_keys(body),
            create_only=condition.create_only,
            if_revision=condition.if_revision,
        )
        if condition.must_exist and condition.if_revision is None:
            await require_existing(self._backend.endpoint, call)
        return await self._store(call, command)

    async def patch(self, call: Call) -> web.StreamResponse:
        patch = await call.json()

        async def store(endpoint: Endpoint, revision: int) -> web.StreamResponse:
            spec = endpoint.spec
            body = patched(arm.endpoint_body(spec), patch, _PATCHABLE)
            spec = arm.endpoint_spec(spec.name, body)
            command = PutEndpoint(workspace=call.workspace, spec=spec, if_revision=revision)
            return await self._store(call, command)

        return await patch_stored(call, self._backend.endpoint, store)

    async def _store(self, call: Call, command: PutEndpoint) -> web.StreamResponse:
        reply = await self._backend.ask(command, EndpointReply, arm.ENDPOINT)
        url = operation_url(call, reply.operation)
        return resource_answer(
            call,
            self._resource(reply.endpoint, call, operation_url=url),
            reply.endpoint.revision,
            created=reply.created,
            operation=reply.operation,
        )

    async def delete(self, call: Call) -> web.StreamResponse:
        command = DeleteEndpoint(
            workspace=call.workspace,
            name=call.params["endpoint"],
            if_revision=await deletion_revision(self._backend.endpoint, call),
        )
        reply = await self._backend.ask(command, OperationReply)
        return deletion_answer(call, reply.operation)

    async def list_keys(self, call: Call) -> web.StreamResponse:
        spec = (await self._backend.endpoint(call)).spec
        if spec.auth_mode is not AuthMode.KEY:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"the endpoint {spec.name!r} has no keys, for its auth_mode is "
                f"{spec.auth_mode.value}; {_ELSEWHERE[spec.auth_mode]}",
                target="auth_mode",
            )
        query = ListKeys(workspace=call.workspace, endpoint=spec.name)
        reply = await self._backend.ask(query, KeysReply)
        return answer(arm.keys_body(reply.keys))

    async def token(self, call: Call) -> web.StreamResponse:
        """A token for this endpoint alone; it ends with the one it was asked for with."""
        spec = (await self._backend.endpoint(call)).spec
        if spec.auth_mode is not AuthMode.AML_TOKEN:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"the endpoint {spec.name!r} hands out no tokens, for its auth_mode is "
                f"{spec.auth_mode.value}; {_ELSEWHERE[spec.auth_mode]}",
                target="auth_mode",
            )
        now = self._backend.clock.now()
        command = IssueToken(
            subject=call.principal.subject,
            audiences=(endpoint_audience(spec.name),),
            via=access.root_token(call.principal),
            lifetime_s=access.lifetime_s(
                call.principal, limits.SHORT_TOKEN_LIFETIME_S_DEFAULT, now
            ),
        )
        reply = await self._backend.ask(command, IssuedTokenReply)
        return answer(
            {
                "accessToken": reply.token,
                "tokenType": "Bearer",
                "expiryTimeUtc": int(reply.expires_at),
                "refreshAfterTimeUtc": int(reply.refresh_after),
            }
        )

    async def regenerate_keys(self, call: Call) -> web.StreamResponse:
        """Answers no key: the right to read keys is one of its own (``listKeys``)."""
        key_type, value = arm.key_choice(await call.json(optional=True))
        command = RegenerateKey(
            workspace=call.workspace,
            endpoint=call.params["endpoint"],
            key_type=key_type,
            value=value,
        )
        await self._backend.ask(command, KeysReply)
        return answer({})

    async def instances(self, call: Call) -> web.StreamResponse:
        endpoint = await self._backend.endpoint(call)
        return answer(page(await self._backend.instances(endpoint.spec.name)))

    async def traffic(self, call: Call) -> web.StreamResponse:
        spec = (await self._backend.endpoint(call)).spec
        replies = await self._backend.traffic(spec.name)
        return answer(
            traffic_core.describe_traffic(spec.name, spec.traffic, spec.mirror_traffic, replies)
        )

    def routes(self) -> tuple[Route[Handle], ...]:
        stored = {200: "updated", 201: "created"}
        listing = ("name", "count", "computeType", "$skip", "tags", "properties", "orderBy")
        return (
            Route("GET", _LIST, self.list_all, "List endpoints", query=listing, reply=_PAGE),
            Route(
                "GET", _ONE, self.get, "Read an endpoint", reply=arm_answers.ENDPOINT, tagged=True
            ),
            Route(
                "PUT",
                _ONE,
                self.put,
                "Create or replace an endpoint",
                body=arm_schema.ENDPOINT,
                reply=arm_answers.ENDPOINT,
                tagged=True,
                answers=stored,
                conditional=True,
            ),
            Route(
                "PATCH",
                _ONE,
                self.patch,
                "Change tags or identity of an endpoint",
                body=arm_schema.only(arm_schema.ENDPOINT, _PATCHABLE),
                reply=arm_answers.ENDPOINT,
                tagged=True,
                conditional=True,
            ),
            Route(
                "DELETE",
                _ONE,
                self.delete,
                "Delete an endpoint and its deployments",
                answers={202: "being deleted", 204: "there was none"},
                conditional=True,
            ),
            Route(
                "POST",
                f"{_ONE}/listKeys",
                self.list_keys,
                "Read both keys",
                reply=arm_answers.KEYS,
                action=Action.LIST_KEYS,
            ),
            Route(
                "POST",
                f"{_ONE}/token",
                self.token,
                "Get a short-lived scoring token",
                reply=arm_answers.SCORING_TOKEN,
                action=Action.SCORE,
            ),
            Route(
                "POST",
                f"{_ONE}/regenerateKeys",
                self.regenerate_keys,
                "Make a new key",
                body=arm_schema.KEY_CHOICE,
                body_optional=True,
                reply=arm_answers.NOTHING,
                action=Action.REPLACE_KEYS,
                repeats=Repeats.ACCEPTED,
            ),
            Route(
                "GET",
                f"{_ONE}/instances",
                self.instances,
                "List running instances",
                reply=_INSTANCES,
            ),
            Route(
                "GET",
                f"{_ONE}/traffic",
                self.traffic,
                "Compare declared and observed traffic",
                reply=arm_answers.TRAFFIC,
            ),
        )
