"""How fast pages are built, and what is asked for them: with real requests that vanish."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from headgate.client.api import Client
from headgate.client.target import Target
from headgate.portal import core, pace
from headgate.portal.answers import Answers
from headgate.portal.gate import Gate
from headgate.portal.pace_core import Allowance
from headgate.portal.sessions import COOKIE, Session, Sessions
from headgate.runtime.clock import SystemClock
from headgate_contracts import limits

ROUNDED_S = 1e-6
AT_ONCE, WAITING = limits.STUDIO_PAGES_AT_ONCE, limits.STUDIO_WAITING_OF_SESSION_MAX


@given(
    st.lists(st.floats(0, 100), max_size=60).map(sorted),
    st.integers(1, 20),
    st.floats(0.1, 10),
)
def test_turns_come_at_once_and_then_at_their_pace(
    asked_at: list[float], at_once: int, every_s: float
) -> None:
    allowance, turns = Allowance(at_once, every_s), list[float]()
    for now in asked_at:
        if allowance.wait_s(now) < ROUNDED_S:
            allowance = allowance.taken(now)
            turns.append(now)
    assert turns[:at_once] == asked_at[: len(turns[:at_once])]  # nobody waits for those
    for first, last in zip(turns, turns[at_once:], strict=False):
        assert last - first >= every_s - ROUNDED_S


@given(st.lists(st.floats(2, 100), max_size=50), st.integers(1, 5))
def test_who_is_slower_than_the_pace_never_waits(pauses: list[float], at_once: int) -> None:
    allowance, now = Allowance(at_once, 2.0), 0.0
    for pause in pauses:
        now += pause
        assert allowance.wait_s(now) < ROUNDED_S
        allowance = allowance.taken(now)


@pytest.mark.parametrize(("at_once", "taken", "wait_s"), [(3, 2, 0.0), (3, 3, 2.0), (1, 4, 8.0)])
def test_how_long_a_turn_is_away(at_once: int, taken: int, wait_s: float) -> None:
    allowance = Allowance(at_once, 2.0)
    for _ in range(taken):
        allowance = allowance.taken(100.0)
    assert allowance.wait_s(100.0) == wait_s
    assert allowance.wait_s(100.0 + wait_s) == 0.0


# -- a web server, and browsers that come and go ------------------------------------------------


@dataclass
class Studio:
    """Builds pages behind the gate, and counts them by session."""

    sessions: Sessions = field(default_factory=lambda: Sessions(SystemClock()))
    port: int = 0
    built: list[str] = field(default_factory=list)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        cookies = dict(scope["headers"])[b"cookie"].decode()
        self.built.append(cookies.partition("=")[2])
        assert (await receive())["type"] == "http.request"
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"4")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"page"})

    async def sign_in(self) -> Session:
        client = Client(Target("http://127.0.0.1:1", "token", None, "local", ""))
        await client.__aenter__()
        return await self.sessions.add("me", core.Right(), client, self.sessions.watch(client))

    async def ask(self, session: Session) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"GET /studio/ HTTP/1.1\r\nHost: here\r\nCookie: {COOKIE}={session.id}\r\n\r\n"
        writer.write(head.encode())
        return reader, writer

    async def status(self, session: Session) -> int:
        """Of a whole answer."""
        reader, writer = await self.ask(session)
        try:
            return int((await reader.readline()).split()[1])
        finally:
            writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[Studio]:
    studio, listening = Studio(), socket.create_server(("127.0.0.1", 0))
    studio.port = listening.getsockname()[1]
    config = uvicorn.Config(Gate(studio.app, studio.sessions), lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve([listening]))
    try:
        yield studio
    finally:
        server.should_exit = True
        await task
        await studio.sessions.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_many_who_vanish_get_few_pages_built_and_somebody_else_does_not_wait() -> None:
    async with serving() as studio:
        flood, other = await studio.sign_in(), await studio.sign_in()
        for _ in range(AT_ONCE):
            assert await studio.status(flood) == 200
        for _ in range(3):
            gone = [await studio.ask(flood) for _ in range(WAITING)]
            await until(lambda: flood.line.waiting == WAITING)
            for _, writer in gone:
                writer.transport.abort()
            await until(lambda: flood.line.waiting == 0)  # none of them is waited for
        assert await studio.status(other) == 200
        # So long did that not take that more than a few came to their turn.
        assert studio.built.count(flood.id) <= AT_ONCE + 3
        assert studio.built.count(other.id) == 1


async def test_what_waits_is_bounded_and_told_when_to_come_again() -> None:
    async with serving() as studio:
        session = await studio.sign_in()
        for _ in range(AT_ONCE):
            assert await studio.status(session) == 200
        waiting = [await studio.ask(session) for _ in range(WAITING)]
        await until(lambda: session.line.waiting == WAITING)
        reader, writer = await studio.ask(session)
        told = await reader.readuntil(b"\r\n\r\n")
        assert b" 429 " in told and b"retry-after: " in told
        for _, each in [*waiting, (reader, writer)]:
            each.close()


async def test_who_waits_gets_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STUDIO_PAGE_OF_SESSION_EVERY_S", 0.05)
    async with serving() as studio:
        session = await studio.sign_in()
        for _ in range(AT_ONCE + 3):
            assert await studio.status(session) == 200
        told = await asyncio.gather(*(studio.status(session) for _ in range(WAITING)))
        assert told == [200] * WAITING


async def test_all_sessions_together_are_paced_and_take_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STUDIO_PAGES_OF_ALL_AT_ONCE", 2)
    monkeypatch.setattr(limits, "STUDIO_PAGE_EVERY_S", 0.05)
    gave, lines = pace.Pace(SystemClock().monotonic), [pace.Line(), pace.Line()]
    order: list[int] = []

    async def never() -> Any:
        await asyncio.Event().wait()

    async def ask(number: int) -> None:
        await gave.turn(lines[number], never)
        order.append(number)

    async with asyncio.timeout(20):
        await asyncio.gather(*(ask(number) for number in (0, 0, 0, 0, 0, 1, 1)))
    assert order[:2] == [0, 0] and 1 in order[2:4]  # not behind all that was asked before


# -- answers that pages share -------------------------------------------------------------------


@dataclass
class Question:
    """What is asked, and how often it was; ``at`` is the time on its clock."""

    at: float = 0.0
    asked: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)
    fails: bool = False

    async def ask(self) -> int:
        self.asked += 1
        await self.go.wait()
        if self.fails:
            raise ValueError("no")
        return self.asked


async def test_what_pages_ask_at_the_same_time_is_asked_once() -> None:
    question = Question()
    answers = Answers(lambda: question.at)
    asking = [asyncio.create_task(answers.get("a", 1.0, question.ask)) for _ in range(5)]
    await until(lambda: question.asked == 1)
    asking.pop().cancel()  # which takes nothing from the others
    question.go.set()
    assert await asyncio.gather(*asking) == [1] * 4
    question.at = 0.9
    assert await answers.get("a", 1.0, question.ask) == 1
    assert await answers.get("b", 1.0, question.ask) == 2
    question.at = 1.0
    assert await answers.get("a", 1.0, question.ask) == 3


async def test_a_failure_is_told_to_who_waits_and_is_not_kept() -> None:
    question = Question(fails=True)
    answers = Answers(lambda: question.at)
    question.go.set()
    told = await asyncio.gather(
        *(answers.get("a", 1.0, question.ask) for _ in range(3)), return_exceptions=True
    )
    assert [type(each) for each in told] == [ValueError] * 3 and question.asked == 1
    question.fails = False
    assert await answers.get("a", 1.0, question.ask) == 2


async def test_answers_are_bounded_and_forgotten() -> None:
    question = Question()
    answers = Answers(lambda: question.at)
    question.go.set()
    for number in range(limits.STUDIO_ANSWERS_MAX + 1):
        await answers.get(number, 9.0, question.ask)
    assert await answers.get(1, 9.0, question.ask) == 2
    assert await answers.get(0, 9.0, question.ask) == limits.STUDIO_ANSWERS_MAX + 2
    question.go.clear()
    asking = asyncio.create_task(answers.get("open", 9.0, question.ask))
    await until(lambda: question.asked == limits.STUDIO_ANSWERS_MAX + 3)
    answers.forget()
    with suppress(asyncio.CancelledError):
        await asking
    assert asking.cancelled()
