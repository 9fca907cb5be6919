"""Whose large body is read next.

A turn of the event loop that finds many large bodies would read them all, one after the other, and
meanwhile hear no answer of an instance: those leave late and all at once, their clients send the
next bodies all at once, and the bodies pile up in memory on their way to a model that idles.
"""

from __future__ import annotations

import asyncio
from collections import deque

# So much of its body a connection may read in its turn.
TURN_BYTES = 1024 * 1024
# A read that brought less has taken what there was: its connection does not take part.
PIECE_BYTES_MIN = 128 * 1024


class Turns:
    """One connection at a time, in the order of asking; in each turn of the loop it is the next's.

    One that has nothing to read when its turn comes delays nobody.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._holder: asyncio.Transport | None = None
        self._left_bytes = 0
        self._waiting: deque[asyncio.Transport] = deque()

    def take(self, transport: asyncio.Transport, size: int) -> None:
        """A connection has read so much of a body that goes on. Not its turn: it has to wait."""
        if size < PIECE_BYTES_MIN or transport.is_closing():
            return
        if self._holder is None:
            self._hand_to(transport)
        if transport is self._holder:
            self._left_bytes -= size
            if self._left_bytes > 0:
                return
        transport.pause_reading()
        self._waiting.append(transport)

    def _hand_to(self, transport: asyncio.Transport) -> None:
        self._holder = transport
        self._left_bytes = TURN_BYTES
        self._loop.call_soon(self._next)

    def _next(self) -> None:
        self._holder = None
        while self._waiting:
            transport = self._waiting.popleft()
            if not transport.is_closing():
                self._hand_to(transport)
                transport.resume_reading()
                return
