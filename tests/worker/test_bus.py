"""The worker's own bus client where timing matters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest_asyncio

from headgate.runtime import natsd
from headgate.runtime.keyring import mint_worker_token
from headgate_contracts import subjects
from headgate_worker.bus import Bus
from worker.harness import Router


@pytest_asyncio.fixture
async def server(data_dir: Path) -> AsyncIterator[natsd.RunningServer]:
    async with natsd.running(data_dir / "bus") as running:
        yield running


async def test_a_subscription_made_while_the_connection_opens_is_heard(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    """init() may return between our greeting and the server's."""
    greeting, held = asyncio.Event(), asyncio.Event()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Holds back what the server says after its first words, until ``held``."""
        url = urlsplit(server.url)
        from_server, to_server = await asyncio.open_connection(url.hostname, url.port)

        async def back() -> None:
            writer.write(await from_server.readline())
            first = await from_server.read(65_536)
            greeting.set()
            await held.wait()
            writer.write(first)
            while data := await from_server.read(65_536):
                writer.write(data)
            writer.close()

        backwards = asyncio.create_task(back())
        while data := await reader.read(65_536):
            to_server.write(data)
        to_server.close()
        await backwards

    token = data_dir / "token"
    expires_at = time.time() + 60
    token.write_text(
        mint_worker_token(server.server.keys, "ep", "blue", "i1", expires_at=expires_at)
    )
    proxy = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    heard = asyncio.Event()
    bus = Bus((f"nats://127.0.0.1:{port}",), str(token), "i1", report=print)
    running = asyncio.create_task(bus.run())
    await asyncio.wait_for(greeting.wait(), 20)
    subject = subjects.instance("ep", "blue", "i1")
    bus.subscribe(subject, "w", lambda subject, reply, payload: heard.set())
    held.set()
    assert await bus.flush(20)
    async with Router.connected(server) as router:
        await router.client.publish(subject, b"x")
        await asyncio.sleep(0)  # a flush alone may overtake what was sent
        await router.client.flush()
        await asyncio.wait_for(heard.wait(), 20)
    bus.close()
    await running
    proxy.close()
