"""The HTTP edge as a server of HTTP/1.1: what it must understand, and what it must never guess."""

from __future__ import annotations

import asyncio
import http.client
import re
import shutil
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import requests

from headgate.router import http1
from headgate_contracts import limits
from router.stage import KEY, Instance, Stage, until

Names = Callable[[str], str]
Served = tuple[str, Instance]
PACKAGES = {"curl": "curl", "wrk": "wrk", "h2load": "nghttp2-client"}
SECOND = b"GET /livez HTTP/1.1\r\nHost: smuggled\r\n\r\n"


@pytest_asyncio.fixture
async def served(stage: Stage, unique: Names) -> Served:
    name = unique("ep")
    await stage.route(name, {"blue": 100}, concurrency=4)
    return name, await stage.instance(name, capacity=4)


def block(endpoint: str, *lines: str, end: str = "\r\n") -> bytes:
    """A header block for the endpoint, with its key; ``end`` ends its lines."""
    first = f"POST /api/v1/endpoint/{endpoint}/score HTTP/1.1"
    said = [first, "Host: router.test", f"Authorization: Bearer {KEY}", *lines]
    return (end.join(said) + end + end).encode("latin-1")


def plain(endpoint: str, body: bytes, *lines: str) -> bytes:
    return block(endpoint, f"Content-Length: {len(body)}", *lines) + body


# What is not HTTP/1.1, or means two things


AMBIGUOUS = {
    "two lengths that agree": ("Content-Length: 0\r\nContent-Length: 0", b""),
    "a list of lengths": ("Content-Length: 0, 0", b""),
    "a signed length": ("Content-Length: +0", b""),
    "a length in hexadecimal": ("Content-Length: 0x0", b""),
    "a length too large for its type": (f"Content-Length: {10**30}", b""),
    "an empty length": ("Content-Length: ", b""),
    "length and chunks": ("Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
    "chunks and length": ("Transfer-Encoding: chunked\r\nContent-Length: 5", b"0\r\n\r\n"),
    "an unknown coding": ("Transfer-Encoding: cow", b"0\r\n\r\n"),
    "chunked not last": ("Transfer-Encoding: chunked, cow", b"0\r\n\r\n"),
    "a coding with a control": ("Transfer-Encoding: \x0bchunked", b"0\r\n\r\n"),
    "a coding after a bare CR": ("X: 1\rTransfer-Encoding: chunked\r\nContent-Length: 0", b""),
    "a coding after a bare LF": ("X: 1\nTransfer-Encoding: cow\r\nContent-Length: 0", b"0\r\n\r\n"),
    "an unknown coding beside an upgrade": (
        "Connection: upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: cow",
        b"0\r\n\r\n",
    ),
    "length and chunks beside an upgrade": (
        "Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        b"0\r\n\r\n",
    ),
    "a tab before the colon": ("Content-Length\t: 0", b""),
    "a space in a name": ("Content Length: 0", b""),
    "a header without a colon": ("Content-Length", b""),
    "a header without a name": (": 1\r\nContent-Length: 0", b""),
    "a folded header": ("X: 1\r\n Content-Length: 5\r\nContent-Length: 0", b""),
    "a NUL in a value": ("X: \0\r\nContent-Length: 0", b""),
    "two hosts": ("Host: another.test\r\nContent-Length: 0", b""),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
async def test_what_could_be_read_in_two_ways_is_not_read_at_all(
    stage: Stage, served: Served, case: str
) -> None:
    lines, body = AMBIGUOUS[case]
    wire = await stage.wire()
    await wire.send(block(served[0], lines) + body + SECOND)
    assert (await wire.receive()).status == 400
    assert await wire.at_end() == b"", "what follows is never taken for a request"
    assert served[1].runs == []


CHUNKS = {
    "a size that is none": b"zz\r\nhi\r\n0\r\n\r\n",
    "a negative size": b"-1\r\nhi\r\n0\r\n\r\n",
    "a size beyond its type": b"fffffffffffffffff\r\nhi\r\n0\r\n\r\n",
    "more bytes than said": b"1\r\nhi\r\n0\r\n\r\n",
    "fewer bytes than said": b"3\r\nhi\r\n0\r\n\r\n",
    "a bare LF after the size": b"2\nhi\r\n0\r\n\r\n",
    "extensions without end": b"2;" + b"x" * 2_000_000 + b"\r\nhi\r\n0\r\n\r\n",
    "trailers without end": b"0\r\n" + b"X: y\r\n" * 400_000 + b"\r\n",
}


@pytest.mark.parametrize("case", CHUNKS)
async def test_broken_chunks_are_refused(stage: Stage, served: Served, case: str) -> None:
    wire = await stage.wire()
    await wire.send(block(served[0], "Transfer-Encoding: chunked"))
    try:
        await wire.send(CHUNKS[case] + SECOND)
        assert (await wire.receive()).status in (400, 431)
    except ConnectionError:
        pass  # it has closed on what still came
    assert b"200 OK" not in await wire.at_end()
    assert served[1].runs == []


@pytest.mark.parametrize(
    ("first", "statuses"),
    [
        ("post /livez HTTP/1.1", {400}),
        ("GET /livez HTTP/1.1 ", {400}),
        ("GET /livez HTTP/1.2", {400}),
        ("GET /livez HTTP/2.0", {505}),
        ("GET /livez HTTP/1", {400}),
        ("GET /li\0vez HTTP/1.1", {400}),
        ("CONNECT example.test:443 HTTP/1.1", {400, 404, 405}),
        ("OPTIONS * HTTP/1.1", {400, 404}),
        ("GET " + "/" + "x" * 70_000 + " HTTP/1.1", {414, 431}),
        ("BREW /livez HTTP/1.1", {400, 405}),
    ],
)
async def test_odd_request_lines_get_an_answer(
    stage: Stage, first: str, statuses: set[int]
) -> None:
    wire = await stage.wire()
    await wire.send(f"{first}\r\nHost: h\r\n\r\n".encode("latin-1"))
    assert (await wire.receive()).status in statuses


@pytest.mark.parametrize(
    "path",
    [
        "//score",
        "/./score",
        "/../score",
        "/%2e%2e/score",
        "/score/../../x",
        "/score%00",
        "/score;x",
        "/*/score",
        "/>/score",
        "/",
        "",
    ],
)
async def test_path_tricks_lead_nowhere(stage: Stage, served: Served, path: str) -> None:
    wire = await stage.wire()
    url = f"/api/v1/endpoint/{served[0]}{path}"
    said = f"POST {url} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {KEY}\r\n"
    await wire.send(f"{said}Content-Length: 0\r\n\r\n".encode())
    assert (await wire.receive()).status == 404
    assert served[1].runs == []


# What is, however it comes


async def test_a_request_in_single_bytes_is_one_request(stage: Stage, served: Served) -> None:
    wire = await stage.wire()
    for byte in plain(served[0], b"{}", "X-A: b"):
        await wire.send(bytes([byte]))
    answer = await wire.receive()
    assert (answer.status, answer.body, len(served[1].runs)) == (200, b"{}", 1)


async def test_many_pipelined_requests_are_answered_in_order(stage: Stage, served: Served) -> None:
    """Also with refusals between them; reading pauses while too many wait."""
    wire = await stage.wire()
    count = 5 * http1._PIPELINED_MAX
    wrong = block("nobody", "Content-Length: 1") + b"x"
    sent = b"".join(wrong if n % 7 == 3 else plain(served[0], b"%d" % n) for n in range(count))
    await wire.send(sent)
    for n in range(count):
        answer = await wire.receive()
        expected = (404, None) if n % 7 == 3 else (200, b"%d" % n)
        assert (answer.status, answer.body if answer.status == 200 else None) == expected


async def test_a_connection_is_kept_after_a_refusal(stage: Stage, served: Served) -> None:
    wire = await stage.wire()
    for body in (b"x" * 10_000, b""):
        await wire.send(block("nobody", f"Content-Length: {len(body)}") + body)
        assert (await wire.receive()).status == 404
    await wire.send(plain(served[0], b"still"))
    assert (await wire.receive()).body == b"still"


async def test_a_client_that_asks_to_close_is_closed(stage: Stage, served: Served) -> None:
    wire = await stage.wire()
    await wire.send(plain(served[0], b"1", "Connection: close") + plain(served[0], b"2"))
    answer = await wire.receive()
    assert (answer.body, answer.headers["connection"]) == (b"1", "close")
    assert await wire.at_end() == b""


async def test_an_answer_to_head_has_no_body(stage: Stage) -> None:
    wire = await stage.wire()
    await wire.send(
        b"HEAD /livez HTTP/1.1\r\nHost: h\r\n\r\nGET /livez HTTP/1.1\r\nHost: h\r\n\r\n"
    )
    head = await wire.receive(body=False)
    assert (head.status, head.headers["content-length"]) == (200, "3")
    assert (await wire.receive()).body == b"ok\n"


async def test_a_client_that_breaks_off_its_body_runs_nothing(stage: Stage, served: Served) -> None:
    wire = await stage.wire()
    await wire.send(block(served[0], "Content-Length: 100") + b"x" * 50)
    await wire.close()
    assert (await stage.ask(served[0])).status == 200
    assert [run.body for run in served[1].runs] == [b"{}"]


# Clients that are slow


@pytest.mark.parametrize("part", [b"POST /x HT", b"POST /x HTTP/1.1\r\nX: "])
async def test_headers_that_never_end_are_408(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, part: bytes
) -> None:
    monkeypatch.setattr(http1, "HEAD_TIMEOUT_S", 0.1)
    wire = await stage.wire()
    await wire.send(part)
    assert (await wire.receive()).status == 408
    await wire.at_end()


async def test_a_body_that_stops_is_408_and_takes_no_slot(
    stage: Stage, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http1, "BODY_IDLE_TIMEOUT_S", 0.1)
    wire = await stage.wire()
    await wire.send(block(served[0], "Content-Length: 10") + b"x")
    assert stage.seen(served[1]).in_flight == 0
    assert (await wire.receive()).status == 408
    await wire.at_end()
    assert served[1].runs == []


async def test_an_idle_connection_is_closed_without_a_word(
    stage: Stage, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http1, "KEEP_ALIVE_S", 0.1)
    wire = await stage.wire()
    await wire.send(plain(served[0], b"1"))
    assert (await wire.receive()).status == 200
    assert await wire.at_end() == b""


async def test_a_client_that_does_not_read_is_cut_off(
    stage: Stage, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers fill the buffers; then it is closed, and nothing of it stays."""
    monkeypatch.setattr(http1, "STALLED_TIMEOUT_S", 0.1)
    wire = await stage.wire()
    await until(lambda: stage.router.ingress._connections, "it is connected")
    body = b"x" * (limits.SCORING_BODY_BYTES_MAX // 2)
    with_sends: list[asyncio.Task[None]] = []
    for _ in range(8):
        with_sends.append(asyncio.create_task(wire.send(plain(served[0], body))))
    await until(lambda: not stage.router.ingress._connections, "it is closed", timeout_s=30)
    await asyncio.gather(*with_sends, return_exceptions=True)
    assert (await stage.ask(served[0])).status == 200


# Clients that people use


async def test_clients_of_python_get_along(stage: Stage, served: Served) -> None:
    url = f"http://127.0.0.1:{stage.router.ingress.port}/api/v1/endpoint/{served[0]}/score"
    headers = {"Authorization": f"Bearer {KEY}"}

    async def parts() -> Any:
        yield b"in "
        yield b"parts"

    async with aiohttp.ClientSession(headers=headers) as session:
        for data, expected in ((b"whole", b"whole"), (parts(), b"in parts")):
            async with session.post(url, data=data, expect100=True) as answer:
                assert (answer.status, await answer.read()) == (200, expected)

    def standard_library() -> list[bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", stage.router.ingress.port, timeout=20)
        found = []
        for body in (b"one", b"two", iter([b"chunk", b"ed"])):
            connection.request("POST", url, body, headers, encode_chunked=not hasattr(body, "find"))
            found.append(connection.getresponse().read())
        connection.close()
        return found

    def by_requests() -> list[bytes]:
        with requests.Session() as session:
            session.headers.update(headers)
            bodies = (b"one", b"two", iter([b"chunk", b"ed"]))
            return [session.post(url, data=body, timeout=20).content for body in bodies]

    assert await asyncio.to_thread(standard_library) == [b"one", b"two", b"chunked"]
    assert await asyncio.to_thread(by_requests) == [b"one", b"two", b"chunked"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("curl -sS -f --data-binary by-curl", "^by-curl$"),
        ("curl -sS -f --data-binary by-curl -H Expect:100-continue", "^by-curl$"),
        ("curl -sS -f --http1.0 --data-binary by-curl", "^by-curl$"),
        # It asks for an upgrade, and takes it that there is none.
        ("curl -sS -f --http2 --data-binary by-curl", "^by-curl$"),
        ("wrk -t1 -c4 -d1s", r"(?!.*(Non-2xx|Socket errors)).*\b[1-9]\d* requests in"),
        ("h2load --h1 -n40 -c4", r".*status codes: 40 2xx, 0 3xx, 0 4xx, 0 5xx"),
        ("h2load --h1 -n40 -c4 -m4 -d /etc/hostname", r".*status codes: 40 2xx"),
    ],
)
async def test_programs_of_the_shell_get_along(
    stage: Stage, served: Served, command: str, said: str
) -> None:
    program, *arguments = command.split()
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (Debian: {PACKAGES[program]})")
    url = f"http://127.0.0.1:{stage.router.ingress.port}/api/v1/endpoint/{served[0]}/score"
    process = await asyncio.create_subprocess_exec(
        program, *arguments, "-H", f"Authorization: Bearer {KEY}", url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    assert re.match(said, output, re.DOTALL), output
