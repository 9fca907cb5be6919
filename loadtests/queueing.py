"""What no real server can beat: one queue in front of all instances, without any overhead."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence


def central_queue(
    arrivals: Sequence[float], services_s: Sequence[float], servers: int, waiting_max: int
) -> list[float | None]:
    """Seconds from arrival to end of each request, or None for one that finds ``waiting_max``
    others waiting and is refused. First come, first served; arrivals in order."""
    free = [0.0] * servers  # when each server is free again
    starts: deque[float] = deque()  # of those that may still wait
    ends: list[float | None] = []
    for at, service_s in zip(arrivals, services_s, strict=True):
        while starts and starts[0] <= at:
            starts.popleft()
        if len(starts) >= waiting_max:
            ends.append(None)
            continue
        start = max(at, heapq.heappop(free))
        heapq.heappush(free, start + service_s)
        if start > at:
            starts.append(start)
        ends.append(start + service_s - at)
    return ends
