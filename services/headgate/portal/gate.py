"""In front of every page: who is not signed in sees the sign-in page, and nothing else."""

from __future__ import annotations

from http.cookies import SimpleCookie
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headgate.portal.sessions import COOKIE, Session, Sessions

PREFIX = "/studio"
SIGN_IN = f"{PREFIX}/sign-in"
HEALTH = f"{PREFIX}/livez"
_PUBLIC = (SIGN_IN, HEALTH)
# The library compiles its components in the browser, which is an eval to a browser.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
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
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Gate:
    """ASGI middleware: sessions, other sites' requests, and headers that confine the page."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        is_page = scope["type"] == "http"
        headers, path = Headers(scope=scope), scope["path"]
        changes = not is_page or scope["method"] not in ("GET", "HEAD")
        is_foreign = changes and not same_origin(headers)
        allowed = path in _PUBLIC or session_of(headers, self._sessions) is not None
        if not is_page:
            if is_foreign or not allowed:
                await receive()
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return
        answer: ASGIApp = self._app
        if is_foreign:
            answer = PlainTextResponse("this request comes from another site", 403)
        elif not allowed:
            answer = RedirectResponse(f"{SIGN_IN}?to={quote(path)}", 303)
            if "text/html" not in headers.get("accept", ""):
                answer = PlainTextResponse("sign in first", 401)
        await answer(scope, receive, _confined(send))


def _confined(send: Send) -> Send:
    async def confined(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, text in _HEADERS.items():
                headers[name] = text
        await send(message)

    return confined


def session_of(headers: Headers, sessions: Sessions) -> Session | None:
    """The session of a request's cookie."""
    cookie = SimpleCookie()
    for text in headers.getlist("cookie"):
        cookie.load(text)
    found = cookie.get(COOKIE)
    return sessions.find(found.value) if found else None


def same_origin(headers: Headers) -> bool:
    """Whether a browser says that the page which sends this is ours; programs say nothing."""
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")
