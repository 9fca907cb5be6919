"""How far apart two monotonic clocks are, as heartbeats tell. Pure."""

from __future__ import annotations

import math
from typing import ClassVar


class ClockOffset:
    """The router's monotonic clock minus an instance's, both in milliseconds.

    Each heartbeat overstates it by its time under way, so the smallest is nearest. Only the last
    two windows count: clocks of different machines drift.
    """

    WINDOW_BEATS: ClassVar[int] = 64

    def __init__(self) -> None:
        self._beats = 0
        self._window = math.inf
        self._before = math.inf

    def note(self, here_ms: float, there_ms: float) -> None:
        if self._beats == self.WINDOW_BEATS:
            self._beats, self._before, self._window = 0, self._window, math.inf
        self._beats += 1
        self._window = min(self._window, here_ms - there_ms)

    @property
    def ms(self) -> float:
        return min(self._window, self._before)
