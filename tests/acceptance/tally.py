"""A load client that only counts, for millions of requests: one protocol object per connection."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import cast

from acceptance.load import Target

RECONNECT_S = 0.02
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)")
_DEPLOYMENT = re.compile(rb"\r\nazureml-model-deployment: ([a-z0-9-]+)")

Told = tuple[str, int]
"""The deployment that an answer names (or nothing), and its status."""


class Tally:
    """What clients with one key have been told. ``broken``: sent, and the connection ended."""

    def __init__(self, target: Target, connections: int) -> None:
        self.told: Counter[Told] = Counter()
        self.broken = 0
        self._target = target
        self._connections = connections
        self._limit = 0
        self._sent = 0
        self._message = target.head({}, 2, "tally") + b"{}"

    async def run(self, requests: int) -> None:
        """Have so many requests answered."""
        self._limit = requests
        async with asyncio.TaskGroup() as group:
            for _ in range(self._connections):
                group.create_task(self._drive())

    @property
    def answered(self) -> int:
        return self.told.total()

    async def _drive(self) -> None:
        loop = asyncio.get_running_loop()
        while self.answered < self._limit:
            try:
                _, client = await loop.create_connection(
                    lambda: _Client(self), self._target.host, self._target.port
                )
            except OSError:
                await asyncio.sleep(RECONNECT_S)
                continue
            await client.ended

    def next(self) -> bytes:
        """The next request; nothing when enough have been answered."""
        return self._message if self.answered < self._limit else b""


class _Client(asyncio.Protocol):
    def __init__(self, tally: Tally) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tally = tally
        self._buffer = b""
        self._is_waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def _send(self) -> None:
        message = self._tally.next()
        self._is_waiting = bool(message)
        if message:
            self._transport.write(message)
        else:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        length = _LENGTH.search(self._buffer, 0, end + 2) if end >= 0 else None
        if length is None or len(self._buffer) < end + 4 + int(length[1]):
            return
        named = _DEPLOYMENT.search(self._buffer, 0, end + 2)
        deployment = named[1].decode() if named else ""
        self._tally.told[deployment, int(self._buffer[9:12])] += 1
        is_last = b"\r\nconnection: close" in self._buffer[: end + 2]
        self._buffer, self._is_waiting = b"", False
        if is_last:
            self._transport.close()
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._tally.broken += self._is_waiting
        if not self.ended.done():
            self.ended.set_result(None)
