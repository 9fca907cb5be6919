"""Checks tokens: a JWT against the trust bundle, with nothing asked of anybody. Pure.

The key decides the algorithm, never the token (RFC 8725, section 3.1). No refusal repeats any part
of the token.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from pydantic import ValidationError

from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.identity import (
    ANY_WORKSPACE,
    Grant,
    Issuer,
    Role,
    StorageScope,
    Trust,
    VerificationKey,
)

_REQUIRED = ["iss", "sub", "aud", "exp", "iat"]
# The rest is checked below: with the caller's clock, for the place where the token is shown.
_OPTIONS: Any = {
    "require": _REQUIRED,
    "verify_signature": True,
    "verify_aud": False,
    "verify_iss": False,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling. Times are Unix seconds."""

    subject: str
    grants: tuple[Grant, ...] = ()
    name: str = ""
    token_id: str = ""
    via: str = ""
    issued_at: float = 0.0
    expires_at: float = 0.0
    audiences: tuple[str, ...] = ()
    storage: StorageScope | None = None
    is_ours: bool = True

    def role_in(self, workspace: str) -> Role | None:
        """The highest role in the workspace; None without any."""
        found = [
            grant.role for grant in self.grants if grant.workspace in (ANY_WORKSPACE, workspace)
        ]
        return max(found, key=tuple(Role).index, default=None)

    @property
    def highest_role(self) -> Role | None:
        """The highest role in any workspace."""
        return max((grant.role for grant in self.grants), key=tuple(Role).index, default=None)

    @property
    def sees_everything(self) -> bool:
        return any(grant.workspace == ANY_WORKSPACE for grant in self.grants)

    @property
    def workspaces(self) -> tuple[str, ...]:
        """The workspaces of the grants; ``*`` among them means all."""
        return tuple(dict.fromkeys(grant.workspace for grant in self.grants))


def check(token: str, trust: Trust, *, audiences: Sequence[str], now: float) -> Principal:
    """Who the token speaks for.

    Raises HeadgateError(Unauthorized) unless a trusted issuer has signed it for one of
    ``audiences``, it counts now and nobody has revoked it.
    """
    issuer, key = _signer(token, trust)
    claims = _claims(token, key)
    if claims["iss"] != issuer.issuer:
        raise refused("it was signed with the key of another issuer")
    _check_times(claims, now)
    named = _audiences(claims)
    accepted = {*audiences, *(() if issuer.is_ours else issuer.audiences)}
    if not accepted.intersection(named):
        raise refused("it was made for another audience")
    _check_revoked(claims, trust)
    return _principal(claims, issuer, named)


def refused(problem: str) -> HeadgateError:
    """The answer to a token that does not count."""
    return HeadgateError(ErrorCode.UNAUTHORIZED, f"the token is not accepted: {problem}")


def derived_uuid(*parts: str) -> str:
    """The same UUID for the same words, as clients want principals to have one."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(("headgate:", *parts))))


def identity_uuids(installation: str, kind: str, workspace: str, name: str) -> tuple[str, str]:
    """Principal and client id of a managed identity; known without asking anybody."""
    place = (installation, kind, workspace, name)
    return derived_uuid(*place, "principal"), derived_uuid(*place, "client")


def installation_id(trust: Trust) -> str:
    """The UUID of this installation, which clients see as their directory; empty: not known yet."""
    ours = (issuer.issuer for issuer in trust.issuers if issuer.is_ours)
    return next(ours, "").rpartition("/")[2]


def _signer(token: str, trust: Trust) -> tuple[Issuer, VerificationKey]:
    if len(token) > limits.TOKEN_CHARS_MAX:
        raise refused(f"it is longer than {limits.TOKEN_CHARS_MAX} characters")
    try:
        head = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        raise refused("it is no JSON Web Token") from None
    kid = head.get("kid")
    for issuer in trust.issuers:
        for key in issuer.keys:
            if key.kid == kid:
                return issuer, key
    raise refused("no trusted issuer has signed it, or its key has been retired")


def _claims(token: str, key: VerificationKey) -> dict[str, Any]:
    try:
        public = jwt.PyJWK(key.jwk, algorithm=key.algorithm)
        claims: dict[str, Any] = jwt.decode(
            token, public.key, algorithms=[key.algorithm], options=_OPTIONS
        )
    except jwt.MissingRequiredClaimError as error:
        raise refused(f"the claim {error.claim!r} is missing") from None
    except jwt.InvalidSignatureError:
        raise refused("its signature is wrong") from None
    except jwt.PyJWTError:
        raise refused("it is no valid JSON Web Token of its issuer") from None
    return claims


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    expires, issued, begins = (
        _time(claims, "exp"),
        _time(claims, "iat"),
        _time(claims, "nbf", default=0.0),
    )
    if expires <= now - limits.TOKEN_LEEWAY_S:
        raise refused("it has expired; get a new one")
    if max(issued, begins) > now + limits.TOKEN_LEEWAY_S:
        raise refused("it counts only later; compare the clocks of the machines")


def _time(claims: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = claims.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise refused(f"its claim {name!r} is no time")
    return float(value)


def _audiences(claims: Mapping[str, Any]) -> tuple[str, ...]:
    given = claims["aud"]
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise refused("its claim 'aud' is no audience")
    # Azure's tokens name the same audience with and without a slash at the end.
    return tuple(name.rstrip("/") for name in names)


def _check_revoked(claims: Mapping[str, Any], trust: Trust) -> None:
    revoked = {each.id for each in trust.revoked}
    if not revoked.isdisjoint((claims.get("jti"), claims.get("via"))):
        raise refused("it has been revoked")


def _principal(claims: Mapping[str, Any], issuer: Issuer, named: tuple[str, ...]) -> Principal:
    storage = None
    if issuer.is_ours and claims.get("storage") is not None:
        try:
            storage = StorageScope.model_validate(claims["storage"])
        except ValidationError:
            raise refused("its storage scope cannot be read") from None
    return Principal(
        subject=_text(claims, "sub"),
        grants=_grants(claims.get(issuer.roles_claim)),
        name=_text(claims, "name") or _text(claims, "preferred_username"),
        token_id=_text(claims, "jti"),
        via=_text(claims, "via"),
        issued_at=float(claims["iat"]),
        expires_at=float(claims["exp"]),
        audiences=named,
        storage=storage,
        is_ours=issuer.is_ours,
    )


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name, "")
    return value[:256] if isinstance(value, str) else ""


def read_grant(text: str) -> Grant | None:
    """``<workspace>/<role>`` as a grant; None for anything else."""
    workspace, _, role = text.rpartition("/")
    if not workspace or role not in tuple(Role):
        return None
    return Grant(workspace=workspace, role=Role(role))


def _grants(listed: Any) -> tuple[Grant, ...]:
    """Roles of ours among those that a token lists; others are somebody else's business."""
    texts = [text for text in listed if isinstance(text, str)] if isinstance(listed, list) else []
    found = (read_grant(text) for text in texts[: limits.GRANTS_MAX])
    return tuple(grant for grant in found if grant is not None)
