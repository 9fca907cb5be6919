"""Who is calling: the installation's own token, or a JSON Web Token that the trust bundle vouches
for.

An address that shows wrong credentials again and again is answered 429 without a look at what it
shows. A credential that was good here before is let through even then, so that nobody can shut
out others who share an address (a proxy, one machine); and a request without any credential does
not count, for it guesses nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextvars import ContextVar

from aiohttp import web

from headgate.gateway.access import ADMIN, FailedAttempts
from headgate.gateway.origins import Origins
from headgate.runtime import tokens
from headgate.runtime.clock import Clock
from headgate.runtime.tokens import Principal
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.identity import CONTROL_AUDIENCE, DATA_AUDIENCE, Trust

# Azure's client sends tokens of the data plane to some routes of the control plane.
AUDIENCES = (CONTROL_AUDIENCE, DATA_AUDIENCE)
IDENTITY_HEADER = "X-IDENTITY-HEADER"

CALLER: ContextVar[str] = ContextVar("caller", default="")
"""The subject of whoever is being served: what a command says of who gave it."""
REQUEST: ContextVar[str] = ContextVar("request", default="")
"""The id of the request that is being served: what caused the messages that it leads to."""

_NEEDED = (
    "this needs the header 'Authorization: Bearer <token>' with a token from 'headgate token "
    "create', or the admin token, which is in keys/admin.token of the data folder"
)


class Authenticator:
    """Checks what callers show. Remembers by digest what was good, so that it is checked once."""

    def __init__(
        self,
        admin_token: str,
        trust: Callable[[], Trust],
        clock: Clock,
        *,
        failures_per_minute: int,
        origins: Origins | None = None,
    ) -> None:
        self._admin = _digest(admin_token)
        self._trust = trust
        self._clock = clock
        self._attempts = FailedAttempts(failures_per_minute)
        self._origins = origins or Origins()
        self._known: OrderedDict[tuple[bytes, tuple[str, ...]], tuple[Principal, Trust]] = (
            OrderedDict()
        )

    def address(self, request: web.BaseRequest) -> str:
        """Where a request came from; of what the studio sends, who it is sent for."""
        return self._origins.of(request)

    def bearer(self, request: web.BaseRequest, audiences: tuple[str, ...] = AUDIENCES) -> Principal:
        """Who shows a token in the ``Authorization`` header."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = ""
        return self.check(request, token.strip(), audiences)

    def check(
        self, request: web.BaseRequest, token: str, audiences: tuple[str, ...] = AUDIENCES
    ) -> Principal:
        """Whose ``token`` it is. Raises HeadgateError: Unauthorized, or TooManyRequests."""
        if not token:
            raise HeadgateError(ErrorCode.UNAUTHORIZED, _NEEDED)
        key = (_digest(token), audiences)
        address, now = address_key(self.address(request)), self._clock.monotonic()
        wait_s = self._attempts.wait_s(address, now)
        if wait_s and key not in self._known:
            raise HeadgateError(
                ErrorCode.TOO_MANY_REQUESTS,
                "too many wrong credentials came from this address; try again later",
                retry_after_s=wait_s,
            )
        try:
            return self._principal(key, token)
        except HeadgateError as error:
            if error.error.code is ErrorCode.UNAUTHORIZED:
                self._known.pop(key, None)
                self._attempts.note(address, now)
            raise

    def _principal(self, key: tuple[bytes, tuple[str, ...]], token: str) -> Principal:
        trust, now = self._trust(), self._clock.now()
        known = self._known.get(key)
        if known is not None and known[1] is trust and _counts(known[0], now):
            self._known.move_to_end(key)
            return known[0]
        # Digests have one length, so the comparison tells nothing about the admin token's.
        if hmac.compare_digest(key[0], self._admin):
            principal = ADMIN
        elif token.count(".") != 2:
            raise HeadgateError(ErrorCode.UNAUTHORIZED, f"the token is not known; {_NEEDED}")
        elif not trust.issuers:
            raise HeadgateError(
                ErrorCode.UNAVAILABLE,
                "the keys that tokens are checked with are not known yet; try again",
                retry_after_s=1,
            )
        else:
            principal = tokens.check(token, trust, audiences=key[1], now=now)
        self._known[key] = (principal, trust)
        if len(self._known) > limits.KNOWN_CREDENTIALS_MAX:
            self._known.popitem(last=False)
        return principal


Guard = Callable[[Authenticator, web.BaseRequest, Mapping[str, str]], Principal]
"""How a route authenticates by itself: from the request and the values of its path's names."""


def identity_header(
    authenticator: Authenticator, request: web.BaseRequest, _: Mapping[str, str]
) -> Principal:
    """Where Azure's managed-identity clients show a credential; else as everywhere."""
    if token := request.headers.get(IDENTITY_HEADER, ""):
        return authenticator.check(request, token)
    return authenticator.bearer(request)


def address_key(remote: str) -> str:
    """What counts as one address: of IPv6 the network, for one caller has all of it."""
    try:
        address = ipaddress.ip_address(remote.partition("%")[0])
    except ValueError:
        return remote
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _counts(principal: Principal, now: float) -> bool:
    return not principal.expires_at or principal.expires_at > now - limits.TOKEN_LEEWAY_S


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
