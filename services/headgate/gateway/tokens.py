"""Routes of credentials: who am I, short-lived tokens for the caller, long-lived ones to give."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from headgate.azure import arm_answers, arm_schema
from headgate.azure.arm_answers import COUNT, TEXT, TIME, or_null, plain
from headgate.azure.arm_fields import SECONDS, Field, Form, Json, Problems, Shape, checked
from headgate.azure.arm_resources import page, timestamp
from headgate.gateway import access
from headgate.gateway.access import Action
from headgate.gateway.authentication import identity_header
from headgate.gateway.backend import Backend
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.repeats import Repeats
from headgate.gateway.routes import Route
from headgate_contracts import limits
from headgate_contracts.envelope import Done
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.identity import (
    ANY_WORKSPACE,
    CONTROL_AUDIENCE,
    AccessToken,
    CreateToken,
    IssuedTokenReply,
    IssueToken,
    ListTokens,
    RevokeToken,
    RotateSigningKey,
    TokenReply,
    TokensReply,
)

_TOKENS = "/access/tokens"
_EXCHANGE = "/oauth2/token"


def _load_grants(value: object) -> list[Json]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError("a list of <workspace>/<role> is expected")
    return [grant.model_dump(mode="json") for grant in access.read_grants(value)]


GRANTS = Form(
    lambda grants: [str(grant) for grant in grants],
    _load_grants,
    {"type": "array", "maxItems": limits.GRANTS_MAX, "items": {"type": "string"}},
)
_NEW_TOKEN = Shape(
    Field("name", "name"),
    Field("grants", "grants", GRANTS),
    Field("lifetime", "lifetime_s", SECONDS),
)
_ROTATION = Shape(Field("dropOld", "drop_old"))
_EXCHANGE_SCHEMA: Json = {
    "type": "object",
    "properties": {
        "resource": {"type": "string", "default": CONTROL_AUDIENCE},
        "scope": {"type": "string", "description": "the same, followed by /.default"},
        "lifetime_s": {
            "type": "number",
            "minimum": limits.SHORT_TOKEN_LIFETIME_S_MIN,
            "maximum": limits.SHORT_TOKEN_LIFETIME_S_MAX,
        },
        "grant_type": {"type": "string", "const": "client_credentials"},
    },
}


_WHO = plain(
    "Caller",
    subject=TEXT,
    name=TEXT,
    grants=arm_answers.WORDS,
    tokenId=TEXT,
    via=TEXT,
    expiresAt=or_null(TIME),
)
_EXCHANGED = plain(
    "ShortToken",
    access_token=TEXT,
    token_type={"const": "Bearer"},
    expires_in=COUNT,
    refresh_in=COUNT,
    expires_on=COUNT,
    resource=TEXT,
)
_TOKEN_FIELDS: Json = {
    "id": TEXT,
    "name": TEXT,
    "subject": TEXT,
    "grants": arm_answers.WORDS,
    "createdAt": TIME,
    "createdBy": TEXT,
    "expiresAt": TIME,
}
_TOKEN = plain("AccessToken", optional=("revokedAt",), **_TOKEN_FIELDS, revokedAt=TIME)
_NEW = plain("NewAccessToken", **_TOKEN_FIELDS, token=TEXT)


class Tokens:
    """Handlers of credentials."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def whoami(self, call: Call) -> web.StreamResponse:
        who = call.principal
        return answer(
            {
                "subject": who.subject,
                "name": who.name,
                "grants": [str(grant) for grant in who.grants],
                "tokenId": who.token_id,
                "via": who.via,
                "expiresAt": timestamp(who.expires_at) if who.expires_at else None,
            }
        )

    async def exchange(self, call: Call) -> web.StreamResponse:
        """A short-lived token with what the caller has, for one audience."""
        given = (
            call.query
            if call.request.method == "GET"
            else await call.fields(numbers=("lifetime_s",))
        )
        if given.get("grant_type", "client_credentials") != "client_credentials":
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                "grant_type is client_credentials: the credential is the header of the request",
                target="grant_type",
            )
        wanted = given.get("resource") or given.get("scope") or CONTROL_AUDIENCE
        audience, now = access.read_audience(wanted, call.origin), self._backend.clock.now()
        command = IssueToken(
            subject=call.principal.subject,
            audiences=(audience,),
            grants=call.principal.grants,
            via=access.root_token(call.principal),
            lifetime_s=access.lifetime_s(call.principal, _read_lifetime_s(given), now),
        )
        reply = await self._backend.ask(command, IssuedTokenReply)
        return answer(
            {
                "access_token": reply.token,
                "token_type": "Bearer",
                "expires_in": max(0, int(reply.expires_at - now)),
                "refresh_in": max(0, int(reply.refresh_after - now)),
                "expires_on": int(reply.expires_at),
                "resource": audience,
            }
        )

    async def create(self, call: Call) -> web.StreamResponse:
        """The only answer that ever holds the token itself."""
        problems = Problems()
        values = _NEW_TOKEN.load(await call.json(), problems)
        command = checked(CreateToken, values, _NEW_TOKEN, problems)
        access.require_may_give(call.principal, command.grants)
        reply = await self._backend.ask(command, TokenReply, _NEW_TOKEN)
        return answer({**token_resource(reply.token), "token": reply.secret}, 201)

    async def list_all(self, call: Call) -> web.StreamResponse:
        query = ListTokens(workspaces=access.owned_workspaces(call.principal))
        reply = await self._backend.ask(query, TokensReply)
        return answer(page([token_resource(token) for token in reply.tokens]))

    async def revoke(self, call: Call) -> web.StreamResponse:
        """An owner takes back what they could have given, and everybody their own."""
        token_id, who = call.params["token"], call.principal
        workspaces = access.owned_workspaces(who)
        if who.token_id == token_id:
            workspaces = (ANY_WORKSPACE,)
        elif not workspaces:
            raise access.nothing_here()
        command = RevokeToken(token_id=token_id, workspaces=workspaces)
        await self._backend.ask(command, TokenReply)
        return web.Response(status=204)

    async def rotate(self, call: Call) -> web.StreamResponse:
        """Sign with a new key; maybe end what older ones have signed."""
        problems = Problems()
        values = _ROTATION.load(await call.json(optional=True), problems)
        await self._backend.ask(checked(RotateSigningKey, values, _ROTATION, problems), Done)
        return web.Response(status=204)

    def routes(self) -> tuple[Route[Handle], ...]:
        body = arm_schema.describe(_NEW_TOKEN, CreateToken)
        return (
            Route(
                "GET", "/whoami", self.whoami, "Tell who is calling", reply=_WHO, action=Action.ANY
            ),
            Route(
                "POST",
                _EXCHANGE,
                self.exchange,
                "Exchange the caller's credential for a short-lived token",
                body=_EXCHANGE_SCHEMA,
                body_optional=True,
                reply=_EXCHANGED,
                guard=identity_header,
            ),
            Route(
                "GET",
                _EXCHANGE,
                self.exchange,
                "The same, as Azure's managed-identity clients ask for it",
                query=("resource", "lifetime_s"),
                reply=_EXCHANGED,
                guard=identity_header,
            ),
            Route(
                "GET",
                _TOKENS,
                self.list_all,
                "List access tokens",
                reply=arm_answers.list_of(_TOKEN),
                action=Action.GIVE_ACCESS,
            ),
            Route(
                "POST",
                _TOKENS,
                self.create,
                "Make an access token; it is shown only now",
                body=body,
                reply=_NEW,
                answers={201: "made"},
                action=Action.GIVE_ACCESS,
                repeats=Repeats.REQUIRED,
            ),
            Route(
                "DELETE",
                f"{_TOKENS}/{{token}}",
                self.revoke,
                "Revoke an access token, and all that were derived from it",
                answers={204: "revoked"},
                action=Action.ANY,
            ),
            Route(
                "POST",
                "/access/rotateSigningKey",
                self.rotate,
                "Sign tokens with a new key from now on",
                body=arm_schema.describe(_ROTATION, RotateSigningKey),
                body_optional=True,
                answers={204: "rotated"},
                action=Action.ADMINISTER,
            ),
        )


def token_resource(token: AccessToken) -> Json:
    """What is known of an access token."""
    body: Json = {
        "id": token.id,
        "name": token.name,
        "subject": token.subject,
        "grants": [str(grant) for grant in token.grants],
        "createdAt": timestamp(token.created_at),
        "createdBy": token.created_by,
        "expiresAt": timestamp(token.expires_at),
    }
    if token.revoked_at is not None:
        body["revokedAt"] = timestamp(token.revoked_at)
    return body


def _read_lifetime_s(given: Mapping[str, str]) -> float:
    text = given.get("lifetime_s", "")
    if not text:
        return limits.SHORT_TOKEN_LIFETIME_S_DEFAULT
    try:
        lifetime_s = float(text)
    except ValueError:
        lifetime_s = 0.0
    if not limits.SHORT_TOKEN_LIFETIME_S_MIN <= lifetime_s <= limits.SHORT_TOKEN_LIFETIME_S_MAX:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"lifetime_s is a number of seconds from {limits.SHORT_TOKEN_LIFETIME_S_MIN:g} to "
            f"{limits.SHORT_TOKEN_LIFETIME_S_MAX:g}",
            target="lifetime_s",
        )
    return lifetime_s
