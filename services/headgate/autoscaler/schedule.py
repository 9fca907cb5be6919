"""Which profile is in force at a moment: fixed dates, weekly recurrences, the default. Pure.

Azure's order: a fixed date first, then recurrences, then the default profile. A recurrence only
says when its profile begins, so the one that began last is in force, until another begins; that is
why a weekend profile needs an end profile. Local times follow the zone's daylight saving: one that
does not exist, because clocks are put forward, is as much later as they are; one that there is
twice is meant when it comes first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from headgate.azure.time_zones import zone
from headgate_contracts.autoscale import FixedDate, Profile, Recurrence, Weekday

FIXED_DATE_DAYS_MAX = 365
MOMENTS_PER_DAY_MAX = 24
_WEEKDAYS = tuple(Weekday)
_LOOK_DAYS = 8  # a weekly moment is never further away


class InForce(NamedTuple):
    """A profile, and until when that cannot change."""

    profile: Profile | None
    until: float


def in_force(profiles: Sequence[Profile], now: float) -> InForce:
    """The profile that counts at ``now`` (Unix seconds), None when there is none."""
    until, fixed = math.inf, None
    for profile in profiles:
        if profile.fixed_date is not None:
            start, end = span(profile.fixed_date)
            if fixed is None and start <= now < end:
                fixed = profile
            until = min([until, *(at for at in (start, end) if at > now)])
    recurring, began_last = None, -math.inf
    for profile in profiles:
        if profile.recurrence is not None and profile.fixed_date is None:
            began, begins = _around(profile.recurrence, now)
            until = min(until, begins)
            if began > began_last:
                recurring, began_last = profile, began
    default = next((p for p in profiles if p.fixed_date is None and p.recurrence is None), None)
    return InForce(fixed or recurring or default, until)


def span(fixed: FixedDate) -> tuple[float, float]:
    """When a fixed date begins and ends. Raises ValueError when it does not, or lasts too long."""
    start, end = (_local(text, fixed.time_zone) for text in (fixed.start, fixed.end))
    if not start < end:
        raise ValueError("the end of a fixed date must be after its start")
    if end - start > FIXED_DATE_DAYS_MAX * 86_400:
        raise ValueError(f"a fixed date lasts at most {FIXED_DATE_DAYS_MAX} days")
    return start, end


def check(profile: Profile) -> None:
    """Raises ValueError when the profile's times mean nothing."""
    if profile.fixed_date is not None and profile.recurrence is not None:
        raise ValueError("a profile has a fixed date or a recurrence, not both")
    if profile.fixed_date is not None:
        span(profile.fixed_date)
    if profile.recurrence is not None:
        zone(profile.recurrence.time_zone)
        if len(profile.recurrence.hours) * len(profile.recurrence.minutes) > MOMENTS_PER_DAY_MAX:
            raise ValueError(f"a profile begins at most {MOMENTS_PER_DAY_MAX} times a day")


def _local(text: str, time_zone: str) -> float:
    """An offset in the text is Azure's habit and means nothing: the zone counts."""
    try:
        local = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise ValueError(f"{text!r} is no time such as 2030-01-31T08:00:00") from None
    return local.replace(tzinfo=zone(time_zone)).timestamp()


def _around(recurrence: Recurrence, now: float) -> tuple[float, float]:
    """The last moment at or before ``now`` at which it began, and the next one after."""
    place = zone(recurrence.time_zone)
    today = datetime.fromtimestamp(now, UTC).astimezone(place).replace(tzinfo=None)
    midnight = today.replace(hour=0, minute=0, second=0, microsecond=0)
    began, begins = -math.inf, math.inf
    for days in range(-_LOOK_DAYS, _LOOK_DAYS + 1):
        day = midnight + timedelta(days=days)
        if _WEEKDAYS[day.weekday()] not in recurrence.days:
            continue
        for hour in recurrence.hours:
            for minute in recurrence.minutes:
                local = day.replace(hour=hour, minute=minute, tzinfo=place)
                at = local.timestamp()
                if at <= now:
                    began = max(began, at)
                else:
                    begins = min(begins, at)
    return began, begins
