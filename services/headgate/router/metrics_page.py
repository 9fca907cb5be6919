"""``/metrics`` of one router, on a port of its own: several routers share the port of scoring."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from headgate.runtime.log import Log
from headgate.runtime.prometheus import CONTENT_TYPE

READ_TIMEOUT_S = 5.0
_HEAD_BYTES_MAX = 16 * 1024
_CONNECTIONS_MAX = 16

_log = Log("router")


class MetricsPage:
    """A listener that knows one page. ``port`` 0: there is none."""

    def __init__(self, host: str, port: int, text: Callable[[], str]) -> None:
        self._host = host
        self._port = port
        self._text = text
        self._server: asyncio.Server | None = None
        self._connections = 0

    async def start(self) -> None:
        """Listen. A port that is taken costs the page, not the router."""
        if not self._port:
            return
        try:
            self._server = await asyncio.start_server(
                self._serve, self._host, self._port, limit=_HEAD_BYTES_MAX
            )
        except OSError as error:
            _log.error("no_metrics_page", host=self._host, port=self._port, error=error.strerror)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= _CONNECTIONS_MAX:
                async with asyncio.timeout(READ_TIMEOUT_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._answer(head))
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # who does not ask properly gets nothing
        finally:
            self._connections -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _answer(self, head: bytes) -> bytes:
        is_it = head.startswith((b"GET /metrics ", b"GET /metrics?"))
        status, text = ("200 OK", self._text()) if is_it else ("404 Not Found", "see /metrics\n")
        body = text.encode()
        lines = (
            f"HTTP/1.1 {status}",
            f"Content-Type: {CONTENT_TYPE}",
            f"Content-Length: {len(body)}",
            "Connection: close",
        )
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
