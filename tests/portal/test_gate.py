"""In front of the pages: who comes in, for how long, and what an answer says to a browser."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from engineio import AsyncServer
from engineio.async_socket import AsyncSocket
from engineio.packet import MESSAGE, Packet
from fastapi import FastAPI

from headgate.client.api import Client
from headgate.client.target import Target
from headgate.portal import core, laggards
from headgate.portal.gate import Gate
from headgate.portal.pages.autoscale import read_setting
from headgate.portal.sessions import COOKIE, Draft, Session, Sessions, SignInCode
from headgate.portal.signing_in import SignIn
from headgate_contracts import limits
from headgate_contracts.errors import HeadgateError

PAGE = b"<html><script>1</script><p>&lt;script</p><script type=module>2</script></html>"


class Clock:
    """Time that a test moves."""

    at = 0.0

    def monotonic(self) -> float:
        return self.at

    def now(self) -> float:
        return self.at


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    kind = b"text/html; charset=utf-8" if "." not in scope["path"] else b"text/plain"
    headers = [(b"content-type", kind), (b"content-length", str(len(PAGE)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": PAGE[:9], "more_body": True})
    await send({"type": "http.response.body", "body": PAGE[9:]})


async def ask(
    sessions: Sessions, path: str = "/studio/", method: str = "GET", **headers: str
) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and body; of a web socket 101 or 403."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    named = {"host": "here:8900", "accept": "text/html", **headers}
    scope = {
        "type": "websocket" if method == "WS" else "http", "method": method, "path": path,
        "raw_path": path.encode(), "query_string": b"",
        "headers": [(name.encode(), text.encode()) for name, text in named.items()],
    }  # fmt: skip
    await Gate(application, sessions)(scope, receive, send)
    if method == "WS":
        return (101 if sent[0]["type"] == "websocket.accept" else 403), {}, b""
    told = {name.decode(): text.decode() for name, text in sent[0]["headers"]}
    return sent[0]["status"], told, b"".join(each.get("body", b"") for each in sent[1:])


async def signed_in(sessions: Sessions, subject: str = "me") -> Session:
    client = Client(Target("http://127.0.0.1:1", "token", None, "local", ""))
    await client.__aenter__()
    return await sessions.add(subject, core.Right(), client, sessions.watch(client))


def cookie(session: Session) -> str:
    return f"{COOKIE}={session.id}"


async def test_scripts_of_a_page_carry_its_nonce_and_no_other_page_has_the_same() -> None:
    sessions = Sessions(Clock())
    session = await signed_in(sessions)
    nonces = set()
    for _ in range(2):
        _, headers, body = await ask(sessions, cookie=cookie(session))
        policy = headers["content-security-policy"]
        nonce = policy.partition("'nonce-")[2].partition("'")[0]
        assert len(nonce) > 20 and "'unsafe-inline'" not in policy.partition("style-src")[0]
        assert body == PAGE.replace(b"<script", b'<script nonce="%s"' % nonce.encode())
        assert headers["content-length"] == str(len(body))
        nonces.add(nonce)
    assert len(nonces) == 2
    await sessions.close()


async def test_what_is_downloaded_is_no_page() -> None:
    sessions = Sessions(Clock())
    session = await signed_in(sessions)
    path = "/studio/_nicegui/auto/static/token/evil"
    _, headers, body = await ask(sessions, path, cookie=cookie(session))
    assert headers["content-disposition"] == "attachment"
    assert "sandbox" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff" and body == PAGE
    await sessions.close()


@pytest.mark.parametrize(
    ("method", "origin", "status"),
    [
        ("WS", "https://here:8900", 101),
        ("WS", "https://evil.example", 403),
        ("WS", "null", 403),
        ("WS", "https://here:8901", 403),
        ("WS", "https://here:8900.evil.example", 403),
        ("POST", "https://here:8900", 200),
        ("POST", "https://evil.example", 403),
        ("POST", "null", 403),
        ("DELETE", "https://here", 403),
    ],
)
async def test_other_sites_send_nothing(method: str, origin: str, status: int) -> None:
    sessions = Sessions(Clock())
    session = await signed_in(sessions)
    path = "/studio/_nicegui_ws/socket.io/"
    told = await ask(sessions, path, method, cookie=cookie(session), origin=origin)
    assert told[0] == status
    await sessions.close()


@pytest.mark.parametrize("given", ["", "headgate_studio=", "headgate_studio=guessed", "a=b"])
async def test_nobody_without_a_session_gets_past_it(given: str) -> None:
    sessions = Sessions(Clock())
    assert (await ask(sessions, cookie=given))[0] == 303
    assert (await ask(sessions, cookie=given, accept="*/*"))[0] == 401
    assert (await ask(sessions, "/studio/_nicegui_ws/socket.io/", "WS", cookie=given))[0] == 403


async def test_cookies_of_other_programs_on_the_host_do_no_harm() -> None:
    sessions = Sessions(Clock())
    session = await signed_in(sessions)
    others = 'x@y=1; [=2; "; =3; a b=c'
    assert (await ask(sessions, cookie=f"{others}; {cookie(session)}"))[0] == 200
    await sessions.close()


@pytest.mark.parametrize(
    ("idle_s", "life_s", "is_there"),
    [
        (limits.STUDIO_SESSION_IDLE_S, 0.0, True),
        (limits.STUDIO_SESSION_IDLE_S + 1, 0.0, False),
        (limits.STUDIO_SESSION_IDLE_S / 2, limits.STUDIO_SESSION_LIFE_S + 1, False),
    ],
)
async def test_a_session_ends_when_it_is_idle_or_old(
    idle_s: float, life_s: float, is_there: bool
) -> None:
    clock = Clock()
    sessions = Sessions(clock)
    session = await signed_in(sessions)
    while clock.at < life_s:  # it is used all the time
        clock.at += limits.STUDIO_SESSION_IDLE_S / 2
        sessions.find(session.id)
    clock.at += idle_s
    assert (sessions.find(session.id) is not None) is is_there
    await sessions.sweep()
    assert (sessions.find(session.id) is not None) is is_there
    await sessions.close()


async def test_the_end_of_all_sessions_of_somebody_ends_their_pages_and_nobody_elses() -> None:
    sessions, left = Sessions(Clock()), list[str]()
    mine, too, other = [await signed_in(sessions, who) for who in ("me", "me", "you")]
    for session in (mine, too, other):
        session.pages["page"] = lambda of=session: left.append(of.id)
    await sessions.end_of_subject(mine.id)
    assert sorted(left) == sorted([mine.id, too.id])
    assert [sessions.find(each.id) for each in (mine, too, other)] == [None, None, other]
    await sessions.end_of_subject("guessed")
    assert sessions.find(other.id) is other
    await sessions.close()


async def test_nobody_signs_others_out_by_signing_in_again_and_again() -> None:
    sessions = Sessions(Clock())
    other = await signed_in(sessions, "you")
    mine = [await signed_in(sessions) for _ in range(limits.STUDIO_SESSIONS_OF_SUBJECT_MAX + 1)]
    assert [sessions.find(each.id) for each in (other, *mine[:2])] == [other, None, mine[1]]
    await sessions.close()


async def test_open_pages_are_bounded_for_each_session_and_in_all() -> None:
    clock = Clock()
    sessions = Sessions(clock)
    session, other = await signed_in(sessions), await signed_in(sessions, "you")
    for number in range(limits.STUDIO_PAGES_OF_SESSION_MAX):
        clock.at += limits.STUDIO_PAGE_OF_SESSION_EVERY_S
        assert (await ask(sessions, cookie=cookie(session)))[0] == 200
        session.pages[str(number)] = lambda: None
    assert (await ask(sessions, cookie=cookie(session)))[0] == 429
    assert (await ask(sessions, cookie=cookie(other)))[0] == 200
    assert (await ask(sessions, "/studio/_nicegui/a.js", cookie=cookie(session)))[0] == 200
    session.pages.popitem()
    assert (await ask(sessions, cookie=cookie(session)))[0] == 200
    for number in range(limits.STUDIO_PAGES_MAX):
        session.pages[str(number)] = lambda: None
    assert (await ask(sessions, cookie=cookie(other)))[0] == 429
    await sessions.close()


async def test_the_wish_for_traffic_is_granted_once() -> None:
    sessions = Sessions(Clock())
    session = await signed_in(sessions)
    assert not session.take_traffic_wish("e", "blue")
    session.keep("e", "blue", Draft("x", awaits_traffic=True))
    assert [session.take_traffic_wish("e", "blue") for _ in range(2)] == [True, False]
    await sessions.close()


async def test_a_browser_that_is_too_far_behind_is_cut_off_and_others_are_not() -> None:
    server, left = AsyncServer(async_mode="asgi"), list[str]()
    server.on("disconnect", lambda sid, reason: left.append(sid))
    sockets = {sid: AsyncSocket(server, sid) for sid in ("quick", "slow")}
    for sid, number in (("quick", 0), ("slow", 1)):
        for _ in range(limits.STUDIO_BACKLOG_MESSAGES_MAX + number):
            await sockets[sid].send(Packet(MESSAGE, data="x"))
    await laggards.cut_off(sockets.values())
    assert left == ["slow"]
    assert sockets["slow"].closed and not sockets["quick"].closed
    assert await sockets["slow"].poll() == []  # nothing is left but the end
    async with asyncio.timeout(5):
        assert len(await sockets["quick"].poll()) == limits.STUDIO_BACKLOG_MESSAGES_MAX


async def test_a_form_without_end_is_not_read(tmp_path: Path) -> None:
    sessions, web, read = Sessions(Clock()), FastAPI(), list[int]()
    SignIn(
        sessions, SignInCode(tmp_path / "code"),
        lambda *_: Target("http://127.0.0.1:1", "t", None, "local", ""), tmp_path / "admin",
        is_secure=True, default_workspace="local",
    ).register(web)  # fmt: skip

    async def receive() -> Any:
        read.append(1)
        return {"type": "http.request", "body": b"token=" + b"x" * 10_000, "more_body": True}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/studio/sign-in", "query_string": b"",
        "headers": [(b"content-type", b"application/x-www-form-urlencoded")],
    }  # fmt: skip
    async with asyncio.timeout(10):
        await web(scope, receive, send)
    assert sent[0]["status"] == 401 and len(read) < 20


async def test_a_setting_that_grows_when_its_aliases_are_followed_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for each in range(1, 11):
        lines.append(f"a{each}: &a{each} [{', '.join([f'*a{each - 1}'] * 9)}]")
    with pytest.raises(HeadgateError, match="aliases are followed"):
        read_setting("\n".join(lines), "local")
    with pytest.raises(HeadgateError, match="this is not YAML"):
        read_setting("a: [", "local")
