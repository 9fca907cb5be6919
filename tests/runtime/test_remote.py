"""Which web servers may be read, and how much of what they send."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest
from aiohttp import web

from headgate.runtime import remote
from headgate.runtime.networks import comes_from, networks_of
from headgate.runtime.remote import Remote, check, is_reachable
from headgate_contracts.errors import ErrorCode, HeadgateError

ALLOWED = ("https://data.example.org/open", "https://*.example.net", "http://127.0.0.1:8080")
ANY = ("https://*", "http://*")
LOOPBACK = networks_of("127.0.0.0/8")


def refusal(uri: str, allowed: Sequence[str] = ANY) -> HeadgateError:
    with pytest.raises(HeadgateError) as caught:
        check(uri, allowed)
    assert caught.value.error.code is ErrorCode.URI_NOT_ALLOWED
    return caught.value


# --- what an address says ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "https://data.example.org/open",
        "https://data.example.org/open/a/b.csv?sig=a%2Fb",
        "HTTPS://DATA.example.org:443/open/x",
        "https://files.example.net/",
        "https://a.b.example.net",
    ],
)
def test_what_is_listed_is_allowed(uri: str) -> None:
    found = check(uri, ALLOWED)
    assert found.port == 443 and found.url.startswith(f"https://{found.host}:443/")
    assert "sig=" not in found.shown


@pytest.mark.parametrize(
    "uri",
    [
        "https://data.example.org/opened",
        "https://data.example.org/",
        "http://data.example.org/open",
        "https://data.example.org:8443/open",
        "https://example.net/",
        "https://badexample.net/",
        "https://data.example.org.evil.com/open",
        "https://data.example.org/open/../secret",
        "https://data.example.org/open/%2e%2e/secret",
        "http://127.0.0.1:8081/",
    ],
)
def test_what_is_not_listed_is_refused_with_what_is(uri: str) -> None:
    assert "https://data.example.org/open https://*.example.net" in str(refusal(uri, ALLOWED))


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1/",  # loopback
        "http://127.8.8.8/",
        "http://[::1]/",
        "http://169.254.169.254/latest/meta-data/",  # metadata
        "http://168.63.129.16/machine",
        "http://100.100.100.200/",
        "http://[fd00:ec2::254]/",
        "http://10.1.2.3/",  # private
        "http://172.16.0.1/",
        "http://192.168.0.1/",
        "http://100.64.0.1/",
        "http://[fc00::1]/",
        "http://[fe80::1]/",  # link-local
        "http://[fe80::1%25eth0]/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",  # IPv4 within IPv6
        "http://[::ffff:10.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://0/",  # numbers in disguise
        "http://127.1/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://017700000001/",
        "http://1.2.3.4./",
        "http://localhost/",  # names that are no public ones
        "http://localhost./",
        "http://host/",
        "http://xn--/",
        "http://b\u00fccher.example.org/",
        "http://\uff11\uff12\uff17.0.0.1/",
        "http://example.org\\@127.0.0.1/",
        "http://user:pass@example.org/",  # users, ports, fragments
        "http://user@example.org/",
        "http://example.org:22/",
        "http://example.org:0/",
        "http://example.org:99999/",
        "http://example.org/#x",
        "http://example.org/a b",
        "http://example.org/\r\nHost: x",
        "http:///etc/passwd",
        "http://",
        "https:example.org",
        "gopher://example.org/",  # other schemes
        "ftp://example.org/",
        "data:text/plain,x",
        "file:///etc/passwd",
        "//example.org/",
    ],
)
def test_what_could_lead_inside_is_refused_even_if_everything_is_listed(uri: str) -> None:
    refusal(uri)


def test_a_network_may_be_listed_but_not_this_machines_link() -> None:
    networks = networks_of("10.0.0.0/8 169.254.0.0/16 ::/0")
    assert is_reachable(ip_address("10.1.2.3"), networks)
    assert is_reachable(ip_address("::ffff:10.1.2.3"), networks)
    assert is_reachable(ip_address("9.9.9.9")) and is_reachable(ip_address("2620:fe::fe"))
    for never in ("169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "192.168.0.1", "::"):
        assert not is_reachable(ip_address(never), networks), never
    with pytest.raises(HeadgateError, match="no network"):
        networks_of("10.0.0.1/8")


def test_a_peer_is_known_by_the_address_of_its_connection() -> None:
    networks = networks_of("10.0.0.0/8 fd00::/8")
    for inside in ("10.9.8.7", "::ffff:10.9.8.7", "fd00::1", "fd00::1%eth0"):
        assert comes_from(inside, networks), inside
    for outside in ("11.0.0.1", "::1", "", None, "somewhere"):
        assert not comes_from(outside, networks), outside


# --- what a name leads to ----------------------------------------------------------------------


def names(**answers: Sequence[Sequence[str]]) -> tuple[remote.Resolve, list[str]]:
    """A look-up whose answers for one name change with each question."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        found = answers[host.partition(".")[0]]
        return found[min(asked.count(host), len(found)) - 1]

    return resolve, asked


@pytest.mark.parametrize("found", [["10.0.0.1"], ["9.9.9.9", "127.0.0.1"], ["::1"], []])
async def test_every_address_of_a_name_must_be_public(found: list[str]) -> None:
    resolve, _ = names(evil=[found])
    with pytest.raises(HeadgateError) as caught:
        await Remote(ANY, resolve=resolve).look_up("https://evil.example.org/")
    assert caught.value.error.code is ErrorCode.URI_NOT_ALLOWED
    assert "10.0.0.1" not in str(caught.value)


async def test_a_name_that_does_not_exist_is_the_callers_mistake() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(HeadgateError, match="there is no host") as caught:
        await Remote(ANY, resolve=resolve).look_up("https://nothing.example.org/")
    assert caught.value.error.code is ErrorCode.RESOURCE_NOT_FOUND


# --- reading -----------------------------------------------------------------------------------

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def serving(handle: Handle) -> AsyncIterator[int]:
    """The port of a web server on this machine."""
    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def raw(answer: bytes) -> AsyncIterator[int]:
    """The port of a server that says the same whatever it is asked, and hangs up."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def local(port: int) -> Remote:
    return Remote((f"http://127.0.0.1:{port}", f"http://*.example.org:{port}"), LOOPBACK)


async def content(reader: Remote, uri: str, **part: int) -> bytes:
    return b"".join([chunk async for chunk in reader.read(uri, **part)])


async def error_of(reader: Remote, uri: str) -> HeadgateError:
    with pytest.raises(HeadgateError) as caught:
        await content(reader, uri)
    return caught.value


async def test_a_file_is_read_whole_and_in_parts() -> None:
    body = bytes(range(256)) * 4_000

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        assert request.headers["Accept-Encoding"] == "identity" and "Cookie" not in request.headers
        answer = web.Response(body=body)
        if request.path == "/ranges" and request.http_range.start is not None:
            answer = web.Response(body=body[request.http_range], status=206)
            start = request.http_range.start
            answer.headers["Content-Range"] = f"bytes {start}-{start}/{len(body)}"
        return answer

    async with serving(handle) as port:
        for path in ("ranges", "whole"):
            reader, uri = local(port), f"http://127.0.0.1:{port}/{path}"
            assert await content(reader, uri) == body
            assert await content(reader, uri, start=1_000, end=900_001) == body[1_000:900_001]
            assert await content(reader, uri, start=1_000_000) == body[1_000_000:]
            assert await reader.size_bytes(uri) == len(body)


async def test_a_size_that_is_not_told_is_counted() -> None:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        for _ in range(10):
            await answer.write(b"x" * 1_000)
        return answer

    async with serving(handle) as port:
        assert await local(port).size_bytes(f"http://127.0.0.1:{port}/") == 10_000


async def test_the_address_that_was_checked_is_the_one_connected_to() -> None:
    """A name that means something else at the second look is looked up only once."""
    hosts = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        hosts.append(request.host)
        return web.Response(body=b"ours")

    resolve, asked = names(data=[["127.0.0.1"], ["10.0.0.1"]])
    async with serving(handle) as port:
        reader = replace(local(port), resolve=resolve)
        assert await content(reader, f"http://data.example.org:{port}/x") == b"ours"
        assert (hosts, asked) == ([f"data.example.org:{port}"], ["data.example.org"])
        error = await error_of(reader, f"http://data.example.org:{port}/x")
        assert error.error.code is ErrorCode.URI_NOT_ALLOWED and len(hosts) == 1


@pytest.mark.parametrize(
    "to",
    [
        "http://10.0.0.1/",
        "http://169.254.169.254/",
        "http://inside.example.org:{port}/",
        "http://127.0.0.1:1/",
        "ftp://127.0.0.1:{port}/",
        "http://127.1:{port}/",
        "//user@127.0.0.1:{port}/",
    ],
)
async def test_a_redirect_is_checked_like_any_address(to: str) -> None:
    paths = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        paths.append(request.path)
        place = to.format(port=request.url.port)
        return web.Response(status=302, headers={"Location": place})

    resolve, _ = names(inside=[["10.0.0.1"]])
    async with serving(handle) as port:
        error = await error_of(
            replace(local(port), resolve=resolve), f"http://127.0.0.1:{port}/first"
        )
    assert (error.error.code, paths) == (ErrorCode.URI_NOT_ALLOWED, ["/first"])


async def test_three_redirects_are_followed_and_not_a_fourth() -> None:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        left = int(request.path.strip("/"))
        if left == 0:
            return web.Response(body=b"there")
        return web.Response(status=307, headers={"Location": f"/{left - 1}"})

    async with serving(handle) as port:
        assert await content(local(port), f"http://127.0.0.1:{port}/3") == b"there"
        error = await error_of(local(port), f"http://127.0.0.1:{port}/11")
    assert error.error.code is ErrorCode.URI_NOT_ALLOWED and "redirects" in str(error)


async def test_an_endless_body_ends_at_the_limit() -> None:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await answer.write(b"x" * 65_536)
        return answer

    async with serving(handle) as port:
        reader = replace(local(port), bytes_max=1_000_000)
        error = await error_of(reader, f"http://127.0.0.1:{port}/")
    assert error.error.code is ErrorCode.PAYLOAD_TOO_LARGE and "1000000 bytes" in str(error)


async def test_a_body_that_is_told_to_be_too_long_is_not_begun() -> None:
    async with raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nxxx") as port:
        error = await error_of(local(port), f"http://127.0.0.1:{port}/")
    assert error.error.code is ErrorCode.PAYLOAD_TOO_LARGE


@pytest.mark.parametrize("setting", ["idle_s", "total_s"])
async def test_a_server_that_falls_silent_is_given_up(setting: str) -> None:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"x")
        await asyncio.sleep(600)
        return answer

    async with serving(handle) as port:
        reader = Remote(local(port).allowed, LOOPBACK, **{setting: 0.1})
        error = await error_of(reader, f"http://127.0.0.1:{port}/")
    assert error.error.code is ErrorCode.UNAVAILABLE


async def test_what_is_compressed_for_transport_is_never_unpacked() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"
    async with raw(answer) as port:
        error = await error_of(local(port), f"http://127.0.0.1:{port}/")
    assert error.error.code is ErrorCode.BAD_ARGUMENT and "compressed" in str(error)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", ErrorCode.UNAVAILABLE),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", ErrorCode.UNAVAILABLE),
        (b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n", ErrorCode.UNAVAILABLE),
        (b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n", ErrorCode.RESOURCE_NOT_FOUND),
        (b"HTTP/1.1 204 None\r\n\r\n", ErrorCode.RESOURCE_NOT_FOUND),
        (b"no HTTP at all\r\n\r\n", ErrorCode.UNAVAILABLE),
        (b"", ErrorCode.UNAVAILABLE),
    ],
)
async def test_a_failed_answer_says_who_can_mend_it(answer: bytes, code: ErrorCode) -> None:
    async with raw(answer) as port:
        error = await error_of(local(port), f"http://127.0.0.1:{port}/x?sig=secret")
    assert error.error.code is code and "secret" not in str(error)


async def test_a_server_that_is_away_may_come_back() -> None:
    async with raw(b"") as port:
        pass
    error = await error_of(local(port), f"http://127.0.0.1:{port}/")
    assert error.error.code is ErrorCode.UNAVAILABLE
