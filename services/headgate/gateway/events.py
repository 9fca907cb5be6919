"""The event trail as server-sent events.

The stream is read by sequence number, one question per event, so a reader keeps no state in the
server: after a restart of the bus it goes on where it was. That something new is there is heard
on the events' own subjects, which is only a hint, so readers also look by themselves.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from headgate.azure.arm_fields import Json
from headgate.gateway import access, core
from headgate.gateway.access import Action
from headgate.gateway.backend import Backend
from headgate.gateway.http import Call, Handle
from headgate.gateway.routes import Route
from headgate_contracts import streams, subjects
from headgate_contracts.errors import ErrorCode, HeadgateError

READERS_MAX = 64
READERS_OF_CALLER_MAX = 32
_RETRY_S = 5
LOOK_S = 2.0
KEEP_ALIVE_S = 15.0
_STREAM = streams.EVENTS.name


class Events:
    """Handler of the event trail."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._readers: Counter[str] = Counter()
        self._news = asyncio.Event()

    async def start(self) -> None:
        await self._backend.bus.subscribe(subjects.EVENT_ALL, self._hear)

    async def _hear(self, _: Msg) -> None:
        # Whoever waits holds the old event: it is set once and replaced, so nobody resets it.
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def stream(self, call: Call) -> web.StreamResponse:
        subject = core.read_filter(call.query.get("filter", ">"))
        follows = call.query.get("follow", "true").lower() != "false"
        with self._place(call.principal.subject):
            return await self._send(call, await self._first(call), subject, follows=follows)

    @contextmanager
    def _place(self, caller: str) -> Iterator[None]:
        """One of the places for readers; nobody has so many of them that others get none."""
        if self._readers[caller] >= READERS_OF_CALLER_MAX:
            raise HeadgateError(
                ErrorCode.TOO_MANY_REQUESTS,
                f"{caller} follows the events {READERS_OF_CALLER_MAX} times already, the most that "
                "one caller may; close one that is not needed",
                retry_after_s=_RETRY_S,
            )
        if self._readers.total() >= READERS_MAX:
            raise HeadgateError(
                ErrorCode.UNAVAILABLE,
                f"{READERS_MAX} readers follow the events already; try again later",
                retry_after_s=_RETRY_S,
            )
        self._readers[caller] += 1
        try:
            yield
        finally:
            self._readers[caller] -= 1
            self._readers += Counter()  # without those who have none left

    async def _first(self, call: Call) -> int:
        """The sequence number to begin with."""
        try:
            state = (await self._backend.bus.js.stream_info(_STREAM)).state
        except NatsError as error:
            raise HeadgateError(
                ErrorCode.UNAVAILABLE,
                f"the event stream does not answer: {error or type(error).__name__}",
                retry_after_s=1,
            ) from None
        last_id = call.request.headers.get("Last-Event-ID", "")
        if last_id.isascii() and last_id.isdecimal() and len(last_id) < 20:
            # A number from beyond the end comes from another life of this stream.
            return min(int(last_id), state.last_seq) + 1
        if "since" not in call.query:
            return state.last_seq + 1
        at = core.read_since(call.query["since"], self._backend.clock.now())
        return await self._first_since(at, state.first_seq, state.last_seq)

    async def _first_since(self, at: float, first: int, last: int) -> int:
        """Binary search: the stream is in the order of its times."""
        low, high = first, last + 1
        while low < high:
            middle = (low + high) // 2
            message = await self._next(middle, subjects.EVENT_ALL)
            if message is None or message.seq is None or message.time is None:
                high = middle
            elif message.time.timestamp() < at:
                low = message.seq + 1
            else:
                high = middle
        return low

    async def _next(self, sequence: int, subject: str) -> RawStreamMsg | None:
        """The first stored event from ``sequence`` on; None when there is none yet."""
        try:
            return await self._backend.bus.js.get_msg(
                _STREAM, seq=sequence, subject=subject, next=True
            )
        except NotFoundError:
            return None

    async def _send(
        self, call: Call, sequence: int, subject: str, *, follows: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        )
        await response.prepare(call.request)
        # The id alone is no event; it lets a reader that hears nothing resume from here.
        await response.write(f"retry: 1000\nid: {sequence - 1}\n\n".encode())
        quiet_since = self._backend.clock.monotonic()
        while not self._is_over(call):
            news = self._news
            try:
                message = await self._next(sequence, subject)
            except NatsError:  # the bus is away; it comes back, and nothing is lost meanwhile
                message = None
            if message is not None and message.seq is not None:
                sequence = message.seq + 1
                event = _described(message)
                if self._is_wanted(call, event.get("data")):
                    await response.write(_frame(event))
                    quiet_since = self._backend.clock.monotonic()
            elif not follows:
                break
            if self._backend.clock.monotonic() - quiet_since >= KEEP_ALIVE_S:
                await response.write(f": still here\nid: {sequence - 1}\n\n".encode())
                quiet_since = self._backend.clock.monotonic()
            if message is None:
                await self._wait_for(news)
        await response.write_eof()
        return response

    def _is_over(self, call: Call) -> bool:
        """A stream outlives neither its reader, nor the token that opened it, nor us."""
        if self._backend.closing.is_set() or call.request.transport is None:
            return True
        try:
            call.authenticate()
        except HeadgateError:
            return True
        return False

    @staticmethod
    def _is_wanted(call: Call, data: Any) -> bool:
        """Whether an event is the caller's to see, and of the workspace that was asked for."""
        workspace = call.query.get("workspace", "").lower()
        if workspace and not (isinstance(data, dict) and data.get("workspace") == workspace):
            return False
        return access.may_see(call.principal, data)

    async def _wait_for(self, news: asyncio.Event) -> None:
        waits = [
            asyncio.create_task(news.wait()),
            asyncio.create_task(self._backend.closing.wait()),
        ]
        try:
            await asyncio.wait(waits, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def routes(self) -> tuple[Route[Handle], ...]:
        return (
            Route(
                "GET",
                "/events",
                self.stream,
                "Follow what happens, as server-sent events",
                query=("since", "filter", "follow", "workspace"),
                reply={"type": "string"},
                media="text/event-stream",
                action=Action.ANY,
            ),
        )


def _described(message: RawStreamMsg) -> Json:
    return core.describe_event(
        message.seq or 0, message.subject or "", message.headers or {}, message.data or b""
    )


def _frame(event: Json) -> bytes:
    data = json.dumps(event)
    return f"id: {event['sequence']}\nevent: {event['type']}\ndata: {data}\n\n".encode()
