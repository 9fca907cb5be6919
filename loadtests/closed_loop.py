"""A closed-loop HTTP/1.1 load generator: each connection sends its next request on an answer.

Latencies of a closed loop leave out the waiting that an open loop would see (coordinated
omission); the figures are for ratios between servers in the same run, not for promises.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run measured. Latencies are seconds, sorted."""

    latencies_s: tuple[float, ...]
    errors: int
    elapsed_s: float

    @property
    def per_second(self) -> float:
        return len(self.latencies_s) / self.elapsed_s

    def quantile_ms(self, q: float) -> float:
        """The q-quantile of the latency in milliseconds; nan when nothing was answered."""
        if not self.latencies_s:
            return float("nan")
        return (
            1000 * self.latencies_s[min(len(self.latencies_s) - 1, int(q * len(self.latencies_s)))]
        )


class _Connection(asyncio.Protocol):
    """Sends one prepared request after the other; answers must carry a Content-Length."""

    def __init__(self, request: bytes, until: float) -> None:
        self.request = request
        self.until = until
        self.latencies_s: list[float] = []
        self.errors = 0
        self.done = asyncio.get_running_loop().create_future()
        self._buffer = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        if self._sent_at >= self.until:
            self._transport.close()
            return
        self._transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._buffer[:head_end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < head_end + 4 + length:
            return
        self.latencies_s.append(time.perf_counter() - self._sent_at)
        self.errors += not head.startswith(b"http/1.1 200")
        self._buffer = b""
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self.errors += exc is not None
        if not self.done.done():
            self.done.set_result(None)


async def run(
    url: str, headers: dict[str, str], body: bytes, *, connections: int, seconds: float
) -> Outcome:
    """POST ``body`` over ``connections`` connections for ``seconds``. Plain HTTP only."""
    parts = urlsplit(url)
    lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "", ""]
    request = "\r\n".join(lines).encode() + body
    loop = asyncio.get_running_loop()
    begun = time.perf_counter()
    made = [
        await loop.create_connection(
            lambda: _Connection(request, begun + seconds), parts.hostname, parts.port
        )
        for _ in range(connections)
    ]
    await asyncio.gather(*(connection.done for _, connection in made))
    elapsed_s = time.perf_counter() - begun
    latencies = sorted(latency for _, c in made for latency in c.latencies_s)
    return Outcome(tuple(latencies), sum(c.errors for _, c in made), elapsed_s)
