"""Readers that do not read are cut off, whatever they asked for; and the way to the studio."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from gateway.harness import TOKEN, WORKSPACE, Api, Connect, World, publish
from gateway.test_resources import endpoint, put_deployment
from headgate.gateway import events, server
from headgate.gateway.app import GatewayService
from headgate.runtime.settings import Settings
from headgate_contracts import limits
from headgate_contracts.registry import EndpointCreated

__all__ = ["endpoint"]  # a fixture

STALLED_S = 0.3
CONTENT = "Content-Type: application/json\r\nContent-Length: {}\r\n"
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "READER_STALLED_S", STALLED_S)


@asynccontextmanager
async def asked(api: Api, *requests: str) -> AsyncIterator[socket.socket]:
    """Requests one after the other on a connection that is never read."""
    parts = urlsplit(api.base)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(raw, (parts.hostname, parts.port))
        for request in requests:
            line, _, body = request.partition("\n")
            head = f"{line} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {TOKEN}\r\n"
            head += UPGRADE if "/studio" in line else CONTENT.format(len(body))
            await loop.sock_sendall(raw, f"{head}\r\n{body}".encode())
        yield raw
    finally:
        raw.close()


@asynccontextmanager
async def studio(
    settings: Settings, serve: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
) -> AsyncIterator[None]:
    """Something that answers where the studio's process would."""
    settings.run_dir.mkdir(exist_ok=True)
    runner = web.ServerRunner(web.Server(serve), shutdown_timeout=0)
    await runner.setup()
    await web.UnixSite(runner, str(settings.run_dir / "studio.sock")).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def cut_off(raw: socket.socket) -> None:
    """Until it is, without reading: what is sent to a connection that is no more is reset.

    Seldom, because whatever a client sends puts off the kernel's next look at its full window, by
    200 ms: one that sends all the time is not cut off.
    """
    async with asyncio.timeout(20):
        with suppress(ConnectionError):
            while True:
                await asyncio.sleep(2 * STALLED_S)
                with suppress(BlockingIOError):
                    raw.send(b"\r\n")


async def test_a_reader_of_events_that_does_not_read_is_cut_off_and_its_place_is_free(
    api: Api, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "READERS_MAX", 1)
    bus = await connect("registry")
    for number in range(200):
        name = f"stalled-{number}"
        await publish(bus, EndpointCreated(workspace="local", endpoint=name, revision=1))
    async with asked(api, "GET /events?since=1h") as raw:
        await cut_off(raw)
        async with asyncio.timeout(20):
            while (await api.get("/events?follow=false&filter=nothing")).status == 503:
                await asyncio.sleep(0.1)


async def test_a_reader_of_logs_that_does_not_read_is_cut_off(
    api: Api, world: World, endpoint: str
) -> None:
    await put_deployment(api, endpoint, "blue")
    world.logs[f"{endpoint}/blue/inference-server"] = ["x" * 500] * 1_000
    path = f"{WORKSPACE}/onlineEndpoints/{endpoint}/deployments/blue/getLogs?api-version=2025-09-01"
    async with asked(api, *[f'POST {path}\n{{"tail": 1000}}'] * 10) as raw:
        await cut_off(raw)


async def test_a_browser_that_does_not_read_is_cut_off_and_the_studio_hears_of_it(
    api: Api, settings: Settings
) -> None:
    left = asyncio.Event()

    async def flood(request: web.BaseRequest) -> web.StreamResponse:
        said = web.WebSocketResponse()
        await said.prepare(request)
        sending = asyncio.create_task(send(said))
        async for _ in said:
            pass
        left.set()
        sending.cancel()
        return said

    async def send(said: web.WebSocketResponse) -> None:
        while not (said.closed or given_up):
            await said.send_str("x" * 10_000)
            await asyncio.sleep(0)

    given_up = False
    async with studio(settings, flood), asked(api, "GET /studio/_nicegui_ws/socket.io/"):
        try:
            async with asyncio.timeout(10):
                await left.wait()
        finally:
            given_up = True


async def test_whoever_reads_slowly_but_reads_stays(api: Api, world: World, endpoint: str) -> None:
    await put_deployment(api, endpoint, "blue")
    world.logs[f"{endpoint}/blue/inference-server"] = ["x" * 500] * 1_000
    path = f"{WORKSPACE}/onlineEndpoints/{endpoint}/deployments/blue/getLogs?api-version=2025-09-01"
    loop, number = asyncio.get_running_loop(), 3
    async with asked(api, *[f'POST {path}\n{{"tail": 1000}}'] * number) as raw:
        got = bytearray()
        while got.count(b"HTTP/1.1 200") < number or len(got) < number * 500_000:
            part = await loop.sock_recv(raw, 16_384)
            assert part, "cut off while it was reading"
            got += part
            await asyncio.sleep(STALLED_S / 20)


async def test_a_body_without_end_does_not_reach_the_studio(
    api: Api, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STUDIO_UPLOAD_BYTES_MAX", 100_000)
    taken = 0

    async def take(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal taken
        async for part in request.content.iter_any():
            taken += len(part)
        return web.Response(text="all of it")

    async def endless(number: int) -> AsyncIterator[bytes]:
        for _ in range(number):
            yield b"x" * 10_000

    async with studio(settings, take):
        for number, status in ((10, 200), (1_000, 413)):
            address = f"{api.base}/studio/_nicegui/client/x/upload/1"
            async with api.session.post(address, data=endless(number)) as answer:
                assert answer.status == status
    assert taken <= 200_000


async def test_what_outsiders_say_of_where_they_are_does_not_reach_the_studio(
    api: Api, settings: Settings, gateway: GatewayService
) -> None:
    told: dict[str, str] = {}

    async def note(request: web.BaseRequest) -> web.StreamResponse:
        told.update({name.lower(): text for name, text in request.headers.items()})
        return web.Response()

    forged = {
        "X-Headgate-Origin": "9.9.9.9 abc", "X-Forwarded-For": "9.9.9.9", "Forwarded": "for=x",
        "X-Forwarded-Prefix": "//evil.example", "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "gopher",
    }  # fmt: skip
    async with studio(settings, note), api.session.get(f"{api.base}/studio/", headers=forged):
        pass
    assert told["x-headgate-origin"].startswith("127.0.0.1 ")
    assert not {name.lower() for name in forged if name != "X-Headgate-Origin"} & set(told)


async def test_who_leaves_before_there_is_a_page_is_not_waited_for(
    api: Api, settings: Settings
) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def wait(request: web.BaseRequest) -> web.StreamResponse:
        asked.set()
        while request.transport is not None:
            await asyncio.sleep(0.05)
        left.set()
        return web.Response()

    async with studio(settings, wait), asyncio.timeout(20):
        getting = asyncio.create_task(api.session.get(f"{api.base}/studio/"))
        await asked.wait()
        getting.cancel()
        await left.wait()


async def test_an_answer_that_breaks_off_is_cut_and_no_other_follows_it(
    api: Api, settings: Settings
) -> None:
    """A browser sees that it has half of it, and not the words of an error as the other half."""

    async def break_off(request: web.BaseRequest) -> web.StreamResponse:
        said = web.StreamResponse()
        await said.prepare(request)
        await said.write(b"the first half")
        await request.content.read()
        assert request.transport is not None
        request.transport.abort()
        return said

    parts = urlsplit(api.base)
    async with studio(settings, break_off), asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(f"GET /studio/ HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        told = await reader.read()
        writer.close()
    assert told.count(b"HTTP/1.1") == 1 and told.endswith(b"the first half\r\n"), told
