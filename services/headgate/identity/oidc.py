"""The keys of another issuer: OpenID Connect discovery and its key set, asked now and then.

Gateways and routers never ask the issuer; they get its keys with the trust bucket. When it does
not answer, the last good keys stay.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import jwt

from headgate.runtime.log import Log
from headgate.runtime.settings import Settings
from headgate_contracts.identity import Issuer, VerificationKey

REFRESH_S = 300.0
RETRY_S = 15.0
TIMEOUT_S = 10.0
DOCUMENT_BYTES_MAX = 256 * 1024
KEYS_MAX = 20
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
# What a key is used with when its set does not say, by kind of key and curve.
_ALGORITHMS = {("RSA", ""): "RS256", ("EC", "P-256"): "ES256", ("EC", "P-384"): "ES384"}
_KNOWN = ("EdDSA", "RS256", "RS384", "RS512", "PS256", "ES256", "ES384")

_log = Log("identity")


class Issuers:
    """The issuer of the settings, if there is one, as a loop of the service."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._found: tuple[Issuer, ...] = ()
        self.changed = asyncio.Event()

    def known(self) -> tuple[Issuer, ...]:
        return self._found

    async def run(self) -> None:
        """Ask for ever; returns at once without an issuer to ask."""
        while self._settings.oidc_issuer:
            wait_s = REFRESH_S
            try:
                issuer = await self._ask()
                if (issuer,) != self._found:
                    self._found = (issuer,)
                    self.changed.set()
                    _log.info("issuer_keys", issuer=issuer.issuer, keys=len(issuer.keys))
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                text = str(error)[:200] or type(error).__name__
                _log.warning("issuer_silent", issuer=self._settings.oidc_issuer, error=text)
                wait_s = RETRY_S
            await asyncio.sleep(wait_s)

    async def _ask(self) -> Issuer:
        settings = self._settings
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            url = settings.oidc_jwks
            if not url:
                base = settings.oidc_issuer.rstrip("/")
                found = await _fetch(session, f"{base}/.well-known/openid-configuration")
                if str(found.get("issuer", "")).rstrip("/") != base:
                    raise ValueError("its discovery document names another issuer")
                url = str(found.get("jwks_uri", ""))
            document = await _fetch(session, url)
        listed = document.get("keys")
        keys = [key for each in (listed if isinstance(listed, list) else []) if (key := _key(each))]
        if not keys:
            raise ValueError("its key set holds no key that can be used here")
        return Issuer(
            issuer=settings.oidc_issuer,
            audiences=(settings.oidc_audience,) if settings.oidc_audience else (),
            keys=tuple(keys[:KEYS_MAX]),
            roles_claim=settings.oidc_roles_claim,
        )


async def _fetch(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise ValueError("its keys must be fetched over https")
    async with session.get(url, allow_redirects=False) as response:
        response.raise_for_status()
        raw = await response.content.read(DOCUMENT_BYTES_MAX + 1)
        # read() may give less than is there; the rest decides whether it was all.
        while len(raw) <= DOCUMENT_BYTES_MAX and (more := await response.content.readany()):
            raw += more
    if len(raw) > DOCUMENT_BYTES_MAX:
        raise ValueError("it answers with a document that is too large")
    value = json.loads(raw)
    if not isinstance(value, dict):
        raise ValueError("it answers with something that is no JSON object")
    return value


def _key(jwk: Any) -> VerificationKey | None:
    """One key of a set, when it can check signatures here; never a symmetric one."""
    if not isinstance(jwk, dict) or not isinstance(jwk.get("kid"), str):
        return None
    if jwk.get("use", "sig") != "sig":
        return None
    usual = _ALGORITHMS.get((jwk.get("kty", ""), jwk.get("crv", "")))
    algorithm = jwk.get("alg") or ("EdDSA" if jwk.get("crv") == "Ed25519" else usual)
    if algorithm not in _KNOWN:
        return None
    public = {name: value for name, value in jwk.items() if name not in ("d", "p", "q", "k")}
    try:
        jwt.PyJWK(public, algorithm=algorithm)
    except jwt.PyJWTError:
        return None
    return VerificationKey(kid=jwk["kid"], algorithm=algorithm, jwk=public)
