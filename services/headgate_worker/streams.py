"""Answers in parts: a small bounded pipe from whatever makes them to whoever sends them.

The writer (a script's generator, a server beside us) and the reader (the bus, a local connection)
are on different threads. The writer waits while the pipe is full, so a client that reads slowly
slows the model down instead of filling our memory.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Optional, Union

PIPE_BYTES_MAX = 64 * 1024
PART_BYTES_MAX = 64 * 1024  # of what travels as one frame

Part = Union[bytes, memoryview]
Copied = Callable[[bytes], None]  # what passed, as far as it was wanted


class ReaderGoneError(Exception):
    """Nobody reads any more: the client has left, or the bus has gone."""


def _nothing() -> None:
    pass


class Stream:
    """The body of one answer, under way. ``size`` is its length where that is known before."""

    def __init__(self, size: Optional[int] = None) -> None:
        self.size = size
        self.error = ""  # why it ended too early
        self.run_ms = -1.0
        self._parts: deque[Part] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self._closed = False
        self._left = False
        self._woken = False
        self._wake: Callable[[], None] = _nothing
        self._room: Callable[[], None] = _nothing
        self._copy: Optional[bytearray] = None
        self._copy_bytes_max = 0
        self.passed_bytes = 0
        self._on_copied: Optional[Copied] = None

    # -- the writer's side --------------------------------------------------------------------

    def on_room(self, room: Callable[[], None]) -> None:
        """``room`` is called on the reader's thread when the pipe has room again, or none reads."""
        self._room = room

    def put(self, part: Part) -> bool:
        """Adds up to PART_BYTES_MAX; False: wait for room before more. Raises ReaderGoneError."""
        with self._lock:
            if self._left:
                raise ReaderGoneError
            self._parts.append(part)
            self._bytes += len(part)
            wake, self._woken = not self._woken, True
            full = self._bytes >= PIPE_BYTES_MAX
        self.passed_bytes += len(part)
        if self._copy is not None and len(self._copy) < self._copy_bytes_max:
            self._copy += part[: self._copy_bytes_max - len(self._copy)]
        if wake:
            self._wake()
        return not full

    def close(self, run_ms: float = -1.0, error: str = "") -> None:
        """The last word: nothing more comes, because of ``error`` or because it is whole."""
        with self._lock:
            self.run_ms, self.error = run_ms, error
            self._closed = True
            self._room = _nothing
        if self._on_copied is not None and self._copy is not None:
            self._on_copied(bytes(self._copy))
        self._wake()

    # -- the reader's side --------------------------------------------------------------------

    def attach(self, wake: Callable[[], None]) -> None:
        """``wake`` is called on the writer's thread when there is something to take, or the end."""
        self._wake = wake
        wake()

    def take(self, bytes_max: int) -> Part:
        """What is there, joined, up to that many bytes and PART_BYTES_MAX; empty: nothing now."""
        wanted = min(bytes_max, PART_BYTES_MAX)
        with self._lock:
            self._woken = False
            taken: list[Part] = []
            count = 0
            while self._parts and count < wanted:
                part = self._parts.popleft()
                if len(part) > wanted - count:
                    rest = memoryview(part)
                    part, left = rest[: wanted - count], rest[wanted - count :]
                    self._parts.appendleft(left)
                taken.append(part)
                count += len(part)
            was_full = self._bytes >= PIPE_BYTES_MAX
            self._bytes -= count
            room = self._room if was_full and self._bytes < PIPE_BYTES_MAX else _nothing
        room()
        return taken[0] if len(taken) == 1 else b"".join(taken)

    @property
    def ended(self) -> bool:
        """Whether all of it was taken and nothing more comes."""
        return self._closed and not self._parts

    @property
    def left(self) -> bool:
        return self._left

    def leave(self) -> None:
        """Nobody reads any more: what is here is dropped, and the writer is told."""
        with self._lock:
            self._left = True
            self._parts.clear()
            self._bytes = 0
            room = self._room
        room()

    def copy(self, bytes_max: int, on_copied: Copied) -> None:
        """Also keeps the first so many bytes that pass, for ``on_copied`` at the end."""
        self._copy, self._copy_bytes_max, self._on_copied = bytearray(), bytes_max, on_copied


class Whole:
    """A body that is here already, read like a Stream."""

    error = ""

    def __init__(self, body: bytes, run_ms: float) -> None:
        self.left = False
        self.size = len(body)
        self.run_ms = run_ms
        self._body = memoryview(body)

    def attach(self, wake: Callable[[], None]) -> None:
        wake()

    def take(self, bytes_max: int) -> Part:
        wanted = min(bytes_max, PART_BYTES_MAX)
        part, self._body = self._body[:wanted], self._body[wanted:]
        return part

    @property
    def ended(self) -> bool:
        return not self._body

    def leave(self) -> None:
        self.left = True
        self._body = memoryview(b"")


def pieces(part: bytes) -> Iterator[Part]:
    """A part in pieces that a pipe takes."""
    if len(part) <= PART_BYTES_MAX:
        yield part
        return
    view = memoryview(part)
    for start in range(0, len(view), PART_BYTES_MAX):
        yield view[start : start + PART_BYTES_MAX]
