"""The way to the studio: requests below ``/studio`` go on to its process, web sockets included.

The studio is a process of its own on a UNIX socket; this is the only way to it. It knows by itself
who is signed in, so nothing is checked here but the form of what passes through. It is told where
each request came from, so that wrong tokens count against whoever shows them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from headgate.gateway.origins import Origins
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.identity import ORIGIN_HEADER

PREFIX = "/studio"
# Headers of one hop, which are not passed on; lengths are counted anew.
_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
        "transfer-encoding", "upgrade", "content-length", ORIGIN_HEADER,
        "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-prefix",
        "x-forwarded-proto",
    }
)  # fmt: skip
_STARTING = """<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=1>
<title>Headgate studio</title><body style="font: 16px system-ui; margin: 20vh auto; width: 30rem">
<p role=status>The studio is starting; this page tries again by itself.</p>
<p>If it stays away: <code>pip install 'headgate[portal]'</code>, and see
<code>logs/portal.log</code> in the data folder.</p>"""
_STARTING_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_LOOK_S = 1.0  # whether somebody waits for an answer still
_READ_S = 100.0  # a page may wait for its turn
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=2, sock_read=_READ_S)


def is_studio(path: str) -> bool:
    return path == PREFIX or path.startswith((f"{PREFIX}/", f"{PREFIX}?"))


def wants_page(request: web.BaseRequest) -> bool:
    """Whether a browser asks for the front page, which is the studio's to a person."""
    return request.raw_path == "/" and "text/html" in request.headers.get("Accept", "")


class StudioProxy:
    """Passes requests on; ``close`` ends what is open."""

    def __init__(self, socket: Path, origins: Origins) -> None:
        self._socket = socket
        self._origins = origins
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """The studio's answer; 503 that says why where there is none."""
        if request.raw_path == PREFIX or not is_studio(request.raw_path):
            return web.Response(status=302, headers={"Location": f"{PREFIX}/"})
        try:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._join(request)
            if request.can_read_body:
                return await self._pass(request)
            return await _unless_gone(request, self._pass(request))
        except (aiohttp.ClientConnectionError, FileNotFoundError):
            if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
                return web.Response(
                    status=503,
                    text=_STARTING,
                    content_type="text/html",
                    headers={"Retry-After": "1", "Content-Security-Policy": _STARTING_POLICY},
                )
            raise HeadgateError(
                ErrorCode.UNAVAILABLE,
                "the studio does not run: it comes with 'headgate up' where the extra is "
                "installed (pip install 'headgate[portal]') and the setting studio is true",
                retry_after_s=2,
            ) from None

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(self._socket), limit=0),
                timeout=_TIMEOUT,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def _pass(self, request: web.BaseRequest) -> web.StreamResponse:
        if (request.content_length or 0) > limits.STUDIO_UPLOAD_BYTES_MAX:
            raise _too_large()
        body = _Body(request.content) if request.can_read_body else None
        try:
            return await self._pass_bounded(request, body)
        except aiohttp.ClientConnectionError:
            if body is not None and body.left_bytes < 0:
                raise _too_large() from None
            raise

    async def _pass_bounded(
        self, request: web.BaseRequest, body: _Body | None
    ) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        headers[ORIGIN_HEADER] = self._origins.vouched(request.remote or "")
        async with self._client().request(
            request.method,
            f"http://{request.host}{request.raw_path}",
            headers=headers,
            data=body,
            allow_redirects=False,
        ) as answer:
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            for name, text in answer.headers.items():
                if name.lower() not in _HOP:
                    response.headers.add(name, text)
            await response.prepare(request)
            async for part in answer.content.iter_any():
                await response.write(part)
            await response.write_eof()
            return response

    async def _join(self, request: web.BaseRequest) -> web.StreamResponse:
        """Two web sockets, and what is said on either is said on the other."""
        passed = {"cookie", "origin", "user-agent"}
        headers = {k: v for k, v in request.headers.items() if k.lower() in passed}
        address = f"http://{request.host}{request.raw_path}"
        try:
            inner = await self._client().ws_connect(address, headers=headers, max_msg_size=0)
        except aiohttp.WSServerHandshakeError as error:
            raise HeadgateError(
                ErrorCode.UNAUTHORIZED, f"the studio refused the connection ({error.status})"
            ) from None
        async with inner:
            outer = web.WebSocketResponse(max_msg_size=limits.STUDIO_MESSAGE_BYTES_MAX)
            await outer.prepare(request)
            ways = [
                asyncio.create_task(_carry(outer, inner)),
                asyncio.create_task(_carry(inner, outer)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
                with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                    await way
            await outer.close()
            return outer


async def _unless_gone(
    request: web.BaseRequest, answering: Coroutine[Any, Any, web.StreamResponse]
) -> web.StreamResponse:
    """The answer, unless its reader has left before there is one: a page that waits for its turn
    is not built for nobody."""
    task = asyncio.create_task(answering)
    try:
        while not (await asyncio.wait((task,), timeout=_LOOK_S))[0]:
            if request.transport is None:
                raise ConnectionResetError("the reader of the studio's answer has left")
        return task.result()
    finally:
        task.cancel()


class _Body:
    """A request's body as it comes, also one whose length nobody has said."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content
        self.left_bytes = limits.STUDIO_UPLOAD_BYTES_MAX

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._content.iter_any():
            self.left_bytes -= len(part)
            if self.left_bytes < 0:
                raise ConnectionError("a body is longer than any may be")
            yield part


def _too_large() -> HeadgateError:
    return HeadgateError(ErrorCode.PAYLOAD_TOO_LARGE, "this is too large for the studio")


Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _carry(source: Socket, sink: Socket) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await sink.send_bytes(message.data)
