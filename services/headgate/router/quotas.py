"""Decisions about quotas, pure: token buckets, a router's share of a rate, and refusals.

Times are seconds on whatever clock the caller keeps; a decision never reads one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from headgate.router.core import Refusal
from headgate_contracts.quotas import Quota, QuotaKind

K = QuotaKind
BURST_S = 1.0
"""So much of a rate may come at once."""
IDLE_SHARE = 0.02
"""What of a figure a router without demand keeps while the others want all of it."""


class Bucket(NamedTuple):
    """A token bucket: what it held at a time. Below zero it has given too much away."""

    tokens: float
    at: float


def refilled(bucket: Bucket, rate: float, burst: float, now: float) -> Bucket:
    """The bucket now. A clock that steps back gives nothing and takes nothing."""
    elapsed = max(0.0, now - bucket.at)
    return Bucket(min(burst, bucket.tokens + rate * elapsed), now)


def taken(bucket: Bucket, amount: float, rate: float, burst: float, now: float) -> Bucket | float:
    """The bucket without ``amount``, or after how many seconds it will have so much."""
    bucket = refilled(bucket, rate, burst, now)
    if bucket.tokens >= amount:
        return Bucket(bucket.tokens - amount, now)
    return (amount - bucket.tokens) / rate if rate > 0 else math.inf


def burst_of(rate: float) -> float:
    """How much may come at once: a second's worth, and at least one."""
    return max(1.0, rate * BURST_S)


def share(limit: float, own: float, others: Sequence[float]) -> float:
    """A router's part of a rate that all routers keep together; ``own`` and ``others`` is what
    each is asked for, per second.

    While all of it together fits, everybody gets theirs and an equal part of the rest; beyond
    that everybody gets by demand, and who has none a little. The parts of routers that know the
    same figures add up to ``limit``.
    """
    count, demand = 1 + len(others), own + sum(others)
    if demand <= limit:
        return own + (limit - demand) / count
    floor = IDLE_SHARE * limit
    return limit * (own + floor) / (demand + count * floor)


def seats(limit: int, rank: int, count: int) -> int:
    """A router's part of connections: equal parts, the rest to the first; one at least."""
    whole, rest = divmod(limit, count)
    return max(min(1, limit), whole + (1 if rank < rest else 0))


def rate_refusal(quota: Quota, endpoint: str, wait_s: float) -> Refusal:
    """A request too many for a rate."""
    if quota.kind is K.CONNECTIONS:
        words = f"{quota.limit:g} connections at once"
        advice = "use one connection for many requests, or try again"
    elif quota.kind is K.REQUESTS_PER_SECOND:
        words, advice = f"{quota.limit:g} requests per second", "send fewer, or try again"
    else:
        words, advice = f"{quota.limit:g} bytes per second", "send and ask for less, or try again"
    seconds = whole(wait_s)
    return Refusal(
        429,
        "QuotaExceeded",
        f"the endpoint {endpoint!r} takes at most {words} (quota {quota.name!r}); {advice} in "
        f"{seconds} s",
        seconds,
    )


def count_refusal(quota: Quota, caller: str, used: float, until: float, now: float) -> Refusal:
    """The count of a window is used up."""
    what = "requests" if quota.kind is K.REQUESTS else "seconds of compute time"
    whose = f" of the caller {caller!r}" if quota.caller else ""
    ends = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Refusal(
        429,
        "QuotaExceeded",
        f"the quota {quota.name!r} allows {quota.limit:g} {what}{whose} per {span(quota.window_s)} "
        f"and {used:.6g} are used; it frees at {ends}",
        whole(until - now),
    )


def whole(seconds: float) -> int:
    """Seconds for a header that knows whole ones: at least one, at most a day or two."""
    return max(1, math.ceil(min(seconds, 1e6)))


def span(seconds: int) -> str:
    """A length of time in the largest unit that it is whole in."""
    for name, unit in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        if seconds % unit == 0:
            count = seconds // unit
            return name if count == 1 else f"{count} {name}s"
    raise AssertionError("seconds are whole")
