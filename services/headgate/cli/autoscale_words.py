"""Autoscale settings for people, in the grammar in which ``headgate autoscale`` takes them."""

from __future__ import annotations

from typing import Any

from headgate.cli.autoscale_edit import AGGREGATIONS, SIGNS, UNITS, ended_by
from headgate_contracts.autoscale import (
    AutoscaleSpec,
    Capacity,
    Direction,
    MetricTrigger,
    Profile,
    Rule,
    ScaleAction,
    ScaleType,
)

_SIGN = {operator.value: sign for sign, operator in SIGNS.items()}
_AGGREGATION = {aggregation: word for word, aggregation in AGGREGATIONS.items()}


def fields(spec: AutoscaleSpec) -> dict[str, Any]:
    """A setting as fields: those of its own, and one for each profile."""
    own = {"name": spec.name, "endpoint": spec.endpoint, "deployment": spec.deployment}
    profiles = {
        f"profile {name(each)}": "\n".join(
            filter(None, (bounds(each.capacity), when(each), *map(rule, each.rules)))
        )
        for each in spec.profiles
    }
    return {**own, "enabled": spec.enabled, **profiles}


def profile_row(profile: Profile) -> dict[str, Any]:
    """A profile as a row of a table."""
    rules = "\n".join(map(rule, profile.rules))
    return {
        "name": name(profile),
        "capacity": bounds(profile.capacity),
        "when": when(profile),
        "rules": rules,
    }


def rule_row(index: int, found: Rule) -> dict[str, Any]:
    """A rule as a row of a table."""
    return {
        "index": index,
        "condition": condition(found.trigger),
        "scale": scale(found.action),
        "cooldown": length(found.action.cooldown),
    }


def name(profile: Profile) -> str:
    """Its name; what ends another profile is called after that, and not by its JSON."""
    base, other = ended_by(profile)
    return f"{base} after {other}" if other else profile.name


def bounds(capacity: Capacity) -> str:
    return f"{capacity.minimum} to {capacity.maximum}, {capacity.default} without metrics"


def when(profile: Profile) -> str:
    """``sat sun 08:30 UTC``: when it begins, or its two dates; empty: whenever no other holds."""
    if (dates := profile.fixed_date) is not None:
        return f"{dates.start} to {dates.end} {dates.time_zone}"
    if (weekly := profile.recurrence) is None:
        return ""
    days = " ".join(day.value[:3].lower() for day in weekly.days)
    times = " ".join(f"{h:02}:{m:02}" for h in weekly.hours for m in weekly.minutes)
    return f"{days} {times} {weekly.time_zone}"


def rule(found: Rule) -> str:
    return f"{condition(found.trigger)}: {scale(found.action)}"


def condition(trigger: MetricTrigger) -> str:
    """``CpuUtilizationPercentage > 70 avg 5m``"""
    text = (
        f"{trigger.metric_name} {_SIGN[trigger.operator.value]} {trigger.threshold:g} "
        f"{_AGGREGATION[trigger.time_aggregation]} {length(trigger.time_window)}"
    )
    if trigger.dimensions:
        text += " where " + " and ".join(
            f"{each.name} {_SIGN[each.operator]} {' or '.join(each.values)}"
            for each in trigger.dimensions
        )
    if trigger.divide_per_instance:
        text += ", per instance"
    if trigger.resource and "/deployments/" not in trigger.resource:
        text += ", of the endpoint"
    return text


def scale(action: ScaleAction) -> str:
    """``out 2``, ``in 25%`` or ``to 5``"""
    if action.type is ScaleType.EXACT_COUNT:
        return f"to {action.value}"
    way = "out" if action.direction is Direction.INCREASE else "in"
    return f"{way} {action.value}{'%' if action.type is ScaleType.PERCENT_CHANGE_COUNT else ''}"


def length(seconds: int) -> str:
    """``5m``, ``1h30m``, ``90s`` as ``1m30s``"""
    parts = []
    for unit, unit_s in sorted(UNITS.items(), key=lambda each: -each[1]):
        count, seconds = divmod(seconds, unit_s)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"
