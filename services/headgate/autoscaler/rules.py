"""Azure Monitor's rules: what one says, and what they say together. Pure (azure.md 5.1).

Out when any rule says so, taking the largest result; in only when every rule for that agrees,
taking the smallest step, and not when the fewer instances would call for more at once.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence

from headgate.autoscaler.values import Decision, Reading, Reason, Unread
from headgate_contracts.autoscale import (
    Capacity,
    Direction,
    Figure,
    MetricTrigger,
    Operator,
    Profile,
    Rule,
    ScaleAction,
    ScaleType,
)

_COMPARE: dict[Operator, Callable[[float, float], bool]] = {
    Operator.EQUALS: operator.eq,
    Operator.NOT_EQUALS: operator.ne,
    Operator.GREATER_THAN: operator.gt,
    Operator.GREATER_THAN_OR_EQUAL: operator.ge,
    Operator.LESS_THAN: operator.lt,
    Operator.LESS_THAN_OR_EQUAL: operator.le,
}
_SIGN = dict(zip(Operator, ("==", "!=", ">", ">=", "<", "<="), strict=True))
# What the endpoint gets as a whole: fewer instances do not change it.
TOTALS = frozenset(
    {
        *("requestsperminute", "connectionsactive", "newconnectionspersecond", "networkbytes"),
        *("datacollectioneventsperminute", "datacollectionerrorsperminute"),
    }
)


def fires(trigger: MetricTrigger, value: float) -> bool:
    """Whether the rule's condition holds."""
    return _COMPARE[trigger.operator](value, trigger.threshold)


def count_after(action: ScaleAction, count: int) -> int:
    """The count that an action makes of one, before the profile's bounds. Never the wrong way."""
    up = action.direction is Direction.INCREASE
    if action.type is ScaleType.EXACT_COUNT:
        return max(count, action.value) if up else min(count, action.value)
    step = action.value
    if action.type is ScaleType.PERCENT_CHANGE_COUNT:
        step = max(1, math.floor(count * action.value / 100 + 0.5)) if action.value else 0
    return max(0, count + step if up else count - step)


def projected(trigger: MetricTrigger, value: float, count: int, fewer: int) -> float:
    """What a metric would be if the same load met ``fewer`` instances."""
    name = trigger.metric_name.lower()
    if name == "deploymentcapacity":
        return float(fewer)
    if name in TOTALS and not trigger.divide_per_instance:
        return value
    return value * count / fewer if fewer else math.inf


def described(trigger: MetricTrigger) -> str:
    """The condition as people write it."""
    where = f" of {trigger.resource}" if trigger.resource else ""
    return (
        f"{trigger.metric_name}{where} {_SIGN[trigger.operator]} {trigger.threshold:g} "
        f"{trigger.time_aggregation.value.lower()} {trigger.time_window}s"
    )


def figures(profile: Profile, readings: Sequence[Reading]) -> tuple[Figure, ...]:
    """What the rules looked at."""
    return tuple(
        Figure(
            name=described(rule.trigger),
            value=None if isinstance(reading, Unread) else round(reading, 6),
            threshold=rule.trigger.threshold,
            note=reading.value if isinstance(reading, Unread) else "",
        )
        for rule, reading in zip(profile.rules, readings, strict=True)
    )


def clamped(count: int, capacity: Capacity) -> int:
    return max(capacity.minimum, min(capacity.maximum, count))


def enforce(capacity: Capacity, count: int) -> Decision | None:
    """Back into the bounds at once: nobody, not even an operator, keeps a count outside them."""
    within = clamped(count, capacity)
    if within == count:
        return None
    said = f"{count} is outside {capacity.minimum} to {capacity.maximum}"
    return Decision(within, Reason.BOUNDS, said, within)


def decide(
    profile: Profile,
    readings: Sequence[Reading],
    count: int,
    now: float,
    cooldown_until: float,
) -> Decision:
    """What the rules of a profile make of a count within its bounds."""
    seen = figures(profile, readings)
    if Unread.NO_DATA in readings and count < profile.capacity.default:
        fallback = clamped(profile.capacity.default, profile.capacity)
        said = f"metrics cannot be read; at least the default {fallback} until they can"
        return Decision(fallback, Reason.DEFAULT, said, fallback, seen)
    decision = _out(profile, readings, count) or _in(profile, readings, count)
    if decision is None:
        return Decision(count, Reason.STEADY, "no rule asks for a change", count, seen)
    if decision.count != count and now < cooldown_until:
        said = f"a rule wants {decision.count}, {cooldown_until - now:.0f} s of cooldown are left"
        return Decision(count, Reason.COOLDOWN, said, decision.count, seen)
    return Decision(
        decision.count,
        decision.reason,
        decision.message,
        decision.wanted,
        seen,
        decision.cooldown_s,
    )


def _pairs(
    profile: Profile, readings: Sequence[Reading], direction: Direction
) -> list[tuple[Rule, Reading]]:
    both = zip(profile.rules, readings, strict=True)
    return [(rule, reading) for rule, reading in both if rule.action.direction is direction]


def _out(profile: Profile, readings: Sequence[Reading], count: int) -> Decision | None:
    """Any rule is enough; the largest result counts, and the first rule that has it."""
    firing = [
        (count_after(rule.action, count), rule)
        for rule, reading in _pairs(profile, readings, Direction.INCREASE)
        if not isinstance(reading, Unread) and fires(rule.trigger, reading)
    ]
    if not firing:
        return None
    wanted, rule = max(firing, key=lambda each: each[0])
    result = clamped(wanted, profile.capacity)
    said = described(rule.trigger)
    if result <= count:
        return Decision(count, Reason.AT_LIMIT, f"{said}, and {count} is the most", wanted)
    return Decision(result, Reason.SCALE_OUT, said, wanted, cooldown_s=rule.action.cooldown)


def _in(profile: Profile, readings: Sequence[Reading], count: int) -> Decision | None:
    """Every rule must agree; the smallest step counts, and less where that keeps the peace."""
    pairs = _pairs(profile, readings, Direction.DECREASE)
    if not pairs:
        return None
    for rule, reading in pairs:
        if isinstance(reading, Unread):
            if reading is Unread.IDLE:
                return None
            said = f"{described(rule.trigger)}: {reading.value}"
            return Decision(count, Reason.NO_DATA, said, count)
        if not fires(rule.trigger, reading):
            return None
    wanted, rule = max(
        ((count_after(rule.action, count), rule) for rule, _ in pairs), key=lambda each: each[0]
    )
    result = clamped(wanted, profile.capacity)
    said = described(rule.trigger)
    if result >= count:
        return Decision(count, Reason.AT_LIMIT, f"{said}, and {count} is the least", wanted)
    outs = _pairs(profile, readings, Direction.INCREASE)
    if any(reading in (Unread.NO_DATA, Unread.YOUNG) for _, reading in outs):
        unread = "whether fewer would be enough cannot be read"
        return Decision(count, Reason.NO_DATA, f"{said}, but {unread}", result)
    for fewer in range(result, count):
        against = _against(outs, count, fewer)
        if against is None:
            less = "" if fewer == result else f" (by less than {count - result}, to avoid flapping)"
            cooldown_s = rule.action.cooldown
            return Decision(fewer, Reason.SCALE_IN, said + less, wanted, cooldown_s=cooldown_s)
    trigger, value = _against(outs, count, count - 1) or (rule.trigger, 0.0)
    why = f"{said}, but {described(trigger)} would be {value:.6g} with {count - 1}"
    return Decision(count, Reason.FLAPPING, why, result)


def _against(
    outs: Sequence[tuple[Rule, Reading]], count: int, fewer: int
) -> tuple[MetricTrigger, float] | None:
    """The rule that fewer instances would set off at once, and its value then."""
    for rule, reading in outs:
        if not isinstance(reading, Unread):
            value = projected(rule.trigger, reading, count, fewer)
            if fires(rule.trigger, value):
                return rule.trigger, value
    return None
