"""What the demonstration concludes from the answers it got. Pure: no clock, no network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, log1p

FALSE_ALARM_CHANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Answer:
    """One request as its client saw it. Status 0: the connection ended without an answer."""

    status: int
    deployment: str
    latency_ms: float
    right: bool


@dataclass(frozen=True, slots=True)
class Served:
    """What one deployment did for the clients."""

    deployment: str
    requests: int
    declared_percent: int
    band: tuple[int, int]
    accuracy: float
    p50_ms: float
    p99_ms: float

    @property
    def in_band(self) -> bool:
        return self.band[0] <= self.requests <= self.band[1]


@dataclass(frozen=True, slots=True)
class Check:
    """One promise and whether it was kept; ``found`` says what was seen."""

    promise: str
    kept: bool
    found: str


def band(trials: int, share: float, *, chance: float = FALSE_ALARM_CHANCE) -> tuple[int, int]:
    """Counts to accept of ``trials`` independent picks with probability ``share`` each.

    The exact binomial quantiles: an honest system falls outside with a probability of at most
    ``chance``, half of it on either side.
    """
    if share <= 0 or share >= 1:
        sure = trials if share >= 1 else 0
        return sure, sure
    low = _quantile(trials, share, chance / 2)
    high = trials - _quantile(trials, 1 - share, chance / 2)
    return low, high


def _quantile(trials: int, share: float, chance: float) -> int:
    """The smallest count k with P(picks <= k) >= ``chance``."""
    log_of_one = trials * log1p(-share)  # P(picks = k), as a logarithm: it may be very small
    log_odds = log(share) - log1p(-share)
    total = 0.0
    for count in range(trials + 1):
        total += exp(log_of_one)
        if total >= chance:
            return count
        log_of_one += log(trials - count) - log(count + 1) + log_odds
    return trials


def quantile(values: Sequence[float], share: float) -> float:
    """The nearest-rank quantile of ``values``; 0 for none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def served(answers: Sequence[Answer], traffic: Mapping[str, int]) -> list[Served]:
    """One row per deployment that has traffic or answered, in order of their names."""
    answered = [answer for answer in answers if answer.status == 200]
    rows = []
    for name in sorted({*traffic, *(answer.deployment for answer in answered)}):
        mine = [answer for answer in answered if answer.deployment == name]
        declared = traffic.get(name, 0)
        latencies = [answer.latency_ms for answer in mine]
        rows.append(
            Served(
                deployment=name,
                requests=len(mine),
                declared_percent=declared,
                band=band(len(answers), declared / 100),
                accuracy=sum(answer.right for answer in mine) / len(mine) if mine else 0.0,
                p50_ms=quantile(latencies, 0.5),
                p99_ms=quantile(latencies, 0.99),
            )
        )
    return rows


def all_answered(answers: Sequence[Answer]) -> Check:
    """Every request got status 200."""
    others = Counter(answer.status for answer in answers if answer.status != 200)
    found = ", ".join(f"{count:,} x {status or 'no answer'}" for status, count in others.items())
    return Check("every request is answered", not others, found or f"{len(answers):,} x 200")


def split_kept(rows: Sequence[Served]) -> Check:
    """Every deployment got its share of the traffic, within the band of chance."""
    found = ", ".join(f"{row.deployment} {row.requests:,}" for row in rows)
    return Check("the split is the declared one", all(row.in_band for row in rows), found)


def only_from(answers: Sequence[Answer], deployment: str, promise: str) -> Check:
    """All answers came from one deployment."""
    mine = sum(answer.deployment == deployment for answer in answers)
    return Check(promise, mine == len(answers) > 0, f"{mine:,} of {len(answers):,}")


def mirror_kept(copies: int, requests: int, percent: int) -> Check:
    """As many requests were copied as declared, within the band of chance."""
    low, high = band(requests, percent / 100)
    return Check(
        f"{percent} % of live requests are copied",
        low <= copies <= high,
        f"{copies:,} of {requests:,} (accepted {low:,} to {high:,})",
    )


def revoked_in_time(seconds: float | None, bound_s: float) -> Check:
    """The replaced key stopped working within the bound; None: it still works."""
    kept = seconds is not None and seconds <= bound_s
    found = "still accepted" if seconds is None else f"refused after {seconds:.2f} s"
    return Check(f"a replaced key is refused within {bound_s:g} s", kept, found)
