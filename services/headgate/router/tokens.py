"""Tokens on the scoring path: a credential that was checked once costs one look-up afterwards.

What was found out about a credential holds as long as the trust bundle and the endpoint's own bound
on tokens are the ones it was found out with, so a revocation ends it with the next request. Only a
digest of the credential is kept, and what opens nothing is kept apart: a flood of bad credentials
makes nobody forget the good ones.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from headgate.router import core
from headgate.router.core import Refusal
from headgate.runtime import tokens
from headgate_contracts import limits
from headgate_contracts.errors import HeadgateError
from headgate_contracts.identity import DATA_AUDIENCE, Role, Trust, endpoint_audience
from headgate_contracts.scoring import Route

KNOWN_MAX = 20_000
REFUSED_FOR_S = 10.0  # a token that counts only later is looked at again after this

_Key = tuple[str, bytes]  # endpoint, digest of the credential


class Trusted(Protocol):
    """Where the trust bundle of this moment is found."""

    @property
    def trust(self) -> Trust: ...

    @property
    def is_known(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Finding:
    caller: str | Refusal
    until: float
    trust: Trust
    not_before: float


class _Findings:
    """The latest findings, so many and no more."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Key, _Finding] = OrderedDict()
        self.get = self._kept.get
        self.drop = self._kept.pop

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, key: _Key, found: _Finding) -> None:
        self._kept[key] = found
        self._kept.move_to_end(key)
        if len(self._kept) > KNOWN_MAX:
            self._kept.popitem(last=False)


class TokenGate:
    """Says who may score at endpoints that are opened by tokens."""

    def __init__(self, trusted: Trusted) -> None:
        self._trusted = trusted
        self._good = _Findings()
        self._bad = _Findings()

    def caller(self, route: Route, credential: bytes, digest: bytes, now: float) -> str | Refusal:
        """Whom a credential that opens the endpoint speaks for. ``now`` is Unix time in seconds."""
        if not self._trusted.is_known:
            return core.trust_unknown()
        key = (route.endpoint, digest)
        found = self._good.get(key) or self._bad.get(key)
        if (
            found is not None
            and now < found.until
            and found.trust is self._trusted.trust
            and found.not_before == route.tokens_not_before
        ):
            return found.caller
        trust = self._trusted.trust
        caller, until = check(route, credential, trust, now)
        self._good.drop(key, None)
        self._bad.drop(key, None)
        kept = self._bad if isinstance(caller, Refusal) else self._good
        kept.keep(key, _Finding(caller, until, trust, route.tokens_not_before))
        return caller


def check(route: Route, credential: bytes, trust: Trust, now: float) -> tuple[str | Refusal, float]:
    """Whom the credential speaks for if it opens the endpoint, and until when that is so."""
    is_own = route.auth_mode == "aml_token"
    audience = endpoint_audience(route.endpoint) if is_own else DATA_AUDIENCE
    try:
        found = tokens.check(credential.decode("latin-1"), trust, audiences=(audience,), now=now)
    except HeadgateError as error:
        return core.bad_token(str(error)), now + REFUSED_FOR_S
    if is_own and not (found.is_ours and audience in found.audiences):
        return core.bad_token("this endpoint takes tokens of its own only"), found.expires_at
    if is_own and found.issued_at <= route.tokens_not_before:
        return core.bad_token("the token has been revoked; get a new one"), found.expires_at
    if not is_own:
        role = found.role_in(route.workspace)
        if role is None or not role.includes(Role.OPERATOR):
            return core.may_not_score(), found.expires_at
    return found.subject[: limits.CALLER_CHARS_MAX], found.expires_at
