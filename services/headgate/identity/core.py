"""What the identity service decides: claims, who may deal with a token, which keys count. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headgate.runtime.tokens import derived_uuid, identity_uuids
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.identity import (
    ANY_WORKSPACE,
    AUDIENCES,
    AccessToken,
    Grant,
    Grants,
    Issuer,
    IssueToken,
    ManagedIdentity,
    Revocation,
    Role,
    StorageScope,
    Trust,
    VerificationKey,
)

ROTATE_BEFORE_S = limits.SIGNING_KEY_LIFETIME_S
# A public key is shown this long after its successor began to sign: until the last token that it
# has signed has expired.
KEEP_PUBLIC_S = limits.ACCESS_TOKEN_LIFETIME_S_MAX + 600.0
ADMIN_NAME = "admin"
REFRESH_SHARE = 0.5  # of a token's life, after which it should be replaced


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair as it is kept; ``sealed`` is the private half."""

    kid: str
    jwk: Mapping[str, Any]
    sealed: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Installation:
    """Whose tokens these are. ``id`` is a UUID."""

    id: str

    @property
    def issuer(self) -> str:
        return f"https://headgate.internal/{self.id}"


# --- claims ------------------------------------------------------------------------------------


def claims(
    installation: Installation,
    *,
    subject: str,
    name: str,
    audiences: Sequence[str],
    grants: Sequence[Grant],
    token_id: str,
    now: float,
    lifetime_s: float,
    via: str = "",
    storage: StorageScope | None = None,
) -> dict[str, Any]:
    """The claims of a token. ``iat`` has a fraction: keys and tokens change within a second."""
    said: dict[str, Any] = {
        "iss": installation.issuer,
        "sub": subject,
        "name": name,
        "aud": list(audiences) if len(audiences) != 1 else audiences[0],
        "iat": round(now, 3),
        "nbf": math.floor(now),
        "exp": math.floor(now + lifetime_s),
        "jti": token_id,
        "tid": installation.id,
        "oid": derived_uuid(installation.id, "principal", subject),
        "appid": derived_uuid(installation.id, "client", subject),
        "roles": [str(grant) for grant in grants],
    }
    if via:
        said["via"] = via
    if storage is not None:
        said["storage"] = storage.model_dump()
    return said


def refresh_after(now: float, lifetime_s: float) -> float:
    """When a token should be replaced, in Unix seconds."""
    return now + REFRESH_SHARE * lifetime_s


# --- long-lived tokens -------------------------------------------------------------------------


def check_room(count: int) -> None:
    """Refuse to remember more tokens than there is room for."""
    if count >= limits.ACCESS_TOKENS_MAX:
        raise HeadgateError(
            ErrorCode.QUOTA_EXCEEDED,
            f"{limits.ACCESS_TOKENS_MAX} tokens are alive already; revoke those that are not "
            "needed any more (headgate token list)",
        )


def check_token_name(name: str) -> None:
    """Refuse the name under which the installation's own token does things."""
    if name == ADMIN_NAME:
        raise HeadgateError(
            ErrorCode.INVALID_NAME,
            f"{ADMIN_NAME!r} is the token that came with the installation; take another name, so "
            "that it can be told who did what",
            target="name",
        )


def is_within(grants: Sequence[Grant], workspaces: Sequence[str]) -> bool:
    """Whether all grants lie in the workspaces: then their owner may deal with the token."""
    return ANY_WORKSPACE in workspaces or all(grant.workspace in workspaces for grant in grants)


def revoked(token: AccessToken, now: float) -> AccessToken:
    """The token from now on; revoking it again changes nothing."""
    if token.revoked_at is not None:
        return token
    return token.model_copy(update={"revoked_at": now})


def no_token(token_id: str) -> HeadgateError:
    return HeadgateError(
        ErrorCode.RESOURCE_NOT_FOUND,
        f"there is no token {token_id[:40]!r}; 'headgate token list' shows those there are",
        target="id",
    )


def check_issue(command: IssueToken) -> None:
    """Refuse what would be a token without any use."""
    if not command.subject:
        raise HeadgateError(ErrorCode.BAD_ARGUMENT, "a token speaks for somebody", target="subject")


# --- managed identities ------------------------------------------------------------------------


def managed(
    installation: Installation,
    workspace: str,
    name: str,
    kind: str,
    stored: ManagedIdentity | None,
) -> ManagedIdentity | None:
    """The identity as it counts. An endpoint always has one; a named one exists once it is made."""
    if stored is None and kind != "system":
        return None
    base = stored or ManagedIdentity(
        workspace=workspace,
        name=name,
        kind="system",
        grants=(Grant(workspace=workspace, role=Role.READER),),
    )
    principal_id, client_id = identity_uuids(installation.id, base.kind, base.workspace, base.name)
    return base.model_copy(update={"principal_id": principal_id, "client_id": client_id})


def no_identity(name: str) -> HeadgateError:
    return HeadgateError(
        ErrorCode.RESOURCE_NOT_FOUND, f"there is no identity {name[:80]!r} in this workspace"
    )


def subject_of(identity: ManagedIdentity) -> str:
    """How an identity is named in its tokens and in what it did."""
    prefix = "endpoint" if identity.kind == "system" else "identity"
    return f"{prefix}:{identity.workspace}/{identity.name}"


def audience_of(resource: str) -> str | None:
    """The audience that a client means, written in any of Azure's ways; None when not known."""
    plain = resource.strip().removesuffix("/.default").rstrip("/")
    return plain if plain in AUDIENCES else None


def chosen(
    wanted: Mapping[str, str], system: ManagedIdentity | None, named: Iterable[ManagedIdentity]
) -> ManagedIdentity | None:
    """The identity that an instance asks for: by one of its ids, or the only one it can mean."""
    named = list(named)
    everyone = [*([system] if system else []), *named]
    for key, field in (("client_id", "client_id"), ("principal_id", "principal_id")):
        if value := wanted.get(key):
            return next((one for one in everyone if getattr(one, field) == value), None)
    if value := wanted.get("name"):
        short = value.rstrip("/").rpartition("/")[2].lower()
        return next((one for one in named if one.name == short), None)
    return system or (named[0] if len(named) == 1 else None)


# --- trust -------------------------------------------------------------------------------------


def signer(keys: Sequence[SigningKey], now: float) -> SigningKey | None:
    """The key that signs; None when it is time for a new one."""
    newest = max(keys, key=lambda key: key.created_at, default=None)
    return newest if newest and now - newest.created_at < ROTATE_BEFORE_S else None


def retired(keys: Sequence[SigningKey], now: float) -> list[SigningKey]:
    """Keys whose last token has expired. A key's successor ends its signing, not its age."""
    ordered = sorted(keys, key=lambda key: key.created_at)
    return [
        key
        for key, successor in itertools.pairwise(ordered)
        if now - successor.created_at > KEEP_PUBLIC_S
    ]


def trust(
    installation: Installation,
    keys: Sequence[SigningKey],
    tokens: Iterable[AccessToken],
    others: Sequence[Issuer],
    now: float,
) -> Trust:
    """What gateways and routers need to check tokens."""
    ours = Issuer(
        issuer=installation.issuer,
        is_ours=True,
        keys=tuple(
            VerificationKey(kid=key.kid, algorithm="EdDSA", jwk=dict(key.jwk))
            for key in sorted(keys, key=lambda key: key.created_at, reverse=True)
        ),
    )
    revocations = tuple(
        Revocation(id=token.id, until=token.expires_at)
        for token in sorted(tokens, key=lambda token: token.id)
        if token.revoked_at is not None and token.expires_at > now
    )
    return Trust(issuers=(ours, *others), revoked=revocations)


def access_token(
    token_id: str, name: str, grants: Grants, by: str, now: float, lifetime_s: float
) -> AccessToken:
    """What is remembered of a new token."""
    return AccessToken(
        id=token_id,
        name=name,
        subject=name,
        grants=grants,
        created_at=now,
        created_by=by,
        expires_at=float(math.floor(now + lifetime_s)),
    )
