"""Who may do what: principals, roles, tokens, and the keys by which a token is checked.

The identity service signs; gateways and routers check by themselves with the :class:`Trust` value
of its bucket, so that no request waits for a question and scoring outlives the control plane.

A token is a JWT (RFC 7519) signed with EdDSA (RFC 8037). Its claims: ``iss``, ``sub``, ``aud``,
``iat``, ``nbf``, ``exp``, ``jti``; ``tid``, ``oid`` and ``appid``, which Azure's clients read;
``roles`` as ``<workspace>/<role>``; ``via``, the ``jti`` of the token it was derived from.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from headgate_contracts import limits, subjects
from headgate_contracts.envelope import Command, Event, Query, Reply, Value
from headgate_contracts.resources import Name, Tags

SERVICE = "identity"

ORIGIN_HEADER = "x-headgate-origin"
"""Whom the studio sends a request for: a text that nobody but the gateway can write."""

# Azure's audiences, which its clients ask for: control plane, data plane, storage.
CONTROL_AUDIENCE = "https://management.azure.com"
DATA_AUDIENCE = "https://ml.azure.com"
STORAGE_AUDIENCE = "https://storage.azure.com"
AUDIENCES = (CONTROL_AUDIENCE, DATA_AUDIENCE, STORAGE_AUDIENCE)

ANY_WORKSPACE = "*"


def endpoint_audience(endpoint: str) -> str:
    """The audience of a scoring token: it opens one endpoint and nothing else."""
    return f"headgate:endpoint:{endpoint}"


class Role(StrEnum):
    """What a principal may do in a workspace; each includes the ones before it.

    ``reader`` sees everything but secrets; ``operator`` deploys, routes traffic and scores;
    ``owner`` reads and replaces keys, deletes, and gives access; ``admin`` owns everything.
    """

    READER = "reader"
    OPERATOR = "operator"
    OWNER = "owner"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        order = tuple(Role)
        return order.index(self) >= order.index(other)


class Grant(Value):
    """A role in a workspace, or in every one (``*``)."""

    workspace: str
    role: Role

    def __str__(self) -> str:
        return f"{self.workspace}/{self.role.value}"


TokenName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$",
        description="1 to 64 letters, digits, '.', '_', '@' and '-', a letter or digit first",
    ),
]
Grants = Annotated[tuple[Grant, ...], Field(max_length=limits.GRANTS_MAX)]


class StorageScope(Value):
    """What a storage token opens: blobs of one container below a prefix.

    ``permissions`` are letters of a shared access signature: r(ead), a(dd), c(reate), w(rite),
    d(elete), l(ist).
    """

    workspace: str
    container: str
    prefix: str = ""
    permissions: str = Field("r", pattern=r"^[racwdl]{1,6}$")


# --- what checks a token -----------------------------------------------------------------------


class VerificationKey(Value):
    """A public key as a JWK (RFC 7517). ``algorithm`` is the only one it is used with."""

    kid: str
    algorithm: Literal["EdDSA", "RS256", "RS384", "RS512", "PS256", "ES256", "ES384"]
    jwk: dict[str, Any]


class Issuer(Value):
    """Whose tokens count: ours, or an OpenID Connect issuer that a setting names."""

    issuer: str
    audiences: tuple[str, ...] = Field(
        (), description="accepted besides those that a token was asked for; empty: ours alone"
    )
    keys: tuple[VerificationKey, ...] = ()
    roles_claim: str = "roles"
    is_ours: bool = False


class Revocation(Value):
    """A token that counts no longer; forgotten at ``until``, when it has expired anyway."""

    id: str
    until: float


class Trust(Value):
    """Everything that is needed to check a token. Public: holds no secret."""

    revision: int = 0
    issuers: tuple[Issuer, ...] = ()
    revoked: tuple[Revocation, ...] = ()


# --- tokens ------------------------------------------------------------------------------------


class AccessToken(Value):
    """What is known of a token that was handed out; the token itself is kept nowhere."""

    id: str
    name: str
    subject: str
    grants: Grants = ()
    created_at: float = 0.0
    created_by: str = ""
    expires_at: float = 0.0
    revoked_at: float | None = None


class CreateToken(Command):
    """Make a token that lives long, for a person or a program; it can be listed and revoked."""

    TYPE: ClassVar[str] = "headgate.identity.command.v1.create_token"

    name: TokenName
    grants: Grants = Field(min_length=1)
    lifetime_s: float = Field(
        limits.ACCESS_TOKEN_LIFETIME_S_DEFAULT, ge=60, le=limits.ACCESS_TOKEN_LIFETIME_S_MAX
    )


class TokenReply(Reply):
    """``secret`` is the token: shown now and never again."""

    TYPE: ClassVar[str] = "headgate.identity.reply.v1.token"

    token: AccessToken
    secret: str = ""


class RevokeToken(Command):
    TYPE: ClassVar[str] = "headgate.identity.command.v1.revoke_token"

    token_id: str
    workspaces: tuple[str, ...] = Field(
        (ANY_WORKSPACE,), description="only a token whose grants all lie in these"
    )


class ListTokens(Query):
    """Tokens that were made with CreateToken, newest first."""

    TYPE: ClassVar[str] = "headgate.identity.query.v1.list_tokens"

    workspaces: tuple[str, ...] = Field(
        (ANY_WORKSPACE,), description="only tokens whose grants all lie in these"
    )


class TokensReply(Reply):
    TYPE: ClassVar[str] = "headgate.identity.reply.v1.tokens"

    tokens: tuple[AccessToken, ...]


class IssueToken(Command):
    """Sign a short-lived token for somebody who has been checked already; kept nowhere."""

    TYPE: ClassVar[str] = "headgate.identity.command.v1.issue_token"

    subject: str
    audiences: tuple[str, ...] = Field(min_length=1, max_length=8)
    grants: Grants = ()
    storage: StorageScope | None = None
    via: str = Field("", description="id of the token that this one is derived from")
    lifetime_s: float = Field(
        limits.SHORT_TOKEN_LIFETIME_S_DEFAULT, gt=0, le=limits.SHORT_TOKEN_LIFETIME_S_MAX
    )


class IssuedTokenReply(Reply):
    """Times are Unix seconds."""

    TYPE: ClassVar[str] = "headgate.identity.reply.v1.issued_token"

    token: str
    expires_at: float
    refresh_after: float


class RotateSigningKey(Command):
    """Sign with a new key from now on. ``drop_old``: what older keys have signed counts no longer.

    Keys are replaced every 30 days anyway; this is for the day on which one may have leaked.
    """

    TYPE: ClassVar[str] = "headgate.identity.command.v1.rotate_signing_key"

    drop_old: bool = False


# --- managed identities ------------------------------------------------------------------------


class ManagedIdentity(Value):
    """The identity under which a model acts.

    ``system`` ones belong to one endpoint and have its name; ``user`` ones are named by users and
    shared. ``principal_id`` and ``client_id`` are UUIDs, as Azure's clients want them.
    """

    workspace: str
    name: str
    kind: Literal["system", "user"] = "user"
    principal_id: str = ""
    client_id: str = ""
    grants: Grants = ()
    tags: Tags = {}
    created_at: float = 0.0
    updated_at: float = 0.0


class PutIdentity(Command):
    """Make a named identity, or change the grants of one (also of a system-assigned one)."""

    TYPE: ClassVar[str] = "headgate.identity.command.v1.put_identity"

    workspace: str
    name: Name
    kind: Literal["system", "user"] = "user"
    grants: Grants = ()
    tags: Tags = {}


class DeleteIdentity(Command):
    TYPE: ClassVar[str] = "headgate.identity.command.v1.delete_identity"

    workspace: str
    name: str


class GetIdentity(Query):
    """A named identity, or the system-assigned one of an endpoint."""

    TYPE: ClassVar[str] = "headgate.identity.query.v1.get_identity"

    workspace: str
    name: str
    kind: Literal["system", "user"] = "user"


class ListIdentities(Query):
    TYPE: ClassVar[str] = "headgate.identity.query.v1.list_identities"

    workspace: str


class IdentityReply(Reply):
    TYPE: ClassVar[str] = "headgate.identity.reply.v1.identity"

    identity: ManagedIdentity
    created: bool = False


class IdentitiesReply(Reply):
    TYPE: ClassVar[str] = "headgate.identity.reply.v1.identities"

    identities: tuple[ManagedIdentity, ...]


# --- events ------------------------------------------------------------------------------------


class TokenEvent(Event):
    """Base of events about a token; never says the token itself."""

    WHAT: ClassVar[str] = ""

    token_id: str
    name: str
    by: str = ""

    def subject(self) -> str:
        return subjects.event("token", self.token_id, self.WHAT)


class TokenCreated(TokenEvent):
    TYPE: ClassVar[str] = "headgate.identity.event.v1.token_created"
    WHAT: ClassVar[str] = "created"

    grants: Grants = ()
    expires_at: float = 0.0


class TokenRevoked(TokenEvent):
    TYPE: ClassVar[str] = "headgate.identity.event.v1.token_revoked"
    WHAT: ClassVar[str] = "revoked"


class SigningKeyRotated(Event):
    TYPE: ClassVar[str] = "headgate.identity.event.v1.signing_key_rotated"

    key_id: str
    dropped_old: bool = False
    by: str = ""

    def subject(self) -> str:
        return subjects.event("identity", "signing-key", "rotated")


class IdentityChanged(Event):
    TYPE: ClassVar[str] = "headgate.identity.event.v1.identity_changed"

    workspace: str
    name: str
    what: Literal["created", "updated", "deleted"]
    grants: Grants = ()
    by: str = ""

    def subject(self) -> str:
        return subjects.event("identity", self.name, self.what)
