"""Who may do what: every route against every role, bad tokens, derived tokens, given access."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.harness import TOKEN, Reply
from gateway.house import House, open_house, workspace_path
from headgate.gateway.access import (
    LEAST_ROLE,
    Action,
    FailedAttempts,
    may_see,
    read_grants,
    require_may_give,
)
from headgate.gateway.authentication import address_key
from headgate.gateway.routes import Route
from headgate.runtime.tokens import Principal
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.identity import (
    CONTROL_AUDIENCE,
    DATA_AUDIENCE,
    STORAGE_AUDIENCE,
    Role,
    endpoint_audience,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
Unique = Callable[[str], str]

HOME = workspace_path("local")
IDENTITIES = (
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
)
NOTHING = "there is nothing at this path; see /openapi.json"
# What Azure makes an action of its own, and what nobody must get by accident.
GUARDED = {
    ("POST", "listKeys"): Role.OWNER,
    ("POST", "regenerateKeys"): Role.OWNER,
    ("POST", "token"): Role.OPERATOR,
    ("POST", "getLogs"): Role.READER,
    ("POST", "tokens"): Role.OWNER,
    ("GET", "tokens"): Role.OWNER,
    ("GET", "events"): Role.READER,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with open_house() as opened:
        yield opened


def guarded_routes(house: House) -> list[Route[Any]]:
    return [r for r in house.gateway.table.routes if not r.public and not r.guard]


def address_of(route: Route[Any], workspace: str) -> str:
    path = re.sub(r"\{workspace\}", workspace, route.path)
    path = re.sub(r"\{(digest|subscription|resourceGroup)\}", "a" * 64, path)
    query = "?follow=false" if route.path == "/events" else ""
    return re.sub(r"\{[^}]*\}", "missing-one", path) + query


def shared_headers(reply: Reply) -> dict[str, str]:
    """What says the same in every equal answer."""
    own = ("x-request-id", "date")
    return {k.lower(): v for k, v in reply.headers.items() if k.lower() not in own}


# --- the matrix --------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [None, *Role], ids=lambda role: role or "stranger")
async def test_every_route_asks_for_its_role(house: House, role: Role | None) -> None:
    """A stranger has the highest role, but in another workspace."""
    token = await house.mint(f"local/{role.value}" if role else "elsewhere/admin")
    in_workspace = [r for r in guarded_routes(house) if "{workspace}" in r.path]
    assert len(in_workspace) > 20
    for route in in_workspace:
        reply = await house.api.send(route.verb, address_of(route, "local"), token=token)
        what = (route.verb, route.path, reply.status)
        says = reply.error["message"] if reply.body and "error" in reply.body else ""
        if role is None:
            assert reply.status == 404, what
            assert route.verb == "HEAD" or says == NOTHING, what
        elif not role.includes(LEAST_ROLE[route.needs]):
            assert reply.status == 403, what
            assert LEAST_ROLE[route.needs].value in says, what
        else:
            assert reply.status not in (401, 403), what
            assert says != NOTHING, what


async def test_paths_without_a_workspace_need_some_role(house: House) -> None:
    nobody, reader = await house.mint(), await house.mint("elsewhere/reader")
    for route in guarded_routes(house):
        if "{workspace}" in route.path:
            continue
        path = address_of(route, "")
        assert (await house.api.send(route.verb, path, token=nobody)).status == 403, route
        status = (await house.api.send(route.verb, path, token=reader)).status
        is_for_readers = LEAST_ROLE[route.needs] is Role.READER
        assert (status == 403) != is_for_readers, (route.verb, route.path, status)


async def test_sensitive_routes_are_guarded_as_they_should(house: House) -> None:
    found = {
        (route.verb, route.path.rpartition("/")[2]): LEAST_ROLE[route.needs]
        for route in guarded_routes(house)
    }
    assert {key: found[key] for key in GUARDED} == GUARDED
    for route in guarded_routes(house):
        if "{workspace}" in route.path:
            if route.verb in ("PUT", "PATCH"):
                limits = route.path.endswith("/quotas/{name}")
                assert route.needs is (Action.LIMIT if limits else Action.WRITE), route
            if route.verb == "DELETE":
                assert route.needs is Action.DELETE, route


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/onlineEndpoints/x"),
        ("PUT", "/onlineEndpoints/x"),
        ("DELETE", "/onlineEndpoints/x"),
        ("GET", ""),
        ("GET", "/no/such/thing"),
    ],
)
async def test_strangers_cannot_tell_what_there_is(house: House, verb: str, path: str) -> None:
    """The answer is that of a path that does not exist, to the last byte and header."""
    token = await house.mint("elsewhere/owner")
    expected = await house.api.send(verb, "/no/such/path", token=token)
    for workspace in ("local", "nowhere", "no%20name"):
        reply = await house.api.send(verb, workspace_path(workspace) + path, token=token)
        assert (reply.status, reply.raw) == (expected.status, expected.raw)
        assert shared_headers(reply) == shared_headers(expected)


# --- tokens that do not count ------------------------------------------------------------------


def _forged(token: str, key: Any, algorithm: str, **head: str) -> str:
    claims = jwt.decode(token, options={"verify_signature": False})
    kid = jwt.get_unverified_header(token)["kid"]
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid, **head})


async def test_tokens_that_do_not_count(house: House) -> None:
    good = await house.mint("*/admin")
    head, _, signature = good.split(".")
    more = base64.urlsafe_b64encode(
        json.dumps(
            jwt.decode(good, options={"verify_signature": False}) | {"sub": "admin"}
        ).encode()
    ).decode()
    stranger = Ed25519PrivateKey.generate()
    public = stranger.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    bad = {
        "another's key": _forged(good, stranger, "EdDSA"),
        "unknown kid": _forged(good, stranger, "EdDSA", kid="../../keys/x' OR 1=1"),
        "no signature": _forged(good, None, "none"),
        "symmetric": _forged(good, "s" * 64, "HS256"),
        "other claims": f"{head}.{more.rstrip('=')}.{signature}",
        "cut": good[:-1],
        "no token": "a.b.c",
        "for storage": await house.mint("*/admin", audience=STORAGE_AUDIENCE),
        "for scoring": await house.mint("*/admin", audience=endpoint_audience("digits")),
        "public key as text": public.decode().replace("\n", ""),
    }
    for name, token in bad.items():
        reply = await house.api.get(f"{HOME}/onlineEndpoints", token=token)
        assert reply.status == 401, name
        assert token.encode()[:40] not in reply.raw, name
    assert (await house.api.get("/whoami", token=good)).status == 200
    data = await house.mint("local/reader", audience=DATA_AUDIENCE)
    assert (await house.api.get(HOME, token=data)).status == 200


async def test_a_token_ends_when_it_says(house: House) -> None:
    token = await house.mint("local/reader", lifetime_s=0.001)

    # A few seconds are granted to clocks that differ.
    assert (await house.api.get(HOME, token=token)).status == 200
    async with asyncio.timeout(limits.TOKEN_LEEWAY_S + 10):
        while (await house.api.get(HOME, token=token)).status != 401:
            await asyncio.sleep(0.05)


async def test_the_method_cannot_be_overridden(house: House) -> None:
    token = await house.mint("local/reader")
    for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        reply = await house.api.get(f"{HOME}/onlineEndpoints", token=token, headers={header: "PUT"})
        assert reply.status == 200
    reply = await house.api.post(
        f"{HOME}/onlineEndpoints", token=token, headers={"X-HTTP-Method-Override": "GET"}
    )
    assert reply.status == 405


# --- credentials -------------------------------------------------------------------------------


async def test_whoami_tells_subject_grants_and_end(house: House) -> None:
    who = (await house.api.get("/whoami", token=await house.mint("a/reader", "b/owner"))).body
    assert who["grants"] == ["a/reader", "b/owner"]
    assert who["subject"] == "a/reader-b/owner"
    assert who["expiresAt"].endswith("Z")
    admin = (await house.api.get("/whoami", token=TOKEN)).body
    assert (admin["grants"], admin["expiresAt"]) == (["*/admin"], None)


@pytest.mark.parametrize("form", ["json", "form", "app service"])
async def test_a_credential_is_exchanged_for_a_short_lived_token(house: House, form: str) -> None:
    own = await house.mint("local/operator")
    if form == "json":
        given = {"resource": DATA_AUDIENCE, "lifetime_s": 120}
        reply = await house.api.post("/oauth2/token", given, token=own)
    elif form == "form":
        data = {"grant_type": "client_credentials", "scope": f"{DATA_AUDIENCE}/.default"}
        reply = await house.api.post("/oauth2/token", data=data, token=own)
    else:
        headers = {"X-IDENTITY-HEADER": own}
        path = f"/oauth2/token?resource={DATA_AUDIENCE}/&api-version=2019-08-01"
        reply = await house.api.get(path, token=None, headers=headers)
    assert reply.status == 200, reply.body
    assert reply.body["token_type"] == "Bearer"
    assert reply.body["resource"] == DATA_AUDIENCE
    assert reply.body["expires_in"] <= (120 if form == "json" else 3_600)
    who = (await house.api.get("/whoami", token=reply.body["access_token"])).body
    assert who["grants"] == ["local/operator"]


async def test_an_exchange_gives_no_more_than_there_was(house: House) -> None:
    short = await house.mint("local/operator", lifetime_s=60)
    reply = await house.api.post("/oauth2/token", {"lifetime_s": 3_600}, token=short)
    assert reply.body["expires_in"] <= 60
    assert reply.body["resource"] == CONTROL_AUDIENCE
    for body in (
        {"resource": "https://graph.microsoft.com"},
        {"lifetime_s": 1},
        {"lifetime_s": "x"},
    ):
        assert (await house.api.post("/oauth2/token", body, token=short)).status == 400
    assert (await house.api.post("/oauth2/token", {}, token=None)).status == 401
    assert (await house.api.post("/oauth2/token", {}, token="a.b.c")).status == 401


async def test_tokens_are_made_listed_and_revoked_on_every_gateway(house: House) -> None:
    owner = await house.mint("local/owner")
    body = {"name": "ci", "grants": ["local/operator"], "lifetime": "P1D"}
    made = await house.api.post("/access/tokens", body, token=owner)
    assert made.status == 201, made.body
    secret, token_id = made.body["token"], made.body["id"]
    assert made.body["createdBy"] == "local/owner"
    derived = (await house.api.post("/oauth2/token", {}, token=secret)).body["access_token"]
    listed = await house.api.get("/access/tokens", token=owner)
    assert token_id in [each["id"] for each in listed.body["value"]]
    assert secret.encode() not in listed.raw
    others = await house.api.get("/access/tokens", token=await house.mint("other/owner"))
    assert token_id not in [each["id"] for each in others.body["value"]]
    _, second = await house.open_gateway()
    for token in (secret, derived):
        assert (await second.get(HOME, token=token)).status == 200
    stranger = await house.mint("other/owner")
    missing = await house.api.delete("/access/tokens/none", token=stranger)
    refused = await house.api.delete(f"/access/tokens/{token_id}", token=stranger)
    assert refused.status == missing.status == 404
    assert refused.raw.replace(token_id.encode(), b"none") == missing.raw
    assert (await house.api.delete(f"/access/tokens/{token_id}", token=owner)).status == 204
    # The second gateway has heard of it from the bus alone.
    async with asyncio.timeout(limits.KEY_REVOCATION_S_MAX):
        for api in (second, house.api):
            for token in (secret, derived):
                while (await api.get(HOME, token=token)).status != 401:
                    await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("own", "given", "status"),
    [
        ("local/owner", "local/owner", 201),
        ("local/owner", "local/reader", 201),
        ("local/owner", "local/admin", 403),
        ("local/owner", "other/reader", 403),
        ("local/owner", "*/reader", 403),
        ("local/admin", "local/admin", 201),
        ("*/owner", "any-thing/owner", 201),
        ("*/owner", "*/admin", 403),
        ("local/operator", "local/reader", 403),
    ],
)
async def test_nobody_gives_more_than_they_have(
    house: House, own: str, given: str, status: int
) -> None:
    token = await house.mint(own)
    made = await house.api.post("/access/tokens", {"name": "abc", "grants": [given]}, token=token)
    assert made.status == status, made.body
    workspace = own.partition("/")[0].replace("*", "local")
    body = {"location": "local", "properties": {"grants": [given]}}
    path = f"{IDENTITIES}/abc?workspace={workspace}"
    put = await house.api.put(path, body, token=token)
    assert put.status == 403 if status == 403 else put.status in (200, 201), put.body


@pytest.mark.parametrize(
    ("body", "target"),
    [
        ({"grants": ["local/reader"]}, "/name"),
        ({"name": "abc"}, "/grants"),
        ({"name": "abc", "grants": []}, "/grants"),
        ({"name": "abc", "grants": ["local/king"]}, "/grants"),
        ({"name": "abc", "grants": ["/reader"]}, "/grants"),
        ({"name": "abc", "grants": "local/reader"}, "/grants"),
        ({"name": "abc", "grants": ["local/reader"], "lifetime": "P9999D"}, "/lifetime"),
        ({"name": "abc", "grants": ["local/reader"], "lifetime": 5}, "/lifetime"),
        ({"name": "abc", "grants": ["local/reader"], "token": "mine"}, "/token"),
    ],
)
async def test_a_bad_token_request_is_told_the_place(house: House, body: Any, target: str) -> None:
    reply = await house.api.post("/access/tokens", body)
    assert reply.status == 400
    assert reply.error["target"].lstrip("/") == target.lstrip("/")


async def test_identities_have_azures_form(house: House) -> None:
    body = {"location": "x", "tags": {"a": "1"}, "properties": {"grants": ["local/operator"]}}
    made = await house.api.put(f"{IDENTITIES}/robot", body)
    assert made.status == 201, made.body
    shown = (await house.api.get(f"{IDENTITIES}/robot")).body
    assert shown == made.body
    assert shown["type"] == "Microsoft.ManagedIdentity/userAssignedIdentities"
    assert shown["properties"]["grants"] == ["local/operator"]
    for name in ("principalId", "clientId", "tenantId"):
        assert re.fullmatch(r"[0-9a-f-]{36}", shown["properties"][name])
    listed = (await house.api.get(IDENTITIES)).body["value"]
    assert "robot" in [each["name"] for each in listed]
    assert (await house.api.get(f"{IDENTITIES}/robot?workspace=other")).status == 404
    assert (await house.api.delete(f"{IDENTITIES}/robot")).status == 200
    assert (await house.api.delete(f"{IDENTITIES}/robot")).status == 204


async def test_an_endpoint_says_who_it_is(house: House, unique: Unique) -> None:
    name, token = unique("ep"), await house.mint("local/operator")
    made = await house.api.put(f"{HOME}/onlineEndpoints/{name}", {}, token=token)
    identity = made.body["identity"]
    assert re.fullmatch(r"[0-9a-f-]{36}", identity["principalId"])
    claims = jwt.decode(token, options={"verify_signature": False})
    assert identity["tenantId"] == claims["tid"]
    listed = (await house.api.get(f"{HOME}/onlineEndpoints?name={name}")).body["value"]
    assert listed[0]["identity"] == identity
    echoed = await house.api.put(f"{HOME}/onlineEndpoints/{name}", made.body, token=token)
    assert echoed.status == 200, echoed.body


async def test_token_endpoints_hand_out_tokens_and_no_keys(house: House, unique: Unique) -> None:
    name, keyed = unique("ep"), unique("ep")
    body = {"properties": {"authMode": "AMLToken"}}
    assert (await house.api.put(f"{HOME}/onlineEndpoints/{name}", body)).status == 201
    assert (await house.api.put(f"{HOME}/onlineEndpoints/{keyed}", {})).status == 201
    operator = await house.mint("local/operator")
    reply = await house.api.post(f"{HOME}/onlineEndpoints/{name}/token", token=operator)
    assert reply.status == 200, reply.body
    assert set(reply.body) == {
        "accessToken", "tokenType", "expiryTimeUtc", "refreshAfterTimeUtc"
    }  # fmt: skip
    claims = jwt.decode(reply.body["accessToken"], options={"verify_signature": False})
    assert claims["aud"] == endpoint_audience(name)
    assert claims["roles"] == []
    assert claims["exp"] == reply.body["expiryTimeUtc"] > reply.body["refreshAfterTimeUtc"]
    keys = await house.api.post(f"{HOME}/onlineEndpoints/{name}/listKeys")
    assert (keys.status, keys.error["code"]) == (400, "BadArgument")
    assert "token" in keys.error["message"]
    refused = await house.api.post(f"{HOME}/onlineEndpoints/{keyed}/token")
    assert (refused.status, refused.error["code"]) == (400, "BadArgument")
    assert "listKeys" in refused.error["message"]


# --- wrong credentials -------------------------------------------------------------------------


async def test_an_address_with_many_wrong_credentials_has_to_wait(house: House) -> None:
    _, api = await house.open_gateway(failed_auth_per_minute=3)
    known, fresh = await house.mint("local/reader"), await house.mint("local/owner")
    assert (await api.get(HOME, token=known)).status == 200
    for _ in range(5):
        assert (await api.get(HOME, token=None)).status == 401, "no credential guesses nothing"
    statuses = [(await api.get(HOME, token=f"wrong-{n}")).status for n in range(5)]
    assert statuses == [401, 401, 401, 429, 429]
    blocked = await api.get(HOME, token=fresh)
    assert (blocked.status, blocked.error["code"]) == (429, "TooManyRequests")
    assert 1 <= int(blocked.headers["Retry-After"]) <= 60
    assert (await api.get(HOME, token=known)).status == 200, "what was good stays good"
    assert (await api.get("/livez", token=None)).status == 200


async def test_failures_leak_away_and_the_table_is_bounded() -> None:
    attempts = FailedAttempts(10, addresses_max=2)
    for _ in range(10):
        assert attempts.wait_s("a", 0.0) == 0
        attempts.note("a", 0.0)
    assert attempts.wait_s("a", 0.0) == pytest.approx(6.0)
    assert attempts.wait_s("b", 0.0) == 0
    assert attempts.wait_s("a", 6.0) == 0
    assert attempts.wait_s("a", -100.0) > 0, "a clock that goes back opens nothing"
    attempts.note("b", 1.0)
    attempts.note("c", 1.0)
    assert attempts.wait_s("a", 1.0) == 0, "forgotten for the newer ones"
    unlimited = FailedAttempts(0)
    unlimited.note("a", 0.0)
    assert unlimited.wait_s("a", 0.0) == 0


async def test_one_network_of_ipv6_counts_as_one_address() -> None:
    assert address_key("2001:db8::1") == address_key("2001:db8::ffff:1%eth0")
    assert address_key("2001:db8::1") != address_key("2001:db8:1::1")
    assert address_key("::ffff:10.0.0.1") == address_key("10.0.0.1") == "10.0.0.1"
    assert address_key("") == ""


async def test_events_without_a_workspace_are_for_those_who_see_everything() -> None:
    alice = Principal("alice", grants=read_grants(["alpha/reader"]))
    admin = Principal("root", grants=read_grants(["*/reader"]))
    assert may_see(alice, {"workspace": "alpha"})
    for hidden in ({"workspace": "beta"}, {"workspace": ""}, {}, None, "text", {"workspace": 1}):
        assert not may_see(alice, hidden)
        assert may_see(admin, hidden)


async def test_what_may_be_given_does_not_depend_on_what_there_is() -> None:
    alice = Principal("alice", grants=read_grants(["alpha/owner"]))
    texts = set()
    for name in ("beta", "nowhere"):
        with pytest.raises(HeadgateError) as raised:
            require_may_give(alice, read_grants([f"{name}/reader"]))
        assert raised.value.error.code is ErrorCode.FORBIDDEN
        texts.add(str(raised.value).replace(name, ""))
    assert len(texts) == 1


# --- the audit ---------------------------------------------------------------------------------


async def audit(house: House, workspace: str, count: int) -> list[dict[str, Any]]:
    """What it tells of a workspace, once it tells of so many requests."""
    path = f"/events?since=1h&follow=false&filter=audit.{workspace}.*"
    async with asyncio.timeout(10):
        while True:
            lines = (await house.api.get(path)).raw.decode().splitlines()
            told = [json.loads(line[6:])["data"] for line in lines if line.startswith("data: ")]
            if len(told) >= count:
                return told
            await asyncio.sleep(0.02)


async def test_whoever_tries_a_change_is_told_but_not_in_the_workspace_of_others(
    house: House,
) -> None:
    name = "audited.1"
    tokens = [await house.mint(f"{name}/{role}") for role in ("reader", "owner")]
    stranger = await house.mint("elsewhere/admin")
    path = f"{workspace_path(name)}/onlineEndpoints/audited-1"
    for token in (stranger, *tokens):
        await house.api.send("PUT", path, {"properties": {}}, token=token)
        await house.api.get(path, token=token)
    told = await audit(house, "audited_1", 2)
    assert [(each["by"], each["verb"], each["status"]) for each in told] == [
        (f"{name}/reader", "PUT", 403), (f"{name}/owner", "PUT", 201),
    ]  # fmt: skip
    assert {each["workspace"] for each in told} == {name}
    assert {each["path"] for each in told} == {"onlineEndpoints/audited-1"}
    assert all(each["address"] == "127.0.0.1" for each in told)


async def test_a_workspace_of_any_name_can_be_audited(house: House) -> None:
    path = f"{workspace_path('..odd()')}/onlineEndpoints/audited-2"
    reply = await house.api.send("DELETE", path)
    assert reply.status in (202, 204, 404)
    (told,) = await audit(house, "__odd__", 1)
    assert (told["by"], told["workspace"], told["status"]) == ("admin", "..odd()", reply.status)
