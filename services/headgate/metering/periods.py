"""Periods of budgets, and which alerts are due. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

from headgate_contracts.metering import Grain


def period(grain: Grain, now: float) -> tuple[float, float]:
    """Begin and end of the period that ``now`` is in."""
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if grain is Grain.DAY:
        begin, end = day, day + timedelta(days=1)
    elif grain is Grain.WEEK:
        begin = day - timedelta(days=day.weekday())
        end = begin + timedelta(days=7)
    else:
        begin = day.replace(day=1)
        end = (begin + timedelta(days=32)).replace(day=1)
    return begin.timestamp(), end.timestamp()


def due(
    spent: float, amount: float, thresholds: Sequence[float], told: Collection[float]
) -> list[float]:
    """Thresholds (per cent) that have been reached and not been told of."""
    reached = (each for each in sorted(set(thresholds)) if spent >= amount * each / 100)
    return [each for each in reached if each not in told]
