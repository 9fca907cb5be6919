"""What a line of a log says of itself, and how many lines may be told. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

_TIME = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z)"
_TAGGED = re.compile(_TIME + r" ([A-Z]{3,10}) (\S{1,100})(?: (.*))?\Z", re.ASCII | re.DOTALL)
_TIMED = re.compile(_TIME + r"(?: (.*))?\Z", re.ASCII | re.DOTALL)
BURST_S = 10.0


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its head. ``level`` is empty for what was written past Python."""

    at: float
    level: str
    request_id: str
    message: str


def parse(text: str, before: float, now: float) -> Line:
    """``2030-01-31T12:00:00.123Z INFO 5f1c... message``, the form in which workers write; a line
    without that head is of the time of the line ``before`` it. None is from the future."""
    if match := _TAGGED.match(text):
        at, level, request_id, message = match.groups()
        request_id = "" if request_id == "-" else request_id
        return Line(_seconds(at, before, now), level, request_id, message or "")
    if match := _TIMED.match(text):
        return Line(_seconds(match[1], before, now), "", "", match[2] or "")
    return Line(min(before, now), "", "", text)


def _seconds(text: str, before: float, now: float) -> float:
    try:
        return min(datetime.fromisoformat(text).timestamp(), now)
    except (ValueError, OverflowError):
        return min(before, now)


@dataclass(slots=True)
class Allowance:
    """Lines that a source may still have told: so many per second, and a burst after silence."""

    per_s: float
    left: float
    at: float

    @classmethod
    def full(cls, per_s: float, now: float) -> Allowance:
        return cls(per_s, per_s * BURST_S, now)

    def now(self, now: float) -> int:
        """How many may be told now."""
        gained = self.per_s * max(0.0, now - self.at)
        self.left = min(self.per_s * BURST_S, self.left + gained)
        self.at = now
        return int(self.left)

    def spend(self, count: int) -> None:
        self.left -= count
