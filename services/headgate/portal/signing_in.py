"""The sign-in page: a token, or the code of a link, becomes a session."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from headgate.client.access import Access
from headgate.client.api import Client
from headgate.client.logins import read_token
from headgate.client.target import Target
from headgate.portal import core
from headgate.portal.gate import HEALTH, PREFIX, SIGN_IN
from headgate.portal.sessions import COOKIE, Session, Sessions, SignInCode
from headgate_contracts import limits
from headgate_contracts.errors import HeadgateError
from headgate_contracts.identity import ORIGIN_HEADER

_FORM_BYTES_MAX = 4 * limits.TOKEN_CHARS_MAX
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { display: grid; place-items: center; min-height: 90vh; margin: 0 1rem }
main { max-width: 26rem; width: 100% }
label { display: block; font-weight: 600; margin: 1rem 0 .25rem }
input { width: 100%; box-sizing: border-box; font: inherit; padding: .6rem; border-radius: .4rem;
  border: 1px solid #888 }
button { font: inherit; font-weight: 600; margin-top: 1rem; padding: .6rem 1.4rem; border: 0;
  border-radius: .4rem; background: #1a56a8; color: #fff; cursor: pointer }
.error { background: #b3261e; color: #fff; padding: .6rem; border-radius: .4rem }
code { font-size: .9em }
"""


class SignIn:
    """Routes that need no session."""

    def __init__(
        self,
        sessions: Sessions,
        code: SignInCode,
        target: Callable[[str, str, str], Target],
        admin_token: Path,
        *,
        is_secure: bool,
        default_workspace: str,
    ) -> None:
        self._sessions = sessions
        self._code = code
        self._target = target
        self._admin_token = admin_token
        self._is_secure = is_secure
        self._workspace = default_workspace

    def register(self, app: FastAPI) -> None:
        app.get(HEALTH)(self.health)
        app.get(SIGN_IN)(self.show)
        app.post(SIGN_IN)(self.take)
        app.post(f"{PREFIX}/sign-out")(self.leave)

    async def health(self) -> Response:
        return PlainTextResponse("alive")

    async def show(self, request: Request, code: str = "", to: str = "") -> Response:
        """The form; with the right code nobody has to fill it in."""
        if code:
            if self._code.spend(code):
                token = read_token(self._admin_token)
                return await self._enter(request, token, self._workspace, to)
            said = "this link is not known, or was used; 'headgate studio' makes one"
            return self._form(said, to)
        return self._form("", to)

    async def take(self, request: Request) -> Response:
        raw = bytearray()
        async for part in request.stream():
            raw += part
            if len(raw) > _FORM_BYTES_MAX:
                return self._form("that is too long for a token")
        form = dict(parse_qsl(raw.decode("utf-8", "replace")))
        token = form.get("token", "").strip()
        workspace = form.get("workspace", "").strip() or self._workspace
        return await self._enter(request, token, workspace, form.get("to", ""))

    async def leave(self, request: Request, everywhere: bool = False) -> Response:
        end = self._sessions.end_of_subject if everywhere else self._sessions.end
        await end(request.cookies.get(COOKIE, ""))
        answer = RedirectResponse(SIGN_IN, 303)
        answer.delete_cookie(COOKIE, path=PREFIX)
        return answer

    async def _enter(self, request: Request, token: str, workspace: str, to: str) -> Response:
        origin = request.headers.get(ORIGIN_HEADER, "")
        try:
            session = await self._open(token, workspace, origin)
        except HeadgateError as error:
            # What follows is advice to programs, about headers.
            reason = error.error.message.partition("; this needs the header")[0]
            return self._form(reason, to, workspace)
        await self._sessions.end(request.cookies.get(COOKIE, ""))  # it is replaced
        is_ours = to.startswith(f"{PREFIX}/") and "//" not in to and "\\" not in to
        answer = RedirectResponse(to if is_ours else f"{PREFIX}/", 303)
        answer.set_cookie(
            COOKIE,
            session.id,
            path=PREFIX,
            secure=self._is_secure,
            httponly=True,
            samesite="strict",
        )
        return answer

    async def _open(self, token: str, workspace: str, origin: str) -> Session:
        """A session for a token that counts. Raises HeadgateError for any other."""
        client = Client(self._target(token, workspace, origin))
        await client.__aenter__()
        try:
            who = await Access(client).whoami()
        except BaseException:
            await client.__aexit__(None, None, None)
            raise
        grants = [str(grant) for grant in who.get("grants", ())]
        right = core.rights(grants, workspace)
        return await self._sessions.add(
            str(who.get("subject", "")), right, client, self._sessions.watch(client)
        )

    def _form(self, error: str, to: str = "", workspace: str = "") -> HTMLResponse:
        workspace = workspace or self._workspace
        shown = f'<p class="error" role="alert">{html.escape(error)}</p>' if error else ""
        return HTMLResponse(
            "<!doctype html><html lang=en><meta charset=utf-8>"
            '<meta name=viewport content="width=device-width, initial-scale=1">'
            "<link rel=icon href='data:,'>"
            f"<title>Headgate studio</title><style>{_STYLE}</style><main><h1>Headgate studio</h1>"
            f"{shown}<form method=post action={SIGN_IN}>"
            "<label for=token>Token</label>"
            "<input id=token name=token type=password autocomplete=off required autofocus>"
            "<label for=workspace>Workspace</label>"
            f'<input id=workspace name=workspace value="{html.escape(workspace)}">'
            f'<input type=hidden name=to value="{html.escape(to)}">'
            "<button>Sign in</button></form><p>On the machine that runs Headgate, "
            "<code>headgate studio</code> prints a link that signs in by itself. Elsewhere, "
            "whoever runs it makes a token with <code>headgate token create</code>.</p></main>",
            status_code=401 if error else 200,
        )
