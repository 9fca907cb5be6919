"""Instances that are left out for a while because they fail, though their process lives.

An instance fails when a request that it held for most of the time limit gets no answer, or when it
answers 5xx. Five failures in a row put it out for 30 s times the number of its quarantines; at
most half of the instances are out at once, and never the last one. It comes back by itself.

Unlike Envoy's outlier detection, failures count against an instance only while a sister answers
well: bad requests, and models that are too slow for everybody, fail everywhere, and to leave
instances out for that would make a fault of the client's or of the script's an outage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from headgate.router.table import Instance

# Called with the seconds that an instance is left out for, and with 0 when it is back.
Tell = Callable[["Instance", float], None]

FAILURES_MAX = 5
FIRST_S = 30.0
MAX_S = 300.0
FORGIVEN_AFTER_S = 600.0  # back for so long, an instance counts as never quarantined
OWN_SHARE = 0.5  # of the time limit; less, and the request was late already when it came


class Patient(Protocol):
    """What is known of an instance's answers. Times are the router's monotonic clock.

    ``failures`` are those in a row, ``well_at`` is its last good answer, ``out_until`` the end of
    its present or last quarantine.
    """

    failures: int
    failing_since: float
    well_at: float
    quarantines: int
    left_out: bool
    out_until: float


P = TypeVar("P", bound=Patient)


def is_own_failure(status: object) -> bool:
    """Whether a model's status says that it, or the server around it, has failed."""
    return type(status) is not int or status >= 500


def is_own_delay(held_s: float, limit_s: float) -> bool:
    """Whether a request that is too late was late because of the instance, not of the queue."""
    return held_s >= OWN_SHARE * limit_s


def sentence_s(one: Patient, able: Sequence[Patient], now: float) -> float:
    """How long an instance that has just failed stays out; 0: it stays in.

    ``able`` are all instances that could take requests, itself and those left out included.
    """
    if one.left_out or one.failures < FAILURES_MAX:
        return 0.0
    if sum(each.left_out for each in able) + 1 > len(able) // 2:
        return 0.0
    if not any(_does_well(each, one.failing_since) for each in able if each is not one):
        return 0.0
    return min(MAX_S, FIRST_S * (1 + held_against(one, now)))


def _does_well(sister: Patient, since: float) -> bool:
    return not sister.left_out and sister.failures == 0 and sister.well_at > since


def held_against(one: Patient, now: float) -> int:
    """How many earlier quarantines count."""
    return 0 if now - one.out_until > FORGIVEN_AFTER_S else one.quarantines


def too_many_out(able: Sequence[P]) -> list[P]:
    """Those that come back early, because too few others are there (any more)."""
    out = sorted((each for each in able if each.left_out), key=lambda each: each.out_until)
    return out[: max(0, len(out) - len(able) // 2)]


class Ward:
    """The instances that are left out now."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._out: set[Instance] = set()

    def note_answer(self, instance: Instance, status: object, now: float) -> None:
        """An instance has answered with that status."""
        if is_own_failure(status):
            self.note_failure(instance, now)
        else:
            instance.failures, instance.well_at = 0, now

    def note_failure(self, instance: Instance, now: float) -> None:
        instance.fail(now)
        seconds = sentence_s(instance, instance.deployment.able, now)
        if seconds:
            instance.leave_out(seconds, now)
            self._out.add(instance)
            self._tell(instance, seconds)

    def discharge(self, now: float) -> list[Instance]:
        """Take back whose time is over, or who is needed; those that are back."""
        back = [each for each in self._out if now >= each.out_until or not each.left_out]
        for instance in back:
            self._out.discard(instance)
            instance.take_back()
            self._tell(instance, 0.0)
        return back
