"""Settings for tests, as short as they can be said."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from headgate_contracts.autoscale import (
    AutoscaleSpec,
    Capacity,
    FixedDate,
    MetricTrigger,
    Operator,
    Profile,
    Recurrence,
    Rule,
    ScaleAction,
    Weekday,
)
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import ScaleSettings

WEEK = tuple(Weekday)
FAST = {"time_grain": 1, "time_window": 2}
FOLLOWS = ScaleSettings(
    type="target_utilization", min_instances=0, max_instances=8, target_concurrency=1,
    stable_window=6, scale_to_zero_grace=0, polling_interval=1,
)  # fmt: skip
SIGNS = {
    ">": Operator.GREATER_THAN,
    ">=": Operator.GREATER_THAN_OR_EQUAL,
    "<": Operator.LESS_THAN,
    "<=": Operator.LESS_THAN_OR_EQUAL,
    "==": Operator.EQUALS,
    "!=": Operator.NOT_EQUALS,
}


def rule(
    condition: str, direction: str = "Increase", value: int = 1, cooldown: int = 300, **more: Any
) -> Rule:
    """A rule such as ``rule("CpuUtilizationPercentage > 70", "Increase", 2)``."""
    name, sign, threshold = condition.split()
    kind = more.pop("type", "ChangeCount")
    trigger = MetricTrigger(
        metric_name=name, operator=SIGNS[sign], threshold=float(threshold), **more
    )
    action = ScaleAction.model_validate(
        {"direction": direction, "type": kind, "value": value, "cooldown": cooldown}
    )
    return Rule(trigger=trigger, action=action)


def profile(
    *rules: Rule,
    name: str = "default",
    bounds: tuple[int, int, int] = (1, 10, 1),
    fixed: tuple[str, str, str] | None = None,
    weekly: tuple[str, tuple[Weekday, ...], int, int] | None = None,
) -> Profile:
    """A profile; ``bounds`` are minimum, maximum, default."""
    least, most, default = bounds
    return Profile(
        name=name,
        capacity=Capacity(minimum=least, maximum=most, default=default),
        rules=rules,
        fixed_date=FixedDate(time_zone=fixed[0], start=fixed[1], end=fixed[2]) if fixed else None,
        recurrence=Recurrence(
            time_zone=weekly[0], days=weekly[1], hours=(weekly[2],), minutes=(weekly[3],)
        )
        if weekly
        else None,
    )


def setting(*profiles: Profile, endpoint: str = "ep-1", deployment: str = "blue") -> AutoscaleSpec:
    return AutoscaleSpec(
        name=f"{endpoint}-{deployment}",
        endpoint=endpoint,
        deployment=deployment,
        profiles=profiles or (profile(),),
    )


def at(text: str, zone: str = "UTC") -> float:
    """Unix time of a local time such as ``2030-01-31 08:00``."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


async def refused(code: ErrorCode, asked: object, *words: str) -> None:
    with pytest.raises(HeadgateError) as caught:
        await asked  # type: ignore[misc] # an awaitable
    assert caught.value.error.code is code, caught.value
    for word in words:
        assert word in str(caught.value)


def latency(endpoint: str, *, cooldown: int = 60) -> AutoscaleSpec:
    """Out when the endpoint is slow, in when it is fast."""
    where = f"endpoints/{endpoint}"
    return setting(
        profile(
            rule("RequestLatency > 70", "Increase", 2, cooldown, resource=where, **FAST),
            rule("RequestLatency < 50", "Decrease", 1, cooldown, resource=where, **FAST),
            bounds=(1, 5, 1),
        ),
        endpoint=endpoint,
    )
