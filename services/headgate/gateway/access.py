"""Who may do what at the gateway: actions, the least role that each of them needs, and events.

Pure. Whoever has no role in a workspace is told that there is nothing, in the very words for a
path that does not exist: what is there and what is not cannot be told apart from outside.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from headgate.runtime.tokens import Principal, read_grant
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.identity import (
    ANY_WORKSPACE,
    AUDIENCES,
    CONTROL_AUDIENCE,
    Grant,
    Role,
)

ADMIN = Principal(
    subject="admin", grants=(Grant(workspace=ANY_WORKSPACE, role=Role.ADMIN),), name="admin"
)
"""Who shows the installation's own token."""
NOBODY = Principal(subject="")
"""Who calls a public route."""

# Azure's clients send tokens of the data plane to some routes of the control plane.
_CLASSIC_CONTROL_AUDIENCE = "https://management.core.windows.net"
_WORKSPACE = re.compile(r"[a-z0-9][a-z0-9._-]{0,89}\Z")


class Action(StrEnum):
    """What a route does, as far as rights are concerned."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    SCORE = "score"
    LIMIT = "limit"
    LIST_KEYS = "list_keys"
    REPLACE_KEYS = "replace_keys"
    READ_SECRETS = "read_secrets"
    GIVE_ACCESS = "give_access"
    ADMINISTER = "administer"
    ANY = "any"
    """Whoever has any role anywhere; the handler looks at the rest."""


LEAST_ROLE: dict[Action, Role] = {
    Action.ANY: Role.READER,
    Action.READ: Role.READER,
    Action.WRITE: Role.OPERATOR,
    Action.SCORE: Role.OPERATOR,
    Action.DELETE: Role.OWNER,
    Action.LIMIT: Role.OWNER,
    Action.LIST_KEYS: Role.OWNER,
    Action.REPLACE_KEYS: Role.OWNER,
    Action.READ_SECRETS: Role.OWNER,
    Action.GIVE_ACCESS: Role.OWNER,
    Action.ADMINISTER: Role.ADMIN,
}

_OF_VERB = {"GET": Action.READ, "HEAD": Action.READ, "DELETE": Action.DELETE}


def action_of(verb: str) -> Action:
    """What a verb does when its route does not say otherwise."""
    return _OF_VERB.get(verb, Action.WRITE)


def nothing_here() -> HeadgateError:
    """The one answer to paths that do not exist, and to those that are not the caller's."""
    return HeadgateError(
        ErrorCode.RESOURCE_NOT_FOUND, "there is nothing at this path; see /openapi.json"
    )


def require(principal: Principal, action: Action, workspace: str | None) -> None:
    """Raise HeadgateError unless the caller may do that in the workspace.

    Without a workspace the highest role counts that the caller has anywhere; only administering
    needs it everywhere then.
    """
    least = LEAST_ROLE[action]
    if workspace is not None:
        role = principal.role_in(workspace)
        if role is None:
            raise nothing_here()
        place = f" in the workspace {workspace}"
    elif action is Action.ADMINISTER:
        role, place = principal.role_in(ANY_WORKSPACE), " in every workspace"
    else:
        role, place = principal.highest_role, " in a workspace"
    if role is None or not role.includes(least):
        raise _too_low(least, role, place)


def _too_low(least: Role, role: Role | None, place: str) -> HeadgateError:
    yours = f"yours is {role.value}" if role else "you have none"
    return HeadgateError(
        ErrorCode.FORBIDDEN, f"this needs the role {least.value}{place}; {yours}", target="role"
    )


# --- giving access -----------------------------------------------------------------------------


def read_grants(texts: Iterable[str]) -> tuple[Grant, ...]:
    """Grants from ``<workspace>/<role>``; ValueError that says what is wrong with one."""
    found = []
    for text in texts:
        grant = read_grant(text.lower())
        if grant is None or not (
            grant.workspace == ANY_WORKSPACE or _WORKSPACE.match(grant.workspace)
        ):
            raise ValueError(
                f"{text[:80]!r} is no grant; write <workspace>/<role> such as local/operator, "
                f"with one of the roles {', '.join(Role)} (and * for every workspace)"
            )
        found.append(grant)
    return tuple(found)


def require_may_give(principal: Principal, grants: Iterable[Grant]) -> None:
    """Raise HeadgateError(Forbidden) unless the caller may hand all of these to somebody.

    An owner gives access to what is theirs, and nobody gives more than they have. The answer
    depends on the caller alone, not on what there is.
    """
    for grant in grants:
        role = principal.role_in(grant.workspace)
        if role is None or not (role.includes(Role.OWNER) and role.includes(grant.role)):
            least = grant.role if grant.role.includes(Role.OWNER) else Role.OWNER
            raise HeadgateError(
                ErrorCode.FORBIDDEN,
                f"giving {grant} needs the role {least.value} there; nobody gives more than "
                "they have",
                target="grants",
            )


def owned_workspaces(principal: Principal) -> tuple[str, ...]:
    """Where the caller may give and take access; ``*`` among them means everywhere."""
    return tuple(
        dict.fromkeys(
            grant.workspace for grant in principal.grants if grant.role.includes(Role.OWNER)
        )
    )


def lifetime_s(principal: Principal, wanted_s: float, now: float) -> float:
    """How long a token may live that is derived from the caller's: never longer than that one.

    Otherwise a short-lived token could be exchanged for another one for ever.
    """
    if not principal.expires_at:
        return wanted_s
    return max(1.0, min(wanted_s, principal.expires_at - now))


def root_token(principal: Principal) -> str:
    """The id of the token that ends everything derived from it when it is revoked."""
    return principal.via or principal.token_id


def read_audience(text: str, own_address: str) -> str:
    """The audience that a resource or scope means, with or without ``/.default``."""
    resource = text.strip().removesuffix("/.default").rstrip("/")
    if resource in (own_address, _CLASSIC_CONTROL_AUDIENCE):
        return CONTROL_AUDIENCE
    if resource in AUDIENCES:
        return resource
    raise HeadgateError(
        ErrorCode.BAD_ARGUMENT,
        f"there are no tokens for {resource[:80]!r}; there are for {', '.join(AUDIENCES)}",
        target="resource",
    )


# --- events ------------------------------------------------------------------------------------


def may_see(principal: Principal, event: Any) -> bool:
    """Whether an event is the caller's to see: its workspace is, or everything is."""
    if principal.sees_everything:
        return True
    workspace = event.get("workspace") if isinstance(event, dict) else None
    return isinstance(workspace, str) and principal.role_in(workspace) is not None


# --- failed attempts ---------------------------------------------------------------------------


class FailedAttempts:
    """How often each address has shown a wrong credential lately.

    A bucket per address that leaks evenly: ``per_minute`` failures at once fill it, and then one
    more is let through for each that has leaked. The table is bounded; the address that has been
    quiet for longest is forgotten. 0 per minute means no limit.
    """

    def __init__(
        self, per_minute: int, addresses_max: int = limits.FAILED_AUTH_ADDRESSES_MAX
    ) -> None:
        self._per_minute = per_minute
        self._addresses_max = addresses_max
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def note(self, address: str, now: float) -> None:
        """One more failure of this address."""
        if not self._per_minute:
            return
        self._levels[address] = (self._level(address, now) + 1, now)
        self._levels.move_to_end(address)
        if len(self._levels) > self._addresses_max:
            self._levels.popitem(last=False)

    def wait_s(self, address: str, now: float) -> float:
        """How long this address is not listened to; 0 when it is."""
        if not self._per_minute:
            return 0.0
        excess = self._level(address, now) - (self._per_minute - 1)
        return excess * 60 / self._per_minute if excess > 1e-9 else 0.0

    def _level(self, address: str, now: float) -> float:
        level, at = self._levels.get(address, (0.0, now))
        return max(0.0, level - max(0.0, now - at) * self._per_minute / 60)
