"""In front of every page: who is not signed in sees the sign-in page, and nothing else."""

from __future__ import annotations

import secrets
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headgate.portal.pace import GoneError, Pace, TooManyError
from headgate.portal.sessions import COOKIE, Session, Sessions
from headgate_contracts import limits

PREFIX = "/studio"
SIGN_IN = f"{PREFIX}/sign-in"
HEALTH = f"{PREFIX}/livez"
_PUBLIC = (SIGN_IN, HEALTH)
_LIBRARY = f"{PREFIX}/_nicegui"
_DOWNLOADS = f"{_LIBRARY}/auto/"
# Scripts are ours or carry the page's nonce, so that neither an injected element nor an attribute
# of one runs. The library compiles its components in the browser, which is an eval to a browser.
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'nonce-{nonce}' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_NO_PAGE = "default-src 'none'; frame-ancestors 'none'; sandbox"
_HEADERS = {
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Gate:
    """ASGI middleware: sessions, other sites' requests, and headers that confine the page."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions
        self._pace = Pace(sessions.monotonic)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), scope["path"]
        session = session_of(headers, self._sessions)
        if scope["type"] == "websocket":
            if session is None or not same_origin(headers):
                await receive()
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return
        answer = self._app
        changes = scope["method"] not in ("GET", "HEAD")
        is_page = not path.startswith(_LIBRARY)
        if changes and not same_origin(headers):
            answer = PlainTextResponse("this request comes from another site", 403)
        elif path in _PUBLIC:
            pass
        elif session is None:
            answer = RedirectResponse(f"{SIGN_IN}?to={quote(path)}", 303)
            if "text/html" not in headers.get("accept", ""):
                answer = PlainTextResponse("sign in first", 401)
        elif (
            is_page
            and not changes
            and (
                len(session.pages) >= limits.STUDIO_PAGES_OF_SESSION_MAX
                or self._sessions.pages >= limits.STUDIO_PAGES_MAX
            )
        ):
            answer = PlainTextResponse(
                f"{limits.STUDIO_PAGES_OF_SESSION_MAX} pages of this sign-in are open, or "
                f"{limits.STUDIO_PAGES_MAX} of all: close one, and try again in a minute",
                429,
            )
        elif is_page and not changes:
            try:
                receive = await self._pace.turn(session.line, receive)
            except GoneError:
                return
            except TooManyError as error:
                answer = PlainTextResponse(
                    f"{error} for this sign-in: try again in {error.retry_after_s} s",
                    429,
                    {"Retry-After": str(error.retry_after_s)},
                )
        if is_page:
            scope = _uncompressed(scope)
        await answer(scope, receive, _Confined(send, path))


def _uncompressed(scope: Scope) -> Scope:
    """A page is sent as it is: it gets its nonce here, and what it holds is not to be guessed from
    its length."""
    kept = [each for each in scope["headers"] if each[0] != b"accept-encoding"]
    return {**scope, "headers": kept}


class _Confined:
    """Sends an answer with headers that confine it, and a page with a nonce in its scripts.

    All of a page's ``<script`` are the library's and ours: what users have said stands in it as
    escaped text.
    """

    def __init__(self, send: Send, path: str) -> None:
        self._send = send
        self._is_download = path.startswith(_DOWNLOADS)
        self._nonce = secrets.token_urlsafe(16)
        self._start: Message | None = None
        self._page = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
            headers["Content-Security-Policy"] = _POLICY.format(nonce=self._nonce)
            if self._is_download:
                headers["Content-Security-Policy"] = _NO_PAGE
                if not headers.get("content-disposition", "").startswith("attachment"):
                    headers["Content-Disposition"] = "attachment"
            elif headers.get("content-type", "").startswith("text/html"):
                self._start = message
                return
        elif self._start is not None:
            self._page += message.get("body", b"")
            if message.get("more_body"):
                return
            page = bytes(self._page).replace(b"<script", f'<script nonce="{self._nonce}"'.encode())
            self._page.clear()  # the library keeps the request of a page, and so this, with it
            MutableHeaders(scope=self._start)["Content-Length"] = str(len(page))
            await self._send(self._start)
            message = {**message, "body": page}
        await self._send(message)


def session_of(headers: Headers, sessions: Sessions) -> Session | None:
    """The session of a request's cookie."""
    for text in headers.getlist("cookie"):
        if session := sessions.find(cookie_parser(text).get(COOKIE, "")):
            return session
    return None


def same_origin(headers: Headers) -> bool:
    """Whether a browser says that the page which sends this is ours; programs say nothing."""
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")
