"""A load client on keep-alive connections that accounts for every single request.

Written on streams, not on an HTTP library: libraries repeat requests on broken connections or hide
which ones were in flight, and the fault tests are about exactly these.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

ANSWER_TIMEOUT_S = 30.0
RECONNECT_S = 0.02
NO_ANSWER = 0  # the connection ended with the request in flight
HUNG = -1

Body = Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go and what they carry."""

    host: str
    port: int
    path: str
    key: str
    tls: ssl.SSLContext | None

    def head(self, headers: Mapping[str, str], body_bytes: int, request_id: str) -> bytes:
        lines = [
            f"POST {self.path} HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            f"Authorization: Bearer {self.key}",
            "Content-Type: application/json",
            f"Content-Length: {body_bytes}",
            f"x-ms-client-request-id: {request_id}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


@dataclass(frozen=True, slots=True)
class Shot:
    """One request that was handed to a connection. Times are this machine's monotonic clock."""

    id: str
    sent: float
    ended: float
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def deployment(self) -> str:
        return self.headers.get("azureml-model-deployment", "")

    @property
    def seconds(self) -> float:
        return self.ended - self.sent


@dataclass
class Load:
    """Some connections, each with one request at a time in flight.

    ``shots`` holds every request that left; ``refused`` counts connections that could not be made
    (nothing was sent on those).
    """

    target: Target
    connections: int = 8
    body: Body = lambda request_id: json.dumps({"id": request_id}).encode()
    headers: Mapping[str, str] = field(default_factory=dict)
    pause_s: float = 0.0
    shots: list[Shot] = field(default_factory=list)
    refused: int = 0
    _started: int = 0
    _limit: int | None = None
    _stopping: bool = False

    async def send(self, requests: int) -> list[Shot]:
        """Send so many requests as fast as the connections allow; these shots."""
        first = len(self.shots)
        self._limit = self._started + requests
        async with asyncio.TaskGroup() as group:
            for _ in range(self.connections):
                group.create_task(self._drive())
        return self.shots[first:]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        """Requests flow for the time of the block; at its end those in flight are waited for."""
        tasks = [asyncio.create_task(self._drive()) for _ in range(self.connections)]
        try:
            yield self
        finally:
            self._stopping = True
            await asyncio.gather(*tasks)

    async def reach(self, shots: int, *, timeout_s: float = 50.0) -> None:
        """Wait until so many requests have ended in all."""
        async with asyncio.timeout(timeout_s):
            while len(self.shots) < shots:
                await asyncio.sleep(RECONNECT_S)

    async def more(self, shots: int, *, timeout_s: float = 50.0) -> None:
        """Wait until so many more requests have ended."""
        await self.reach(len(self.shots) + shots, timeout_s=timeout_s)

    def statuses(self, *, since: float = 0.0, until: float = float("inf")) -> Counter[int]:
        """How often each status came for requests sent in a span of time."""
        return Counter(shot.status for shot in self.shots if since <= shot.sent < until)

    def _next_id(self) -> str | None:
        """The id of the next request, or None when enough have been started."""
        if self._stopping or self._started == self._limit:
            return None
        self._started += 1
        return f"r-{self._started}"

    async def _drive(self) -> None:
        connection: _Connection | None = None
        try:
            while not self._stopping:
                if connection is None:
                    connection = await self._connect()
                    continue
                request_id = self._next_id()
                if request_id is None:
                    return
                shot = await self._shoot(connection, request_id)
                self.shots.append(shot)
                if shot.status in (NO_ANSWER, HUNG) or shot.headers.get("connection") == "close":
                    await connection.close()
                    connection = None
                if self.pause_s:
                    await asyncio.sleep(self.pause_s)
        finally:
            if connection is not None:
                await connection.close()

    async def _connect(self) -> _Connection | None:
        try:
            return await _Connection.open(self.target)
        except (OSError, asyncio.IncompleteReadError):
            self.refused += 1
            await asyncio.sleep(RECONNECT_S)
            return None

    async def _shoot(self, connection: _Connection, request_id: str) -> Shot:
        body = self.body(request_id)
        message = self.target.head(self.headers, len(body), request_id) + body
        sent = time.monotonic()
        status, headers, answer = NO_ANSWER, {}, b""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                status, headers, answer = await connection.exchange(message)
        except TimeoutError:
            status = HUNG
        except (OSError, asyncio.IncompleteReadError):
            status = NO_ANSWER
        return Shot(request_id, sent, time.monotonic(), status, headers, answer)


class _Connection:
    """One HTTP/1.1 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, target: Target) -> _Connection:
        return cls(*await asyncio.open_connection(target.host, target.port, ssl=target.tls))

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def exchange(self, message: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send one request and read its whole answer."""
        self._writer.write(message)
        await self._writer.drain()
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ", 2)[1])
        pairs = (line.split(":", 1) for line in head[1:] if line)
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
        if headers.get("transfer-encoding") == "chunked":
            return status, headers, await self._read_chunks()
        length = int(headers.get("content-length", "0"))
        return status, headers, await self._reader.readexactly(length)

    async def _read_chunks(self) -> bytes:
        parts = []
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            parts.append((await self._reader.readexactly(size + 2))[:-2])
        await self._reader.readuntil(b"\r\n")
        return b"".join(parts)
