"""Time and chance as dependencies: services take a :class:`Clock`, tests hand in one they move."""

from __future__ import annotations

import secrets
import time
from typing import Protocol


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
