"""Time and chance as dependencies: services take a :class:`Clock`, tests hand in one they move."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Protocol

_UUIDS_PER_DRAW = 128


class Clock(Protocol):
    """Where services read time. ``now`` is Unix seconds; ``monotonic`` never jumps."""

    def now(self) -> float: ...

    def monotonic(self) -> float: ...


class SystemClock:
    """The machine's own clocks, as they are: they are read several times per scoring request."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


def new_id() -> str:
    """A random id of 128 bits: 32 hexadecimal digits, a safe subject token and file name."""
    return secrets.token_hex(16)


def short_id() -> str:
    """A random id of 40 bits for things a person types, such as instances."""
    return secrets.token_hex(5)


def _uuids() -> Iterator[str]:
    while True:
        drawn = secrets.token_hex(16 * _UUIDS_PER_DRAW)
        for at in range(0, len(drawn), 32):
            d = drawn[at : at + 32]
            yield f"{d[:8]}-{d[8:12]}-4{d[13:16]}-a{d[17:20]}-{d[20:]}"


# A random UUID (version 4) as text, for ids given by the thousand a second: chance is drawn for
# many of them at once.
new_uuid: Callable[[], str] = _uuids().__next__
