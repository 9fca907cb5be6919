"""A NATS client that hides nothing: every refusal of the server is an answer to the very line.

Real clients learn of a forbidden subject through a callback or a time-out; permission tests need
to know which line was refused, and that all the others were not.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nkeys


class RefusedError(Exception):
    """The server closed the connection or refused it; the text is the server's."""


class RawNats:
    """One connection. Methods that say ``allowed`` return False when the server refused."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._sid = 0
        self.inbox: list[tuple[str, str, bytes]] = []  # subject, reply, payload
        self.errors: list[str] = []

    async def hello(self, credentials: dict[str, Any]) -> None:
        options = {"verbose": False, "pedantic": False, "lang": "test", "version": "0"}
        options |= {"headers": True, "no_responders": True, **credentials}
        self._write(b"CONNECT " + json.dumps(options).encode())
        try:
            await self.sync()
        except ConnectionResetError:  # our PING crossed its refusal, which is lost with the rest
            raise RefusedError("Authorization: the server closed the connection") from None
        if self.errors:
            raise RefusedError(self.errors[0])

    async def publish_allowed(self, subject: str, payload: bytes = b"", *, reply: str = "") -> bool:
        line = f"PUB {subject} {reply + ' ' if reply else ''}{len(payload)}\r\n"
        self._write(line.encode() + payload)
        return await self._was_allowed()

    async def subscribe_allowed(self, subject: str, *, queue: str = "") -> bool:
        self._sid += 1
        self._write(f"SUB {subject} {queue + ' ' if queue else ''}{self._sid}".encode())
        return await self._was_allowed()

    async def unsubscribe_last(self) -> None:
        self._write(f"UNSUB {self._sid}".encode())
        await self.sync()

    async def receive(self) -> tuple[str, str, bytes]:
        """The next message: subject, reply subject, payload."""
        while not self.inbox:
            await self._read_one()
        return self.inbox.pop(0)

    async def sync(self) -> None:
        """Returns when the server has handled everything written before."""
        self._write(b"PING")
        while await self._read_one() != b"PONG":
            pass

    async def closed_by_server(self) -> str:
        """Waits for the end of the connection; the server's last word."""
        try:
            while True:
                await self._read_one()
        except RefusedError:
            return self.errors[-1] if self.errors else ""

    async def _was_allowed(self) -> bool:
        before = len(self.errors)
        await self.sync()
        return len(self.errors) == before

    def _write(self, line: bytes) -> None:
        self._writer.write(line + b"\r\n")

    async def _read_one(self) -> bytes:
        line = await asyncio.wait_for(self._reader.readline(), 10)
        if not line:
            raise RefusedError(self.errors[-1] if self.errors else "closed")
        line = line.rstrip()
        if line.startswith(b"-ERR"):
            self.errors.append(line.decode())
        elif line == b"PING":
            self._write(b"PONG")
        elif found := re.match(rb"MSG (\S+) \S+ (?:(\S+) )?(\d+)", line):
            payload = await self._reader.readexactly(int(found[3]) + 2)
            self.inbox.append((found[1].decode(), (found[2] or b"").decode(), payload[:-2]))
        return line


@asynccontextmanager
async def raw_nats(
    url: str, *, creds: Path | None = None, token: str = ""
) -> AsyncIterator[RawNats]:
    """Connects with a creds file, with a bearer token, or with nothing."""
    host, _, port = url.removeprefix("nats://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        info = json.loads((await reader.readline()).removeprefix(b"INFO "))
        credentials = {"jwt": token} if token else {}
        if creds is not None:
            jwt, seed = re.findall(r"-----BEGIN[^\n]*\n(\S+)\n", creds.read_text())
            signature = nkeys.from_seed(seed.encode()).sign(info["nonce"].encode())
            credentials = {"jwt": jwt, "sig": base64.b64encode(signature).decode()}
        client = RawNats(reader, writer)
        await client.hello(credentials)
        yield client
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
