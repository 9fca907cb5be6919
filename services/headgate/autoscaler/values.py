"""The values that the autoscaler's decisions read and return."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from headgate_contracts.autoscale import Figure


class Unread(StrEnum):
    """Why a metric has no value. None of them ever takes an instance away."""

    YOUNG = "its window is not full yet"
    NO_DATA = "nothing was reported"
    IDLE = "there was nothing to measure"


Reading = float | Unread


class Reason(StrEnum):
    """Why the count is changed or held, as a word for programs."""

    STEADY = "steady"
    SCALE_OUT = "scale_out"
    SCALE_IN = "scale_in"
    BOUNDS = "outside_bounds"
    DEFAULT = "metrics_unreadable"
    COOLDOWN = "cooldown"
    FLAPPING = "flapping"
    NO_DATA = "no_data"
    AT_LIMIT = "at_limit"
    REFUSED = "refused"
    PANIC = "panic"
    FROM_ZERO = "from_zero"
    TO_ZERO = "to_zero"
    GRACE = "scale_to_zero_grace"


@dataclass(frozen=True, slots=True)
class Decision:
    """The count from now on, and why. ``wanted`` is what the count would be if nothing held it.

    ``cooldown_s``: how long rules change nothing after this.
    """

    count: int
    reason: Reason
    message: str
    wanted: int
    figures: tuple[Figure, ...] = ()
    cooldown_s: float = 0.0
