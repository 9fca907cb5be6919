"""What the target mode looks at: the load of one deployment over its two windows. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from headgate.autoscaler.metrics import SILENT_AFTER_S
from headgate.autoscaler.target import Load

STANDING_S = 3.0
STANDING_CHANGE_MAX = 0.1
STANDING_ENTRIES_MAX = 16


class _Entry(NamedTuple):
    """What was reported of some seconds."""

    span_s: float
    busy_s: float
    arrivals: int
    served: int


class LoadWindow:
    """The load of one deployment over the stable and the panic window."""

    def __init__(self, stable_s: float, panic_s: float) -> None:
        self.stable_s = stable_s
        self.panic_s = panic_s
        self._stable: deque[tuple[float, float, float, int]] = deque()
        self._panic: deque[tuple[float, float, float, int]] = deque()
        self._sums = [0.0, 0.0, 0.0]  # span, busy, arrivals
        self._panic_sums = [0.0, 0.0, 0.0]
        self._served: deque[tuple[float, int, float]] = deque()
        self._service = [0.0, 0.0]  # requests, seconds
        self._service_s: float | None = None  # remembered when there is none for a while
        self._recent: deque[_Entry] = deque(maxlen=STANDING_ENTRIES_MAX)
        self._in_hand = 0
        self._heard_at = -math.inf
        self._busy_at: float | None = None

    def feed(
        self,
        now: float,
        span_s: float,
        busy_s: float,
        arrivals: int,
        in_hand: int,
        served: int = 0,
        service_s: float = 0.0,
    ) -> None:
        """Take what has been reported in: so many request-seconds in so many seconds."""
        self._heard_at = now
        self._in_hand = in_hand
        if self._busy_at is None or busy_s > 0 or in_hand or arrivals:
            self._busy_at = now
        self._recent.append(_Entry(span_s, busy_s, arrivals, served))
        entry = (now, span_s, busy_s, arrivals)
        for window, sums, length_s in (
            (self._stable, self._sums, self.stable_s),
            (self._panic, self._panic_sums, self.panic_s),
        ):
            window.append(entry)
            sums[0] += span_s
            sums[1] += busy_s
            sums[2] += arrivals
            while window[0][0] <= now - length_s:
                _, span, busy, count = window.popleft()
                sums[0] -= span
                sums[1] -= busy
                sums[2] -= count
                if not window:
                    sums[:] = (0.0, 0.0, 0.0)
        if served:
            self._served.append((now, served, service_s))
            self._service[0] += served
            self._service[1] += service_s
        while self._served and self._served[0][0] <= now - self.stable_s:
            _, count, seconds = self._served.popleft()
            self._service[0] -= count
            self._service[1] -= seconds
        if self._service[0] > 0:
            self._service_s = max(0.0, self._service[1] / self._service[0])

    def read(self, now: float) -> Load | None:
        """The load; None when nothing has been heard lately."""
        spans = self._sums[0], self._panic_sums[0]
        if now - self._heard_at > SILENT_AFTER_S or min(spans) <= 0:
            return None
        service_s = self._service_s
        return Load(
            stable=max(0.0, self._sums[1]) / spans[0],
            panic=max(0.0, self._panic_sums[1]) / spans[1],
            stable_demand=None if service_s is None else self._sums[2] / spans[0] * service_s,
            panic_demand=None if service_s is None else self._panic_sums[2] / spans[1] * service_s,
            service_s=service_s,
            in_hand=self._in_hand,
            idle_s=now - self._busy_at if self._busy_at is not None else 0.0,
            standing=_standing(self._recent),
        )


def _standing(recent: Sequence[_Entry]) -> float | None:
    """What has been in hand all the time lately, if it stood: clients that wait for answers.

    A queue in front of a load that comes by itself grows or shrinks: with instances at 70 % by 43 %
    of the arrivals.
    """
    span_s, levels = 0.0, []
    for entry in reversed(recent):
        changed = abs(entry.arrivals - entry.served)
        if not entry.served or changed > max(1.0, STANDING_CHANGE_MAX * entry.arrivals):
            return None
        levels.append(entry.busy_s / entry.span_s)
        span_s += entry.span_s
        if span_s >= STANDING_S:
            low, high = min(levels), max(levels)
            return low if low >= (1 - STANDING_CHANGE_MAX) * high else None
    return None
