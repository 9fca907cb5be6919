"""What holds for every route: token first, then the path, then the body; errors without leaks."""

from __future__ import annotations

import asyncio
import io
import json
import re
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from yarl import URL

from gateway.harness import TOKEN, Api, Connect
from headgate.gateway import app
from headgate.gateway.app import GatewayService
from headgate.gateway.system import System
from headgate.runtime import tls
from headgate.runtime.clock import SystemClock
from headgate.runtime.settings import Settings
from headgate_contracts import limits
from headgate_contracts.errors import HeadgateError

VERBS = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE")
PUBLIC = {"/livez", "/readyz", "/discovery"}
ENDPOINT = "~/onlineEndpoints/digits"


def paths(document: dict[str, Any]) -> list[str]:
    return [re.sub(r"\{\w+\}", "a" * 64, path) for path in document["paths"]]


async def test_every_route_and_verb_needs_the_token(api: Api) -> None:
    document = (await api.get("/openapi.json")).body
    assert len(document["paths"]) > 20
    for path in [*paths(document), "/nothing/here"]:
        for verb in VERBS:
            for token in (None, "", "wrong", TOKEN + "x", TOKEN[:-1]):
                reply = await api.send(verb, path, token=token)
                expected = 200 if path in PUBLIC and verb == "GET" else 401
                assert reply.status == expected, (verb, path)


@pytest.mark.parametrize("header", ["", "Bearer", "Basic {}", "Bearer  ", "{}", "Bearer é"])
async def test_a_malformed_authorization_is_refused(api: Api, header: str) -> None:
    headers = {"Authorization": header.format(TOKEN)}
    reply = await api.get("/", token=None, headers=headers)
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"].startswith("Bearer")
    assert reply.error["code"] == "Unauthorized"


async def test_health_is_open_and_true(api: Api) -> None:
    assert (await api.get("/livez", token=None)).body == {"status": "alive"}
    assert (await api.get("/readyz", token=None)).body == {"status": "ready"}


async def test_a_gateway_without_token_does_not_start(settings: Settings, connect: Connect) -> None:
    (settings.keys_dir / app.TOKEN_FILE).write_text("\n")
    with pytest.raises(HeadgateError, match="no admin token"):
        await app.build(settings, await connect("gateway"), SystemClock(), tls=None, scoring_url="")


async def test_a_taken_port_is_named(
    gateway: GatewayService, settings: Settings, connect: Connect
) -> None:
    taken = settings.model_copy(update={"port": gateway.listener.port})
    second = await app.build(
        taken, await connect("gateway"), SystemClock(), tls=None, scoring_url=""
    )
    with pytest.raises(HeadgateError, match=f"port {gateway.listener.port}"):
        await second.start()


async def test_ids_and_headers_of_every_answer(api: Api) -> None:
    given = {"x-ms-client-request-id": "abc-123"}
    for path in ("/", "/livez", "/nothing"):
        reply = await api.get(path, headers=given)
        assert re.fullmatch("[0-9a-f]{32}", reply.headers["x-request-id"])
        assert reply.headers["x-ms-client-request-id"] == "abc-123"
        assert reply.headers["Cache-Control"] == "no-store"
        assert "Server" not in reply.headers


@pytest.mark.parametrize("value", ["x" * 101, "a b", "é"])
async def test_an_odd_client_request_id_is_not_echoed(api: Api, value: str) -> None:
    reply = await api.get("/", headers={"x-ms-client-request-id": value})
    assert reply.status == 200
    assert "x-ms-client-request-id" not in reply.headers


@pytest.mark.parametrize("path", ["/", "/openapi.json", "/livez", ENDPOINT, "~/uploads/x/y"])
async def test_a_wrong_verb_is_405_and_names_the_right_ones(api: Api, path: str) -> None:
    for verb in ("TRACE", "OPTIONS", "PROPFIND"):
        reply = await api.send(verb, path, headers={"X-HTTP-Method-Override": "GET"})
        assert reply.status == 405
        assert "GET" in reply.headers["Allow"]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (f"{ENDPOINT}//", 404),
        ("~//onlineEndpoints", 404),
        ("~/./onlineEndpoints", 404),
        ("~/x/../onlineEndpoints", 404),
        ("~/x/%2e%2e/onlineEndpoints", 404),
        ("~/onlineEndpoints/%00", 400),
        ("~/onlineEndpoints/a%0d%0ab", 400),
        ("~/onlineEndpoints/a%2fb", 400),
        ("~/onlineEndpoints/a%5cb", 400),
        ("~/onlineEndpoints/%ff", 400),
        ("~/onlineEndpoints;x=1", 404),
        ("/subscriptions/s", 404),
        ("/%2e%2e/%2e%2e/etc/passwd", 404),
    ],
)
async def test_path_tricks_lead_nowhere(api: Api, target: str, status: int) -> None:
    async with api.session.get(
        URL(api.url(target), encoded=True), headers={"Authorization": f"Bearer {TOKEN}"}
    ) as reply:
        assert reply.status == status
        assert "error" in await reply.json()


async def test_arm_paths_match_whatever_their_case(api: Api) -> None:
    path = "/SUBSCRIPTIONS/s/resourcegroups/g/providers/microsoft.machinelearningservices"
    reply = await api.get(f"{path}/Workspaces/LOCAL?api-version=2022-02-01-preview")
    assert reply.status == 200
    assert reply.body["name"] == "local"


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "Expecting value"),
        (b"{", "line 1"),
        (b'\xef\xbb\xbf{"tags": {}}', "byte order mark"),
        ('{"tags": {}}'.encode("utf-16"), "UTF-8"),
        (b'{"tags": {"a": "\\ud800"}}', "surrogate"),
        (b'{"tags": {"a": NaN}}', "NaN"),
        (b'{"tags": {"a": -Infinity}}', "Infinity"),
        (b'{"tags": {}, "tags": {}}', "twice"),
        (b"[" * 10_000 + b"]" * 10_000, "nested"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nested"),
        (b'{"tags": ' + b"9" * 1_000_000 + b"}", "64 bits"),
        (b'{"tags": 18446744073709551616}', "64 bits"),
        (b'{"tags": 1e400}', "64-bit float"),
        (b'{"tags": {"a": "\x01"}}', "control character"),
        (b'{"a": 1} {"b": 2}', "Extra data"),
        (b"{'a': 1}", "line 1"),
        (b'{"a": 01}', "line 1"),
    ],
)
async def test_broken_json_is_told_what_is_wrong(api: Api, raw: bytes, says: str) -> None:
    headers = {"Content-Type": "application/json"}
    reply = await api.put(ENDPOINT, data=raw, headers=headers)
    assert reply.status == 400
    assert reply.error["code"] == "InvalidJson"
    assert says in reply.error["message"]


async def test_depth_counts_brackets_and_not_texts(api: Api) -> None:
    raw = b'{"surprise": "' + b"[{" * 500 + b'"}'
    reply = await api.put(ENDPOINT, data=raw, headers={"Content-Type": "application/json"})
    assert reply.error["target"] == "/surprise"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/xml"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "multipart/form-data; boundary=--"},
        {"Content-Type": ""},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
async def test_only_plain_json_is_read(api: Api, headers: dict[str, str]) -> None:
    reply = await api.put(ENDPOINT, data=b"\x1f\x8b{}", headers=headers)
    assert reply.status == 415
    assert reply.error["code"] == "UnsupportedMediaType"


async def test_a_body_that_is_too_large_is_refused_announced_or_not(api: Api) -> None:
    size = limits.CONTROL_BODY_BYTES_MAX + 1
    headers = {"Content-Type": "application/json"}
    announced = await api.put(ENDPOINT, data=io.BytesIO(b" " * size), headers=headers)
    assert announced.status == 413

    async def chunks() -> Any:
        for _ in range(size // 65_536 + 1):
            yield b" " * 65_536

    assert (await api.put(ENDPOINT, data=chunks(), headers=headers)).status == 413


@pytest.mark.parametrize(
    ("body", "target"),
    [
        ([], ""),
        ("text", ""),
        ({"surprise": 1}, "/surprise"),
        ({"properties": {"isAdmin": True}}, "/properties/isAdmin"),
        ({"properties": {"traffic": {"blue": "x"}}}, "/properties/traffic/blue"),
        ({"tags": {"a": "x" * 1_000_000}}, "/tags"),
        ({"properties": {"authMode": "none"}}, "/properties/authMode"),
    ],
)
async def test_a_bad_body_is_told_the_place(api: Api, body: Any, target: str) -> None:
    reply = await api.put(ENDPOINT, body)
    assert reply.status == 400
    assert reply.error["target"] == target
    assert len(reply.raw) < 4_000


@pytest.mark.parametrize(
    "name", ["ab", "a" * 33, "1abc", "a--b", "ab-", "a.b", "*", "%20abc", "Abc"]
)
async def test_a_bad_name_is_refused(api: Api, name: str) -> None:
    reply = await api.put(f"~/onlineEndpoints/{name}", {})
    assert reply.status == 400
    assert reply.error["code"] == "InvalidName"


async def test_nobody_behind_the_gateway_is_503_with_a_hint_when_to_come_back(api: Api) -> None:
    reply = await api.get(ENDPOINT)
    assert reply.status == 503
    assert reply.headers["Retry-After"] == "1"
    assert reply.error["additionalInfo"][0]["info"] == {"number": 1002, "blame": "busy"}


async def test_a_failure_of_ours_shows_its_id_and_nothing_else(
    api: Api, gateway: GatewayService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> Any:
        raise RuntimeError("secret /path/to/file")

    monkeypatch.setattr(System, "_count", fail)
    reply = await api.get("/status")
    assert reply.status == 500
    assert reply.headers["x-request-id"] in reply.error["message"]
    assert b"secret" not in reply.raw
    assert b"Traceback" not in reply.raw


async def test_the_document_names_every_route_once(api: Api, gateway: GatewayService) -> None:
    document = (await api.get("/openapi.json")).body
    table = gateway.table
    described = {
        (verb.upper(), path) for path, verbs in document["paths"].items() for verb in verbs
    }
    assert described == {(route.verb, route.path.replace("...}", "}")) for route in table.routes}
    ids = [
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    ]
    assert len(ids) == len(set(ids))
    deployment = next(p for p in document["paths"] if p.endswith("/deployments/{deployment}"))
    body = document["paths"][deployment]["put"]["requestBody"]["content"]["application/json"]
    capacity = body["schema"]["properties"]["sku"]["properties"]["capacity"]
    assert capacity["maximum"] == limits.INSTANCES_PER_DEPLOYMENT_MAX
    assert body["schema"]["additionalProperties"] is False


@pytest.mark.parametrize(
    "raw",
    [
        b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 65_536 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_bytes_that_are_no_http_are_refused_in_our_own_words(
    gateway: GatewayService, raw: bytes
) -> None:
    """The connection is closed, so nothing can be smuggled behind the refused bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.listener.port)
    try:
        writer.write(raw)
        answer = await reader.read()
    finally:
        writer.close()
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"server:" not in head.lower()
    assert b"x-request-id" in head.lower()
    assert json.loads(body)["error"]["code"] == "InvalidMessage"


async def test_the_gateway_speaks_tls_with_the_installations_own_certificate(
    settings: Settings, connect: Connect
) -> None:
    files = tls.ensure(settings.tls_dir, now=datetime.now(UTC))
    service = await app.build(
        settings,
        await connect("gateway"),
        SystemClock(),
        tls=files.server_context(),
        scoring_url="https://127.0.0.1:1/",
    )
    await service.start()
    connector = aiohttp.TCPConnector(ssl=tls.client_context(files.ca))
    async with aiohttp.ClientSession(connector=connector) as session:
        reply = await Api(session, service.listener.url).get("/")
    await service.stop()
    assert reply.body["api"].startswith("https://127.0.0.1:")
    assert reply.body["scoring"] == "https://127.0.0.1:1"
    assert reply.headers["Strict-Transport-Security"].startswith("max-age=")


async def test_a_strange_host_header_never_comes_back_in_an_address(api: Api) -> None:
    for host in ("evil.example/path", "a b", "<script>"):
        reply = await api.get("/", headers={"Host": host})
        assert reply.status == 400
        assert host.encode() not in reply.raw
