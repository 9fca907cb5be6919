"""Bad requests to the control API: every row of the table in reliability.md, section 4.1.

| Row | Where |
|---|---|
| broken JSON, BOM, UTF-16, surrogates, NaN, duplicate keys, depth, huge numbers | BODIES |
| wrong type, null, empty, 1 MB text per field | FIELDS |
| names | NAMES, and through the path: PATHS |
| traffic, mirrors | TRAFFIC |
| figures out of their limits | FIGURES |
| stale or missing If-Match | test_conditions.py |
| Idempotency-Key | test_idempotency.py |
| delete with live traffic, update while something runs | test_resources.py |
| content types, gzip bomb | CONTENT |
| page sizes, forged or foreign cursors | PAGES, test_a_cursor_serves_its_own_list_alone |
| another tenant's things | test_tenants.py |
| roles, wrong tokens of every kind | test_access.py, tests/runtime/test_tokens.py |
| verbs | VERBS |
| path tricks, long addresses | PATHS |
| request smuggling | RAW |
| secrets asked back | SECRETS |
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import logging
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from yarl import URL

from gateway.harness import TOKEN, WORKSPACE, Reply
from gateway.house import House, open_house
from headgate_contracts import limits

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENDPOINT = "~/onlineEndpoints/bad-inputs"
BLUE = f"{ENDPOINT}/deployments/blue"
KEY = "k" * 40
JSON = {"Content-Type": "application/json"}
OUR_FOLDERS = (Path.home(), tempfile.gettempdir(), sys.prefix, Path(__file__).parents[2])
LEAKS = re.compile(
    r'Traceback|File "|\.py\b|site-packages|sqlite|pydantic|'
    + "|".join(re.escape(f"{folder}/") for folder in OUR_FOLDERS),
    re.IGNORECASE,
)
# What the gateway says of its connection while other work holds it up; no request is to blame.
OF_THE_BUS = ("bus_error", "bus_disconnected", "bus_reconnected", "bucket_unreadable")


@dataclass(frozen=True)
class Bad:
    """A request, and status and code of the answer; ``target``: what its target begins with."""

    status: int
    code: str
    body: Any = None
    verb: str = "PUT"
    path: str = ENDPOINT
    raw: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    target: str | None = None


def invalid_json(raw: bytes) -> Bad:
    return Bad(400, "InvalidJson", raw=raw, headers=JSON)


BODIES = [
    invalid_json(raw)
    for raw in (
        b"",
        b"{",
        b"{'a': 1}",
        b'\xef\xbb\xbf{"tags": {}}',
        '{"tags": {}}'.encode("utf-16"),
        b'{"tags": {"a": "\\ud800"}}',
        b'{"tags": {"a": "\xed\xa0\x80"}}',
        b'{"tags": {"a": NaN}}',
        b'{"tags": {"a": Infinity}}',
        b'{"tags": {}, "tags": {}}',
        b"[" * 10_000 + b"]" * 10_000,
        b'{"tags": ' + b"9" * 1_000_000 + b"}",
        b'{"tags": 18446744073709551616}',
        b'{"tags": 1e400}',
        b'{"tags": -1e400}',
    )
]


def endpoint(status: int = 400, code: str = "BadArgument", /, **properties: Any) -> Bad:
    target = f"/properties/{next(iter(properties))}"
    return Bad(status, code, {"properties": properties}, target=target)


FIELDS = [
    Bad(400, "BadArgument", [], target=""),
    Bad(400, "BadArgument", 7, target=""),
    Bad(400, "BadArgument", {"tags": []}, target="/tags"),
    Bad(400, "BadArgument", {"tags": {"a": None}}, target="/tags/a"),
    Bad(400, "BadArgument", {"tags": {"a": "x" * 1_000_000}}, target="/tags"),
    Bad(400, "BadArgument", {"tags": {str(n): "" for n in range(51)}}, target="/tags"),
    Bad(400, "BadArgument", {"properties": "text"}, target="/properties"),
    Bad(400, "BadArgument", {"isAdmin": True}, target="/isAdmin"),
    endpoint(authMode=1),
    endpoint(authMode=""),
    endpoint(description="x" * 1_000_000),
    endpoint(isAdmin=True),
    Bad(400, "BadArgument", {"identity": {"type": "Root"}}, target="/identity/type"),
]

NAMES = [
    Bad(400, "InvalidName", {}, path=f"~/onlineEndpoints/{name}")
    for name in (
        "ab",
        "a" * 33,
        "1abc",
        "a--b",
        "ab-",
        "-ab",
        "a.b",
        "abc*",
        "abc%3E",
        "a%20b",
        "Abc",
        "%D0%B0bc",  # a Cyrillic look-alike
        "%EF%BD%81bc",  # full width
    )
]

_LIVE = {"blue": 100}
TRAFFIC = [
    endpoint(traffic={"blue": 99}),
    endpoint(traffic={"blue": 101}),
    endpoint(traffic={"blue": 60, "green": 41}),
    endpoint(traffic={"blue": -1, "green": 101}),
    endpoint(traffic={"blue": 33.3}),
    endpoint(traffic={"blue": "100"}),
    endpoint(traffic={"missing": 100}),
    endpoint(traffic={f"d-{n:03}": 5 for n in range(21)}),
    endpoint(mirrorTraffic={"green": 51}),
    endpoint(mirrorTraffic={"blue": 10, "green": 10}),
]


def deployment(pointer: str, value: Any) -> Bad:
    """A good deployment with one value put at a pointer."""
    body: dict[str, Any] = {"properties": {"endpointComputeType": "Managed"}}
    *parents, last = pointer.strip("/").split("/")
    at = body
    for step in parents:
        at = at.setdefault(step, {})
    at[last] = value
    return Bad(400, "BadArgument", body, path=BLUE, target=pointer)


FIGURES = [
    deployment("/sku/capacity", -1),
    deployment("/sku/capacity", limits.INSTANCES_PER_DEPLOYMENT_MAX + 1),
    deployment("/sku/capacity", 10**9),
    deployment("/sku/capacity", 1.5),
    deployment("/sku/capacity", True),
    deployment("/properties/requestSettings/requestTimeout", "PT0S"),
    deployment("/properties/requestSettings/requestTimeout", "PT180.001S"),
    deployment("/properties/requestSettings/requestTimeout", "5s"),
    deployment("/properties/requestSettings/requestTimeout", 5000),
    deployment("/properties/requestSettings/maxConcurrentRequestsPerInstance", 0),
    deployment("/properties/requestSettings/maxConcurrentRequestsPerInstance", 10**9),
    deployment("/properties/livenessProbe/period", "PT0S"),
    deployment("/properties/livenessProbe/failureThreshold", 0),
    deployment("/properties/scaleSettings/minInstances", -1),
    deployment("/properties/scaleSettings/maxInstances", 10**9),
    deployment("/properties/environmentVariables", {"HEADGATE_DATA": "x"}),
    deployment("/properties/environmentVariables", {"A=B": "x"}),
    deployment("/properties/model", "../../etc/passwd"),
    deployment("/properties/instanceType", 7),
]

_BOMB = gzip.compress(b" " * 100_000_000)
CONTENT = [
    Bad(415, "UnsupportedMediaType", raw=b"{}", headers=headers)
    for headers in (
        {"Content-Type": ""},
        {"Content-Type": "application/xml"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "multipart/form-data; boundary=" + "-" * 5_000},
        {"Content-Type": 'multipart/form-data; boundary="; x="'},
        {**JSON, "Content-Encoding": "br"},
    )
] + [
    Bad(415, "UnsupportedMediaType", raw=_BOMB, headers={**JSON, "Content-Encoding": "gzip"}),
    Bad(413, "PayloadTooLarge", raw=b" " * (limits.CONTROL_BODY_BYTES_MAX + 1), headers=JSON),
]

PAGES = [
    Bad(400, "BadArgument", verb="GET", path=f"{path}?{query}")
    for path in ("~/onlineEndpoints", f"{ENDPOINT}/deployments", "~/models")
    for query in (
        "$top=0",
        "$top=-1",
        "$top=1000000000",
        "$top=ten",
        "count=0",
        "$skip=-1",
        "$skip=99999999999999999999",
        "$skip=forged",
        f"$skip={'A' * 40}",
        "orderBy=chance",
    )
]

VERBS = [
    Bad(405, "MethodNotAllowed", verb=verb, path=path, headers=headers)
    for path in ("/", "/status", "~/onlineEndpoints", f"{ENDPOINT}/instances")
    for verb in ("PUT", "PATCH", "DELETE", "TRACE", "PROPFIND")
    for headers in ({}, {"X-HTTP-Method-Override": "GET"})
]

PATHS = (
    [
        Bad(404, "ResourceNotFound", verb="GET", path=path)
        for path in (
            f"{ENDPOINT}//",
            "~//onlineEndpoints",
            "~/./onlineEndpoints",
            "~/%2e%2e/onlineEndpoints",
            "~/%2e/onlineEndpoints",
            "~/onlineEndpoints;x=1",
            "/%2e%2e/%2e%2e/etc/passwd",
            f"{WORKSPACE}%20/onlineEndpoints",
        )
    ]
    + [
        Bad(400, "BadArgument", verb="GET", path=f"~/onlineEndpoints/{name}")
        for name in ("%00", "a%0d%0ab", "a%2fb", "a%5cb", "%ff", "..%2f..%2fkeys")
    ]
    + [
        Bad(414, "UriTooLong", verb="GET", path=f"/?{'a' * length}")
        for length in (limits.URL_BYTES_MAX, 3 * limits.URL_BYTES_MAX, 65_536)
    ]
)

ROWS = {
    f"{kind}-{number}": bad
    for kind, rows in {
        "bodies": BODIES,
        "fields": FIELDS,
        "names": NAMES,
        "traffic": TRAFFIC,
        "figures": FIGURES,
        "content": CONTENT,
        "pages": PAGES,
        "verbs": VERBS,
        "paths": PATHS,
    }.items()
    for number, bad in enumerate(rows)
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    """With an endpoint whose keys are known."""
    async with open_house() as house:
        keys = {"primaryKey": KEY, "secondaryKey": f"{KEY}2"}
        body = {"properties": {"authMode": "Key", "keys": keys}}
        assert (await house.api.put(ENDPOINT, body)).status == 201
        yield house


async def send(house: House, bad: Bad) -> Reply:
    options: dict[str, Any] = {"headers": dict(bad.headers)}
    if bad.raw is not None:
        options["data"] = io.BytesIO(bad.raw)
    url = URL(house.api.url(bad.path), encoded=True)
    headers = {"Authorization": f"Bearer {TOKEN}", **bad.headers}
    if bad.raw is None and bad.body is not None:
        options |= {"json": bad.body}
    if bad.headers.get("Content-Type") == "":
        del headers["Content-Type"]
        options["skip_auto_headers"] = ["Content-Type"]
    options["headers"] = headers
    async with house.session.request(bad.verb, url, **options) as response:
        raw = await response.read()
        return Reply(response.status, response.headers, raw, json.loads(raw))


@pytest.mark.parametrize("name", ROWS)
async def test_a_bad_request_is_refused_politely(
    house: House, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad = ROWS[name]
    before = await revision(house)
    caplog.clear()
    with caplog.at_level(logging.INFO, "headgate.gateway"):
        reply = await send(house, bad)
    assert (reply.status, reply.error["code"]) == (bad.status, bad.code), reply.raw[:500]
    if bad.target is not None:
        assert reply.error["target"].startswith(bad.target)
    assert_is_an_error(reply)
    request_id = reply.headers["x-request-id"]
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if line not in OF_THE_BUS] in (
        ["request"],
        ["malformed_request"],
    )
    if reply.status == 405:
        assert reply.headers["Allow"]
    again = await send(house, bad)
    assert again.body == reply.body
    assert again.headers["x-request-id"] != request_id
    assert await revision(house) == before


async def revision(house: House) -> str:
    """Of the endpoint, which no bad request changes."""
    found = await house.api.get(ENDPOINT)
    assert found.status == 200, found.raw
    return str(found.headers["ETag"])


def assert_is_an_error(reply: Reply) -> None:
    """Azure's form, small, and without anything of ours in it."""
    assert reply.body.keys() == {"error"}
    assert reply.error.keys() == {"code", "message", "target", "details", "additionalInfo"}
    assert len(reply.raw) < 16_000
    text = reply.raw.decode()
    assert not LEAKS.search(text), text
    assert TOKEN not in text
    assert KEY not in text
    assert re.fullmatch("[0-9a-f]{32}", reply.headers["x-request-id"])
    assert reply.headers["Content-Type"].startswith("application/json")


# --- bytes that other parsers understand differently -------------------------------------------

_HEAD = b"%s " + f"{WORKSPACE}/onlineEndpoints/abc/listKeys HTTP/1.1\r\nHost: a\r\n".encode()
_SMUGGLED = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
RAW = {
    "content-length and chunked": (
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "two content-lengths": b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
    "two equal content-lengths": b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "a list of content-lengths": b"Content-Length: 0, 5\r\n\r\n",
    "a signed content-length": b"Content-Length: +0\r\n\r\n",
    "a negative content-length": b"Content-Length: -1\r\n\r\n",
    "a content-length in hex": b"Content-Length: 0x1\r\n\r\n",
    "an unknown transfer-encoding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a bad chunk size": b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
    "bare line feeds": b"X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bare carriage return": b"X: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded header": b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n",
    "a space before the colon": b"Content-Length : 0\r\n\r\n",
    "a NUL in a value": b"X: a\x00b\r\n\r\n",
    "a header without a name": b": a\r\n\r\n",
    "two hosts": b"Host: b\r\n\r\n",
}


@pytest.mark.parametrize("name", RAW)
async def test_ambiguous_bytes_are_refused_and_the_connection_is_closed(
    house: House, name: str
) -> None:
    answer = await exchange(house, _HEAD % b"POST" + RAW[name] + _SMUGGLED)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 ")), answer
    assert len(re.findall(rb"HTTP/1\.[01] \d{3} ", answer)) == 1, answer
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"x-request-id" in head.lower()
    assert json.loads(body)["error"].keys() >= {"code", "message", "additionalInfo"}
    assert not LEAKS.search(body.decode())


async def test_a_verb_that_http_does_not_know_is_refused(house: House) -> None:
    answer = await exchange(house, _HEAD % b"BREW" + b"\r\n" + _SMUGGLED)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 ")), answer


async def exchange(house: House, raw: bytes) -> bytes:
    """Everything that comes back until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.gateway.listener.port)
    try:
        writer.write(raw)
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


# --- secrets asked back ------------------------------------------------------------------------


async def test_keys_are_told_by_list_keys_alone(house: House) -> None:
    for reply in (
        await house.api.get(ENDPOINT),
        await house.api.get("~/onlineEndpoints"),
        await house.api.put(ENDPOINT, {"tags": {}}),
        await house.api.patch(ENDPOINT, {"tags": {}}),
        await house.api.post(f"{ENDPOINT}/regenerateKeys", {"keyType": "Secondary"}),
    ):
        assert reply.status == 200, reply.raw
        assert KEY.encode() not in reply.raw
        assert b"primaryKey" not in reply.raw
    reader = await house.mint("local/reader")
    assert (await house.api.post(f"{ENDPOINT}/listKeys", token=reader)).status == 403


async def test_a_cursor_serves_its_own_list_alone(house: House) -> None:
    for name in ("one-more", "two-more"):
        assert (await house.api.put(f"~/onlineEndpoints/{name}", {})).status == 201
    link = (await house.api.get("~/onlineEndpoints?$top=1")).body["nextLink"]
    cursor = URL(link).query["$skip"]
    assert (await house.api.get(f"~/onlineEndpoints?$top=1&$skip={cursor}")).status == 200
    elsewhere = WORKSPACE.replace("/local", "/elsewhere")
    for path in ("~/batchEndpoints", f"{elsewhere}/onlineEndpoints"):
        reply = await house.api.get(f"{path}?$top=1&$skip={cursor}")
        assert reply.status == 400, (path, cursor)
        assert_is_an_error(reply)
