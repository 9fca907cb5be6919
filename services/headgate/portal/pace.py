"""Whose page is built next.

Each page takes tens of milliseconds of processor, here and in the gateway, whether anybody stays to
see it or not. So many as a person opens are built at once; what comes faster than that waits, each
session's in a line of its own, and the first of each line in one line for all: whoever opens
hundreds of pages waits for them alone.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.types import Message, Receive

from headgate.portal.pace_core import Allowance
from headgate_contracts import limits


class TooManyError(Exception):
    """More pages wait than may; ``retry_after_s``: until they will have been built."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"{limits.STUDIO_WAITING_OF_SESSION_MAX} pages wait to be built")
        self.retry_after_s = retry_after_s


class GoneError(Exception):
    """Whoever has asked for the page has left while it waited."""


def _of_session() -> Allowance:
    return Allowance(limits.STUDIO_PAGES_AT_ONCE, limits.STUDIO_PAGE_OF_SESSION_EVERY_S)


@dataclass(slots=True)
class Line:
    """Those of one session."""

    allowance: Allowance = field(default_factory=_of_session)
    waiting: int = 0
    head: asyncio.Lock = field(default_factory=asyncio.Lock)


class Pace:
    """Gives turns; ``monotonic`` tells seconds of a clock."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._all = Allowance(limits.STUDIO_PAGES_OF_ALL_AT_ONCE, limits.STUDIO_PAGE_EVERY_S)
        self._next = asyncio.Lock()

    async def turn(self, line: Line, receive: Receive) -> Receive:
        """Return when the page may be built, with what its request is received from from then on.

        Raises TooManyError, and GoneError when the browser hangs up before."""
        now = self._monotonic()
        if not (
            line.waiting
            or self._next.locked()
            or line.allowance.wait_s(now)
            or self._all.wait_s(now)
        ):
            self._take(line)
            return receive
        if line.waiting >= limits.STUDIO_WAITING_OF_SESSION_MAX:
            raise TooManyError(math.ceil(line.waiting * limits.STUDIO_PAGE_OF_SESSION_EVERY_S))
        said = _Said(receive)
        line.waiting += 1
        both = [asyncio.create_task(self._wait(line)), asyncio.create_task(said.until_gone())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            line.waiting -= 1
            for each in both:
                each.cancel()
            await asyncio.gather(*both, return_exceptions=True)
        if both[0].cancelled():
            raise GoneError
        return said.receive

    async def _wait(self, line: Line) -> None:
        async with line.head:
            await asyncio.sleep(line.allowance.wait_s(self._monotonic()))
            async with self._next:
                await asyncio.sleep(self._all.wait_s(self._monotonic()))
                self._take(line)

    def _take(self, line: Line) -> None:
        now = self._monotonic()
        line.allowance, self._all = line.allowance.taken(now), self._all.taken(now)


class _Said:
    """What a browser has sent while it waits is kept for whoever builds the page."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept: list[Message] = []

    async def until_gone(self) -> None:
        """Until the browser has hung up; for ever while more of a body is to come."""
        while (message := await self._receive())["type"] != "http.disconnect":
            self._kept.append(message)
            if message.get("more_body"):
                await asyncio.Event().wait()

    async def receive(self) -> Message:
        return self._kept.pop(0) if self._kept else await self._receive()
