"""What the flags of ``headgate autoscale`` mean, in the grammar of ``az monitor autoscale``."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from headgate.cli.errors import UsageError
from headgate_contracts.autoscale import (
    AutoscaleSpec,
    Capacity,
    Direction,
    FixedDate,
    MetricDimension,
    MetricTrigger,
    Operator,
    Profile,
    Recurrence,
    Rule,
    ScaleAction,
    ScaleType,
    Statistic,
    TimeAggregation,
    Weekday,
)

DEFAULT_PROFILE = "default"
SIGNS = {
    "==": Operator.EQUALS,
    "!=": Operator.NOT_EQUALS,
    ">": Operator.GREATER_THAN,
    ">=": Operator.GREATER_THAN_OR_EQUAL,
    "<": Operator.LESS_THAN,
    "<=": Operator.LESS_THAN_OR_EQUAL,
}
AGGREGATIONS = {
    "avg": TimeAggregation.AVERAGE,
    "min": TimeAggregation.MINIMUM,
    "max": TimeAggregation.MAXIMUM,
    "total": TimeAggregation.TOTAL,
    "count": TimeAggregation.COUNT,
    "last": TimeAggregation.LAST,
}
_STATISTICS = {
    "avg": Statistic.AVERAGE,
    "min": Statistic.MIN,
    "max": Statistic.MAX,
    "sum": Statistic.SUM,
    "count": Statistic.COUNT,
}
_CONDITION = re.compile(
    r"\s*(?P<metric>[A-Za-z][\w%]*)\s*(?P<sign>==|!=|>=|<=|>|<)\s*(?P<threshold>-?[0-9]+(?:\.[0-9]+)?)"
    r"\s+(?P<aggregation>[a-z]+)\s+(?P<window>[0-9]+[smhd][0-9smhd]*)"
    r"(?:\s+where\s+(?P<where>.+?))?\s*\Z"
)
_WHERE = re.compile(r"(?P<name>\w+)\s*(?P<sign>==|!=)\s*(?P<values>.+)\Z")
UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DAYS = {day.value[:3].lower(): day for day in Weekday}
_GRAINS_PER_WINDOW = 5
_GRAIN_S_MAX = 60


def seconds(text: str, flag: str) -> int:
    """``5m``, ``1h30m`` or ``90s`` in seconds."""
    parts = re.findall(r"([0-9]+)([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise UsageError(f"{flag}: {text!r} is no length of time such as 30s, 5m or 1h30m")
    return sum(int(number) * UNITS[unit] for number, unit in parts)


def trigger(condition: str, *, resource: str, grain: str, per_instance: bool) -> MetricTrigger:
    """A condition: ``METRIC > 70 avg 5m [where DIMENSION == VALUE [or VALUE] [and ...]]``.

    Without ``grain`` (``avg 1m``) a grain is a minute, or a fifth of a shorter window.
    """
    found = _CONDITION.match(condition)
    if found is None or found["aggregation"] not in AGGREGATIONS:
        raise UsageError(
            f"--condition {condition!r} is not understood; write it as "
            '"CpuUtilizationPercentage > 70 avg 5m": a metric, one of == != > >= < <=, a number, '
            "one of avg min max total count last, and a length of time"
        )
    window_s = seconds(found["window"], "--condition")
    statistic, grain_s = (
        Statistic.AVERAGE,
        max(1, min(_GRAIN_S_MAX, window_s // _GRAINS_PER_WINDOW)),
    )
    if grain:
        word, _, length = grain.partition(" ")
        if word not in _STATISTICS or not length:
            raise UsageError(f"--timegrain {grain!r}: write it as 'avg 1m'")
        statistic, grain_s = _STATISTICS[word], seconds(length.strip(), "--timegrain")
    return MetricTrigger(
        metric_name=found["metric"],
        operator=SIGNS[found["sign"]],
        threshold=float(found["threshold"]),
        time_aggregation=AGGREGATIONS[found["aggregation"]],
        time_window=window_s,
        time_grain=grain_s,
        statistic=statistic,
        resource=resource,
        dimensions=_dimensions(found["where"] or ""),
        divide_per_instance=per_instance,
    )


def _dimensions(where: str) -> tuple[MetricDimension, ...]:
    found = []
    for part in re.split(r"\s+and\s+", where.strip()) if where.strip() else ():
        one = _WHERE.match(part)
        if one is None:
            raise UsageError(
                f"--condition: {part!r} is not understood; write 'where NAME == VALUE or VALUE'"
            )
        operator = SIGNS[one["sign"]].value
        values = tuple(each.strip() for each in re.split(r"\s+or\s+", one["values"]))
        found.append(
            MetricDimension.model_validate(
                {"name": one["name"], "operator": operator, "values": values}
            )
        )
    return tuple(found)


def action(scale: Sequence[str], cooldown: str, operator: Operator) -> ScaleAction:
    """``out 2``, ``in 25%`` or ``to 5``; a cooldown without a unit is in minutes, as in ``az``."""
    text = " ".join(scale)
    found = re.fullmatch(r"(out|in|to)\s+([0-9]+)(%?)", text)
    if found is None or (found[1] == "to" and found[3]):
        raise UsageError(f"--scale {text!r}: write 'out 2', 'in 1', 'out 25%' or 'to 5'")
    kind = ScaleType.PERCENT_CHANGE_COUNT if found[3] else ScaleType.CHANGE_COUNT
    direction = Direction.INCREASE if found[1] == "out" else Direction.DECREASE
    if found[1] == "to":
        kind = ScaleType.EXACT_COUNT
        is_low = operator in (Operator.LESS_THAN, Operator.LESS_THAN_OR_EQUAL)
        direction = Direction.DECREASE if is_low else Direction.INCREASE
    wait = f"{cooldown}m" if cooldown.isdecimal() else cooldown
    return ScaleAction(
        direction=direction, type=kind, value=int(found[2]), cooldown=seconds(wait, "--cooldown")
    )


def capacity(least: int | None, most: int | None, count: int | None) -> Capacity:
    """Bounds from the flags; ``--count`` alone pins the number."""
    given = next((each for each in (count, least, most) if each is not None), 1)
    least = given if least is None else least
    most = max(given, least) if most is None else most
    return Capacity(minimum=least, maximum=most, default=count if count is not None else least)


def profile_named(spec: AutoscaleSpec, name: str) -> Profile:
    """The profile; UsageError that lists those that there are."""
    for profile in spec.profiles:
        if profile.name == name or ended_by(profile) == ("", name):
            return profile
    known = ", ".join(profile.name for profile in spec.profiles)
    raise UsageError(f"the setting {spec.name!r} has no profile {name!r}; it has {known}")


def profile_of(spec: AutoscaleSpec, name: str) -> Profile:
    """The profile of that name; the default one where none is named."""
    return profile_named(spec, name) if name else default_profile(spec)


def default_profile(spec: AutoscaleSpec) -> Profile:
    """The profile without a date, or, when all have one, what ends a recurrence, or the first."""
    plain = [p for p in spec.profiles if p.fixed_date is None and p.recurrence is None]
    ends = [p for p in spec.profiles if ended_by(p)[0]]
    return (plain or ends or list(spec.profiles))[0]


def with_profile(spec: AutoscaleSpec, profile: Profile) -> AutoscaleSpec:
    """The setting with a profile added or replaced."""
    others = [each for each in spec.profiles if each.name != profile.name]
    at = next((n for n, p in enumerate(spec.profiles) if p.name == profile.name), len(others))
    return spec.model_copy(update={"profiles": (*others[:at], profile, *others[at:])})


def without_profile(spec: AutoscaleSpec, name: str) -> AutoscaleSpec:
    """The setting without a profile and what ends it."""
    profile_named(spec, name)
    left = tuple(p for p in spec.profiles if p.name != name and ended_by(p)[1] != name)
    if not left:
        raise UsageError(f"{name!r} is the last profile; a setting needs one: delete the setting")
    return spec.model_copy(update={"profiles": left})


def recurring(
    spec: AutoscaleSpec, profile: Profile, words: Sequence[str], zone: str, start: str, end: str
) -> AutoscaleSpec:
    """The setting with a weekly profile, and one that ends it with what holds by default.

    Azure's habit: the second one is called ``{"name": "default", "for": "<profile>"}``.
    """
    if not words or words[0].lower() != "week" or len(words) < 2:
        raise UsageError("--recurrence: write 'week' and days, such as: --recurrence week sat sun")
    days = []
    for word in words[1:]:
        if word[:3].lower() not in _DAYS:
            raise UsageError(f"--recurrence: {word!r} is no day; write mon tue wed thu fri sat sun")
        days.append(_DAYS[word[:3].lower()])
    begin, finish = (_clock(text) for text in (start or "00:00", end or "23:59"))
    rest = default_profile(spec)

    def weekly(at: tuple[int, int]) -> Recurrence:
        return Recurrence(time_zone=zone, days=tuple(days), hours=(at[0],), minutes=(at[1],))

    one = profile.model_copy(update={"recurrence": weekly(begin), "fixed_date": None})
    name = json.dumps({"name": ended_by(rest)[0] or rest.name, "for": profile.name})
    ending = rest.model_copy(
        update={"name": name, "recurrence": weekly(finish), "fixed_date": None}
    )
    return with_profile(with_profile(spec, one), ending)


def fixed(profile: Profile, zone: str, start: str, end: str) -> Profile:
    """The profile between two local times."""
    if not start or not end:
        raise UsageError("a profile needs --recurrence, or --start and --end as local times")
    return profile.model_copy(
        update={"fixed_date": FixedDate(time_zone=zone, start=start, end=end), "recurrence": None}
    )


def with_rules(spec: AutoscaleSpec, name: str, rules: Sequence[Rule]) -> AutoscaleSpec:
    """The setting with other rules in a profile, and in what ends others with the same."""
    chosen = profile_of(spec, name)
    base = ended_by(chosen)[0] or chosen.name
    profiles = tuple(
        each.model_copy(update={"rules": tuple(rules)})
        if each.name == chosen.name or ended_by(each)[0] == base
        else each
        for each in spec.profiles
    )
    return spec.model_copy(update={"profiles": profiles})


def ended_by(profile: Profile) -> tuple[str, str]:
    """Of a profile that only ends another: the name it stands for, and the one that it ends.

    Empty ones for any other profile.
    """
    try:
        found = json.loads(profile.name)
    except ValueError:
        return "", ""
    if not isinstance(found, dict):
        return "", ""
    return str(found.get("name", "")), str(found.get("for", ""))


def _clock(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", text)
    if found is None:
        raise UsageError(f"{text!r} is no time of day such as 08:30")
    return int(found[1]), int(found[2])
