"""How fast pages are built: so many at once, and from then on one in so many seconds. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Allowance:
    """A generic cell rate algorithm (ITU-T I.371, A.1, as virtual scheduling).

    ``due_at``: when the next turn would come if they came one in ``every_s``, on the clock of the
    calls' ``now``; ``at_once`` of them may come before that."""

    at_once: int
    every_s: float
    due_at: float = -math.inf

    def wait_s(self, now: float) -> float:
        """Until there is a turn; 0 when there is one now."""
        return max(0.0, self.due_at - (self.at_once - 1) * self.every_s - now)

    def taken(self, now: float) -> Allowance:
        """What is left after a turn now."""
        return replace(self, due_at=max(self.due_at, now) + self.every_s)
