"""What the studio's autoscale editor decides and computes. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from headgate.azure import time_zones
from headgate_contracts.autoscale import (
    AutoscaleSpec,
    Capacity,
    Direction,
    MetricTrigger,
    Operator,
    Profile,
    Recurrence,
    Rule,
    ScaleAction,
    Weekday,
)
from headgate_contracts.errors import ErrorCode, HeadgateError

METRICS = (
    "CpuUtilizationPercentage", "CpuMemoryUtilizationPercentage", "RequestsPerMinute",
    "RequestLatency", "RequestLatency_P50", "RequestLatency_P90", "RequestLatency_P95",
    "RequestLatency_P99", "ConcurrentRequests", "WaitingRequests",
)  # fmt: skip
OPERATORS = {
    Operator.GREATER_THAN: "above", Operator.GREATER_THAN_OR_EQUAL: "at least",
    Operator.LESS_THAN: "below", Operator.LESS_THAN_OR_EQUAL: "at most",
    Operator.EQUALS: "equal to", Operator.NOT_EQUALS: "other than",
}  # fmt: skip
HOURS = 24
WAVE_PEAK = 10.0  # requests per second of the day that is made up where none was measured
_END = "after "


def rule(operator: Operator, threshold: float, direction: Direction) -> Rule:
    """A rule about processor time, to begin with."""
    return Rule(
        trigger=MetricTrigger(metric_name=METRICS[0], operator=operator, threshold=threshold),
        action=ScaleAction(direction=direction),
    )


def template(endpoint: str, deployment: str) -> AutoscaleSpec:
    """What a new setting starts from: 1 to 4 instances by processor time."""
    return AutoscaleSpec(
        name=f"{endpoint}-{deployment}",
        endpoint=endpoint,
        deployment=deployment,
        profiles=(
            Profile(
                name="default",
                capacity=Capacity(minimum=1, maximum=4, default=1),
                rules=(
                    rule(Operator.GREATER_THAN, 70, Direction.INCREASE),
                    rule(Operator.LESS_THAN, 30, Direction.DECREASE),
                ),
            ),
        ),
    )


def when(profile: Profile) -> str:
    """When a profile is in force, in words."""
    if fixed := profile.fixed_date:
        return f"from {fixed.start} to {fixed.end} ({fixed.time_zone})"
    if weekly := profile.recurrence:
        days = ", ".join(day.value[:3] for day in weekly.days)
        times = ", ".join(f"{hour:02}:{minute:02}" for hour in weekly.hours
                          for minute in weekly.minutes)  # fmt: skip
        return f"begins {days} at {times} ({weekly.time_zone})"
    return "whenever no other is"


def shape(spec: AutoscaleSpec) -> list[tuple[str, int]]:
    """The profiles, and how many rules each has."""
    return [(profile.name, len(profile.rules)) for profile in spec.profiles]


def with_profile(spec: AutoscaleSpec, index: int, profile: Profile | None) -> AutoscaleSpec:
    """The profile at that place replaced, or taken out."""
    kept = list(spec.profiles)
    kept[index : index + 1] = [profile] if profile else []
    return spec.model_copy(update={"profiles": tuple(kept)})


def with_rule(profile: Profile, index: int, changed: Rule | None) -> Profile:
    """The rule at that place replaced, added at the end, or taken out."""
    rules = list(profile.rules)
    rules[index : index + 1] = [changed] if changed else []
    return profile.model_copy(update={"rules": tuple(rules)})


def with_week(
    spec: AutoscaleSpec,
    *,
    name: str,
    days: Sequence[str],
    begins: int,
    ends: int,
    time_zone: str,
    least: int,
    most: int,
) -> AutoscaleSpec:
    """A profile from one hour to another of some days, with the rules of the default one.

    A recurrence only says when a profile begins, so that a second one ends it: it is the default
    profile again, from the hour on at which the first one ends.
    """
    default = next(
        (p for p in spec.profiles if p.fixed_date is None and p.recurrence is None), None
    )
    if default is None or not days or not begins < ends <= HOURS:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            "a weekly profile needs a default profile, at least one day, and an hour to end at "
            "that is after its beginning",
        )
    week = tuple(Weekday)
    chosen = tuple(day for day in week if day.value in days)
    shift = 1 if ends == HOURS else 0
    after = tuple(week[(week.index(day) + shift) % len(week)] for day in chosen)

    def at(on: tuple[Weekday, ...], hour: int) -> Recurrence:
        return Recurrence(time_zone=time_zone, days=on, hours=(hour,), minutes=(0,))

    made = Profile(
        name=name,
        capacity=Capacity(minimum=least, maximum=most, default=least),
        rules=default.rules,
        recurrence=at(chosen, begins),
    )
    end = default.model_copy(
        update={"name": f"{_END}{name}", "recurrence": at(after, ends % HOURS)}
    )
    return spec.model_copy(update={"profiles": (*spec.profiles, made, end)})


def week_problems(spec: AutoscaleSpec, given: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with what :func:`with_week` is to add, by field."""
    found: dict[str, str] = {}
    if not given["name"]:
        found["name"] = "say how the profile is called"
    if any(given["name"] == profile.name for profile in spec.profiles):
        found["name"] = "there is a profile of this name; take another one"
    if not given["days"]:
        found["days"] = "choose at least one day"
    if not given["begins"] < given["ends"]:
        found["ends"] = "an hour after the one it begins at, 24 at the latest"
    if given["least"] > given["most"]:
        found["most"] = "no less than at least"
    try:
        time_zones.zone(given["time_zone"])
    except ValueError as error:
        found["time_zone"] = str(error)
    try:
        with_week(spec, **given)
    except ValidationError as error:
        for each in error.errors():
            found.setdefault(str(each["loc"][0]), each["msg"])
    except HeadgateError as error:
        if not found:
            found[""] = error.error.message
    return found


def week_meaning(given: Mapping[str, Any]) -> str:
    """What a weekly profile does, in words."""
    days = [day.value for day in Weekday if day.value in given["days"]]
    return (
        f"From {given['begins']}:00 to {given['ends']}:00 on {', '.join(days)} there are "
        f"{given['least']} to {given['most']} instances, by the rules of the default profile, "
        "which is in force again afterwards. It counts once the setting is saved."
    )


# --- the load of a day -------------------------------------------------------------------------


def measured_load(told: Sequence[Mapping[str, Any]], began: float) -> list[dict[str, float]]:
    """Requests per second of each minute of the last day, from metrics per minute.

    ``began`` is Unix time; minutes without any request are zero. Empty when there was no request.
    """
    by_minute: dict[int, float] = {}
    for metric in told:
        for series in metric.get("timeseries") or ():
            for point in series.get("data") or ():
                count = float(point.get("total") or 0.0)
                if count:
                    minute = int((unix(str(point["timeStamp"])) - began) // 60)
                    by_minute[minute] = by_minute.get(minute, 0.0) + count
    if not by_minute:
        return []
    last = 24 * 60
    return [
        {"at_s": 60.0 * minute, "requests_per_s": by_minute.get(minute, 0.0) / 60}
        for minute in range(last)
        if minute == 0 or by_minute.get(minute, 0.0) != by_minute.get(minute - 1, 0.0)
    ]


def wave(peak: float) -> list[dict[str, float]]:
    """A day that is made up: nothing at midnight, the peak at noon."""
    quarter = 900.0
    return [
        {"at_s": quarter * n, "requests_per_s": peak * (1 - math.cos(math.tau * n / 96)) / 2}
        for n in range(96)
    ]


def unix(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


def outcome(told: Mapping[str, Any], hours: float, count: int) -> str:
    """The outcome of a simulation beside leaving the count as it is."""
    return (
        f"{told['requests']:,} requests, {told['refused']:,} refused; "
        f"{told['instanceHours']:g} instance hours (as now: {hours * count:g}), "
        f"at most {told['instancesMax']} instances, {told['changes']} changes"
    )


def change_row(told: Mapping[str, Any]) -> dict[str, str]:
    """A simulated decision as a line of a table."""
    minutes = int(told["at_s"] // 60)
    before, after = told["from_count"], told["to_count"]
    return {
        "key": f"{told['at_s']} {after}",
        "at": f"{minutes // 60:02}:{minutes % 60:02}",
        "counts": f"{before}" if before == after else f"{before} → {after}",
        "message": str(told["message"]),
    }


# --- the calendar ------------------------------------------------------------------------------


def spans(week: Sequence[str]) -> list[list[tuple[str, int]]]:
    """For each day from Monday on, the profiles in force one after the other, with their hours."""
    days: list[list[tuple[str, int]]] = []
    for begin in range(0, len(week), HOURS):
        day: list[tuple[str, int]] = []
        for name in week[begin : begin + HOURS]:
            if day and day[-1][0] == name:
                day[-1] = (name, day[-1][1] + 1)
            else:
                day.append((name, 1))
        days.append(day)
    return days


# --- marks on the chart ------------------------------------------------------------------------


def marks(decided: Sequence[Mapping[str, Any]], since: float) -> list[dict[str, Any]]:
    """Changes of the count since a moment, as lines across a chart over time (milliseconds)."""
    return [
        {
            "xAxis": 1000 * at,
            "name": str(each["message"]),
            "label": {"formatter": f"{each['deployment']} {each['fromCount']}→{each['toCount']}"},
        }
        for each in decided
        if each.get("action") != "hold" and (at := unix(str(each["timestamp"]))) >= since
    ]


def mark_text(mark: Mapping[str, Any]) -> str:
    """The same as a line of text, in UTC."""
    at = datetime.fromtimestamp(mark["xAxis"] / 1000, UTC)
    return f"{at:%H:%M:%S} {mark['label']['formatter']}: {mark['name']}"
