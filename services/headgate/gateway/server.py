"""The listening socket, and what aiohttp's server must do differently here.

Every answer passes our headers, also those to bytes that are no HTTP at all.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from headgate.gateway.backend import Backend
from headgate.gateway.http import Edge, add_common_headers, refusal, url_too_long
from headgate.runtime.log import Log
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError, WireError

KEEP_ALIVE_S = 75.0
# Longer than what is allowed, so that a refusal can say what is wrong. The two differ, because
# the parser tells a long line from a long header by its limit alone.
LINE_BYTES_MAX = 2 * limits.URL_BYTES_MAX
FIELD_BYTES_MAX = limits.REQUEST_HEADER_BYTES_MAX
SHUTDOWN_S = 5.0
READER_STALLED_S = 30.0
_BEGUN = web.RequestKey("begun", bool)
_log = Log("gateway")


class _Request(web.BaseRequest):
    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        if _BEGUN in self:
            # An answer has failed half way. Its client would take this one for more of it; so it
            # is cut, and the connection with it.
            raise ConnectionResetError("an answer has begun already")
        self[_BEGUN] = True
        # The last place before the headers leave; aiohttp has added its own by now.
        add_common_headers(self, response)


class _Connection(web.RequestHandler):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Whoever takes nothing of what was sent, or has gone without a word, is cut off by the
        kernel: no answer, stream or web socket has to watch its own reader."""
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * READER_STALLED_S))
        super().connection_made(transport)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers what the parser refused, without repeating it."""
        _log.info("malformed_request", status=status, reason=type(exc).__name__)
        error = WireError(
            code=ErrorCode.INVALID_MESSAGE,
            message="the request is not valid HTTP/1.1, or its headers are too long",
        )
        if isinstance(exc, LineTooLong) and exc.args[1] == LINE_BYTES_MAX:
            error = url_too_long().error
        response = refusal(error)
        response.force_close()
        return response


class _Server(web.Server):
    def __init__(self, edge: Edge, **options: Any) -> None:
        super().__init__(edge.serve, request_factory=self._make, **options)
        self._options = options

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=asyncio.get_running_loop(), **self._options)

    @staticmethod
    def _make(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return _Request(message, payload, protocol, writer, task, asyncio.get_running_loop())


class Listener:
    """The listening socket. ``port`` is the real one, also when the setting says 0."""

    def __init__(
        self, edge: Edge, backend: Backend, host: str, port: int, tls: ssl.SSLContext | None
    ) -> None:
        self._edge = edge
        self._backend = backend
        self._host = host
        self.port = port
        self._tls = tls
        self._runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    async def start(self) -> None:
        server = _Server(
            self._edge,
            access_log=None,
            # A compressed body is refused, so it must arrive as it was sent.
            auto_decompress=False,
            max_line_size=LINE_BYTES_MAX,
            max_field_size=FIELD_BYTES_MAX,
            keepalive_timeout=KEEP_ALIVE_S,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port, ssl_context=self._tls)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise HeadgateError(
                ErrorCode.UNAVAILABLE,
                f"the gateway cannot listen on {self._host} port {self.port}: {error.strerror}; "
                "choose another with --port (0 takes a free one)",
                target="port",
            ) from None
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """No new connections; streams end, requests in hand are finished."""
        self._backend.closing.set()
        if self._runner is not None:
            await self._runner.cleanup()
