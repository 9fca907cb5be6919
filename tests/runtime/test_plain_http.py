"""Plain HTTP on a TLS port is answered, whatever event loop listens; TLS goes on as it was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvloop

from headgate.runtime import tls

HANDSHAKE_TIMEOUT_S = 0.2
HOST = "127.0.0.1"


async def ask(
    made: tls.Tls, *, is_patient: bool, method: str = "POST", first_bytes: int = 0
) -> tuple[bytes, bytes]:
    """What a plain client is told, and then what one with TLS is. ``first_bytes``: so many of its
    request come before the rest, which comes when there is an answer."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(
        echo, HOST, 0, ssl=made.server_context(), ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S
    )
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(HOST, port)
        request = f"{method} /score HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode()
        writer.write(request[: first_bytes or None])
        head = await reader.readuntil(b"\r\n\r\n")
        if first_bytes:
            writer.write(request[first_bytes:])
        if not is_patient:  # the server waits for its handshake to end, and then closes
            writer.close()
        plain = head + await reader.read()
        writer.close()
        trusted = tls.client_context(made.ca)
        reader, writer = await asyncio.open_connection(HOST, port, ssl=trusted)
        writer.write(b"in secret\n")
        secret = await reader.read()
        writer.close()
    return plain, secret


LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])


@pytest.mark.parametrize("is_patient", [True, False])
@LOOPS
def test_plain_http_is_told_to_use_tls(
    data_dir: Path, loop: Callable[[], asyncio.AbstractEventLoop], is_patient: bool
) -> None:
    made = tls.ensure(data_dir / "tls", now=datetime.now(UTC))
    with asyncio.Runner(loop_factory=loop) as runner:
        plain, secret = runner.run(ask(made, is_patient=is_patient))
    assert secret == b"in secret\n"
    head, _, body = plain.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close" in head
    if is_patient:
        assert "https://" in json.loads(body)["error"]["message"]


@pytest.mark.parametrize("first_bytes", [0, 1])
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
@LOOPS
def test_every_method_of_http_is(
    data_dir: Path,
    loop: Callable[[], asyncio.AbstractEventLoop],
    method: str,
    first_bytes: int,
) -> None:
    made = tls.ensure(data_dir / "tls", now=datetime.now(UTC))
    with asyncio.Runner(loop_factory=loop) as runner:
        asking = ask(made, is_patient=True, method=method, first_bytes=first_bytes)
        plain, secret = runner.run(asking)
    assert plain.startswith(b"HTTP/1.1 400 ") and b"https://" in plain
    assert secret == b"in secret\n"
