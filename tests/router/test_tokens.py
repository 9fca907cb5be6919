"""Endpoints that are opened by tokens: whose count, what they cost, how fast they end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from headgate.router import tokens
from headgate.router.core import Refusal
from headgate.router.tokens import TokenGate
from headgate.runtime import natsd
from headgate.runtime.clock import SystemClock
from headgate_contracts import streams
from headgate_contracts.identity import (
    CONTROL_AUDIENCE,
    DATA_AUDIENCE,
    Issuer,
    Revocation,
    Trust,
    VerificationKey,
    endpoint_audience,
)
from headgate_contracts.scoring import Route
from router.stage import Stage, connected, staged, until

Names = Callable[[str], str]
ISSUER = "https://headgate.internal/test"
THEIRS = "https://login.example"


@dataclass
class Authority:
    """Signs tokens as the identity service does, and says what checks them."""

    ours: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    theirs: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    revoked: tuple[str, ...] = ()

    def trust(self) -> Trust:
        def key(kid: str, private: Ed25519PrivateKey) -> VerificationKey:
            jwk = json.loads(OKPAlgorithm.to_jwk(private.public_key()))
            return VerificationKey(kid=kid, algorithm="EdDSA", jwk=jwk)

        return Trust(
            issuers=(
                Issuer(issuer=ISSUER, is_ours=True, keys=(key("o", self.ours),)),
                Issuer(issuer=THEIRS, audiences=("app",), keys=(key("t", self.theirs),)),
            ),
            revoked=tuple(Revocation(id=each, until=2e9) for each in self.revoked),
        )

    def token(self, audience: str, *, theirs: bool = False, **claims: Any) -> str:
        now = SystemClock().now()
        said = {
            "iss": THEIRS if theirs else ISSUER,
            "sub": "tester",
            "aud": audience,
            "iat": now,
            "exp": now + 600,
            "jti": "t1",
        }
        key, kid = (self.theirs, "t") if theirs else (self.ours, "o")
        return jwt.encode(said | claims, key, algorithm="EdDSA", headers={"kid": kid})


class Trusted:
    """A trust bundle that a test changes at will."""

    def __init__(self, trust: Trust) -> None:
        self.trust = trust

    @property
    def is_known(self) -> bool:
        return bool(self.trust.issuers)


async def publish(server: natsd.RunningServer, trust: Trust) -> None:
    async with connected(server, "identity") as nc:
        bucket = await nc.jetstream().key_value(streams.TRUST.name)
        await bucket.put(streams.TRUST_KEY, trust.model_dump_json().encode())


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest_asyncio.fixture
async def routers(
    nats: natsd.RunningServer, data_dir: Path, authority: Authority
) -> AsyncIterator[list[Stage]]:
    """Two routers that know the authority."""
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(staged(nats, data_dir)) for _ in range(2)]
        await publish(nats, authority.trust())
        for stage in made:
            await until(lambda s=stage: s.router.trust.trust == authority.trust(), "trust")
        yield made


async def both_know(routers: list[Stage], name: str, **access: Any) -> None:
    await routers[0].route(name, {"blue": 100}, keys=(), **access)
    route = routers[0].known(name)
    await until(lambda: routers[1].known(name) == route, "the other router knows the route")


async def statuses(routers: list[Stage], name: str, token: str) -> list[int]:
    return [(await stage.ask(name, key=token)).status for stage in routers]


async def test_a_scoring_token_opens_its_endpoint_and_no_other(
    routers: list[Stage], authority: Authority, unique: Names
) -> None:
    mine, other = unique("ep"), unique("ep")
    for name in (mine, other):
        await both_know(routers, name, auth_mode="aml_token")
        await routers[0].instance(name)
        await until(lambda n=name: routers[1].ready(n), "ready")
    token = authority.token(endpoint_audience(mine))
    assert await statuses(routers, mine, token) == [200, 200]
    assert await statuses(routers, other, token) == [401, 401]
    for bad in ("", "test-key", token[:-3] + "AAA", authority.token(DATA_AUDIENCE)):
        assert (await routers[0].ask(mine, key=bad)).status == 401
    forged = authority.token(endpoint_audience(mine), theirs=True)
    assert (await routers[0].ask(mine, key=forged)).status == 401


async def test_all_tokens_of_an_endpoint_end_when_its_key_is_replaced(
    routers: list[Stage], authority: Authority, unique: Names
) -> None:
    name = unique("ep")
    await both_know(routers, name, auth_mode="aml_token")
    await routers[0].instance(name)
    await until(lambda: routers[1].ready(name), "ready")
    old = authority.token(endpoint_audience(name))
    assert await statuses(routers, name, old) == [200, 200]
    await both_know(routers, name, auth_mode="aml_token", tokens_not_before=SystemClock().now())
    assert await statuses(routers, name, old) == [401, 401]
    assert await statuses(routers, name, authority.token(endpoint_audience(name))) == [200, 200]


async def test_a_revoked_token_ends_on_every_router(
    routers: list[Stage], authority: Authority, unique: Names, nats: natsd.RunningServer
) -> None:
    name = unique("ep")
    await both_know(routers, name, auth_mode="aad_token")
    await routers[0].instance(name)
    await until(lambda: routers[1].ready(name), "ready")
    token = authority.token(DATA_AUDIENCE, roles=["local/operator"], jti="gone")
    derived = authority.token(DATA_AUDIENCE, roles=["local/operator"], jti="x", via="gone")
    assert await statuses(routers, name, token) == [200, 200]
    assert await statuses(routers, name, derived) == [200, 200]
    authority.revoked = ("gone",)
    await publish(nats, authority.trust())
    for stage in routers:
        await until(lambda s=stage: bool(s.router.trust.trust.revoked), "the revocation")
    assert await statuses(routers, name, token) == [401, 401]
    assert await statuses(routers, name, derived) == [401, 401]


async def test_directory_tokens_need_a_role_in_the_endpoints_workspace(
    routers: list[Stage], authority: Authority, unique: Names
) -> None:
    name = unique("ep")
    stage = routers[0]
    await both_know(routers, name, auth_mode="aad_token")
    await stage.instance(name)
    for roles, status in (
        (["local/operator"], 200),
        (["*/admin"], 200),
        (["local/reader"], 403),
        (["other/owner"], 403),
        ([], 403),
    ):
        answer = await stage.ask(name, key=authority.token(DATA_AUDIENCE, roles=roles))
        assert answer.status == status, roles
    theirs = authority.token("app", theirs=True, roles=["local/operator"])
    assert (await stage.ask(name, key=theirs)).status == 200
    wrong = authority.token(CONTROL_AUDIENCE, roles=["local/operator"])
    assert (await stage.ask(name, key=wrong)).status == 401


async def test_a_token_is_nothing_at_an_endpoint_with_keys(
    routers: list[Stage], authority: Authority, unique: Names
) -> None:
    name = unique("ep")
    await routers[0].route(name, {"blue": 100})
    await routers[0].instance(name)
    for audience in (endpoint_audience(name), DATA_AUDIENCE):
        token = authority.token(audience, roles=["*/admin"])
        assert (await routers[0].ask(name, key=token)).status == 401


# --- the gate ----------------------------------------------------------------------------------

ROUTE = Route(workspace="local", endpoint="shop", auth_mode="aml_token")


def asked(gate: TokenGate, token: str, route: Route = ROUTE, later_s: float = 0.0) -> int:
    credential = token.encode()
    digest = hashlib.sha256(credential).digest()
    caller = gate.caller(route, credential, digest, SystemClock().now() + later_s)
    return caller.status if isinstance(caller, Refusal) else 200


def test_a_token_is_checked_once_and_again_when_something_changed(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[bytes] = []
    real = tokens.check

    def counted(route: Route, credential: bytes, *rest: Any) -> Any:
        checks.append(credential)
        return real(route, credential, *rest)

    monkeypatch.setattr(tokens, "check", counted)
    trusted = Trusted(authority.trust())
    gate = TokenGate(trusted)
    good, bad = authority.token(endpoint_audience("shop")), "x.y.z"
    for _ in range(50):
        assert (asked(gate, good), asked(gate, bad)) == (200, 401)
    assert len(checks) == 2
    trusted.trust = authority.trust()
    assert asked(gate, good) == 200
    assert len(checks) == 3
    later = ROUTE.model_copy(update={"tokens_not_before": SystemClock().now() + 1})
    assert asked(gate, good, later) == 401
    assert len(checks) == 4


def test_a_token_ends_when_it_expires_although_it_was_known(authority: Authority) -> None:
    gate = TokenGate(Trusted(authority.trust()))
    token = authority.token(endpoint_audience("shop"))
    assert asked(gate, token) == 200
    assert asked(gate, token, later_s=700) == 401


def test_what_is_remembered_is_bounded(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "KNOWN_MAX", 10)
    gate = TokenGate(Trusted(authority.trust()))
    for number in range(100):
        assert asked(gate, f"a.b.{number}") == 401
    assert (len(gate._good), len(gate._bad)) == (0, 10)


def test_a_flood_of_bad_tokens_makes_nobody_forget_a_good_one(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "KNOWN_MAX", 10)
    gate = TokenGate(Trusted(authority.trust()))
    good = authority.token(endpoint_audience("shop"))
    assert asked(gate, good) == 200
    for number in range(50):
        assert asked(gate, f"{good}{number}") == 401
    monkeypatch.setattr(tokens, "check", lambda *asked: pytest.fail("checked again"))
    assert asked(gate, good) == 200


def test_without_trust_nothing_can_be_said() -> None:
    assert asked(TokenGate(Trusted(Trust())), "a.b.c") == 503
