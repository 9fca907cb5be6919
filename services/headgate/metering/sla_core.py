"""Service levels from stored minutes: what counts, burn rates, and which alerts are due. Pure.

Alerts look at two windows each, after "Alerting on SLOs" of Google's Site Reliability Workbook
(table 5-8): the long one shows that much of the budget is gone, the short one that it still goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from headgate_contracts import limits
from headgate_contracts.routing import LATENCY_BOUNDS_MS
from headgate_contracts.sla import (
    Indicator,
    Objective,
    Severity,
    SlaAlert,
    SlaStanding,
    SlaWindow,
)

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
WINDOWS_S = (5 * MINUTE_S, 30 * MINUTE_S, HOUR_S, 6 * HOUR_S, 3 * DAY_S)

# Failures of a deployment that are its client's: a bad request, one that is too large, ...; and a
# client that did not wait. What comes too late (408) or finds no room (429) is ours, and so is what
# the model does (424), unless the model itself says that the request is bad.
_OURS_OF_4XX = (408, 424, 429)
_MODEL_ERROR = 424


class Sli(NamedTuple):
    """Requests as service levels see them."""

    good: int = 0
    bad: int = 0
    excluded: int = 0
    fast: float = 0.0
    measured: int = 0

    @property
    def total(self) -> int:
        return self.good + self.bad

    def plus(self, other: Sli) -> Sli:
        return Sli(
            self.good + other.good,
            self.bad + other.bad,
            self.excluded + other.excluded,
            self.fast + other.fast,
            self.measured + other.measured,
        )

    def share(self, indicator: Indicator) -> float | None:
        """Of one, how much was well; None without requests."""
        if indicator is Indicator.AVAILABILITY:
            return self.good / self.total if self.total else None
        return self.fast / self.measured if self.measured else None

    def count(self, indicator: Indicator) -> int:
        return self.total if indicator is Indicator.AVAILABILITY else self.measured


class Rule(NamedTuple):
    """An alert: the budget burns ``threshold`` times as fast as it may, in both windows."""

    severity: Severity
    long_s: int
    short_s: int
    threshold: float


RULES = (
    Rule(Severity.PAGE, HOUR_S, 5 * MINUTE_S, 14.4),  # 2 % of a month's budget in an hour
    Rule(Severity.PAGE, 6 * HOUR_S, 30 * MINUTE_S, 6.0),  # 5 % in six hours
    Rule(Severity.TICKET, 3 * DAY_S, 6 * HOUR_S, 1.0),  # 10 % in three days
)


class Burn(NamedTuple):
    """A rule that applies now, and how fast the budget burns in its long window."""

    rule: Rule
    indicator: Indicator
    rate: float


# --- what counts -------------------------------------------------------------------------------


def of_deployment(value: Mapping[str, Any], latency_ms: float) -> Sli:
    """What a stored minute of a deployment adds."""
    good = bad = excluded = 0
    asked_badly = sum(
        count for code, count in value.get("model_statuses", {}).items() if code.startswith("4")
    )
    for code, count in value.get("statuses", {}).items():
        status = int(code)
        if status == _MODEL_ERROR:
            theirs = min(count, asked_badly)
            excluded, bad = excluded + theirs, bad + count - theirs
        elif status < 400:
            good += count
        elif status >= 500 or status in _OURS_OF_4XX:
            bad += count
        else:
            excluded += count
    buckets = {int(index): count for index, count in value.get("latencies", {}).items()}
    measured = sum(buckets.values()) if latency_ms else 0
    fast = within(buckets, latency_ms) if latency_ms else 0.0
    return Sli(good, bad, excluded, fast, measured)


def of_endpoint(value: Mapping[str, Any]) -> Sli:
    """What was refused before a deployment was chosen: wrong keys, quotas; or a fault of ours."""
    counts = value.get("statuses", {})
    bad = sum(count for code, count in counts.items() if int(code) >= 500)
    return Sli(bad=bad, excluded=sum(counts.values()) - bad)


def within(buckets: Mapping[int, int], latency_ms: float) -> float:
    """How many took at most so long; within the bucket of the limit they are spread evenly."""
    fast = 0.0
    for index, count in buckets.items():
        lower = LATENCY_BOUNDS_MS[index - 1] if index else 0.0
        upper = LATENCY_BOUNDS_MS[index] if index < len(LATENCY_BOUNDS_MS) else lower
        if upper <= latency_ms and index < len(LATENCY_BOUNDS_MS):
            fast += count
        elif lower < latency_ms < upper:
            fast += count * (latency_ms - lower) / (upper - lower)
    return fast


# --- how it is kept ----------------------------------------------------------------------------


def target(objective: Objective, indicator: Indicator) -> float | None:
    """The share that is wanted; None when nothing is."""
    if indicator is Indicator.AVAILABILITY:
        return objective.availability_percent / 100
    return objective.latency_percent / 100 if objective.latency_ms else None


def burn_rate(objective: Objective, indicator: Indicator, sli: Sli) -> float | None:
    """How many times faster than allowed failures come; None where that is unknown."""
    wanted, share = target(objective, indicator), sli.share(indicator)
    return None if wanted is None or share is None else (1 - share) / (1 - wanted)


def standing(
    objective: Objective,
    slis: Mapping[int, Sli],
    alerts: Iterable[SlaAlert],
    *,
    is_default: bool,
) -> SlaStanding:
    """How an objective is kept; ``slis`` by the length of their window in seconds."""
    whole_s = objective.window_days * DAY_S
    seconds = [*(each for each in WINDOWS_S if each < whole_s), whole_s]
    last = slis.get(whole_s, Sli())
    left = {
        indicator: None if burn is None else round(100 * (1 - burn), 3)
        for indicator in Indicator
        for burn in (burn_rate(objective, indicator, last),)
    }
    return SlaStanding(
        objective=objective,
        is_default=is_default,
        windows=tuple(_window(objective, each, slis.get(each, Sli())) for each in seconds),
        availability_budget_left_percent=left[Indicator.AVAILABILITY],
        latency_budget_left_percent=left[Indicator.LATENCY],
        alerts=tuple(alerts),
    )


def _window(objective: Objective, seconds: int, sli: Sli) -> SlaWindow:
    figures = {}
    for indicator in Indicator:
        share, burn = sli.share(indicator), burn_rate(objective, indicator, sli)
        figures[f"{indicator}_percent"] = None if share is None else round(100 * share, 4)
        figures[f"{indicator}_burn"] = None if burn is None else round(burn, 3)
    return SlaWindow(
        seconds=seconds,
        good=sli.good,
        bad=sli.bad,
        excluded=sli.excluded,
        measured=sli.measured,
        fast=round(sli.fast, 1),
        **figures,
    )


# --- alerts ------------------------------------------------------------------------------------


def burning(
    objective: Objective, indicator: Indicator, slis: Mapping[int, Sli]
) -> dict[Severity, Burn | None]:
    """The first rule of each severity that applies now; None: none does.

    A severity is missing where nobody can tell, since no requests have come lately: an alert then
    stays as it is.
    """
    found: dict[Severity, Burn | None] = {}
    for severity in Severity:
        states = [
            _state(rule, objective, indicator, slis) for rule in RULES if rule.severity is severity
        ]
        burns = [state for state in states if isinstance(state, Burn)]
        if burns or None not in states:
            found[severity] = burns[0] if burns else None
    return found


def _state(
    rule: Rule, objective: Objective, indicator: Indicator, slis: Mapping[int, Sli]
) -> Burn | bool | None:
    """The burn; False when the rule does not apply; None when that is unknown."""
    long, short = slis.get(rule.long_s, Sli()), slis.get(rule.short_s, Sli())
    rate, now = burn_rate(objective, indicator, long), burn_rate(objective, indicator, short)
    if rate is None:
        return False  # within the long window there was nothing: whatever there was is over
    if now is None:
        return None
    is_enough = long.count(indicator) >= limits.SLA_ALERT_REQUESTS_MIN
    if is_enough and min(rate, now) >= rule.threshold:
        return Burn(rule, indicator, rate)
    return False
