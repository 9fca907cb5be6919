"""Which profile is in force: Azure's order, its quirks, time zones and daylight saving."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.settings import WEEK, at, profile
from headgate.autoscaler import schedule
from headgate.azure.time_zones import zone
from headgate_contracts.autoscale import Profile, Weekday

WEEKEND = (Weekday.SATURDAY, Weekday.SUNDAY)
DEFAULT = profile(name="default")
FRIDAY_EVENING = profile(name="weekend", weekly=("Europe/Berlin", (Weekday.FRIDAY,), 18, 0))
MONDAY_MORNING = profile(name="week", weekly=("Europe/Berlin", (Weekday.MONDAY,), 6, 30))
HOLIDAY = profile(name="holiday", fixed=("UTC", "2030-03-01T00:00:00Z", "2030-03-08T12:00:00Z"))
ZONES = st.sampled_from(
    [
        *("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"),
        *("Pacific/Apia", "America/St_Johns"),
    ]
)
TIMES = st.floats(at("2024-01-01 00:00"), at("2034-01-01 00:00"))


def name_at(profiles: list[Profile], now: float) -> str:
    found = schedule.in_force(profiles, now).profile
    return found.name if found else ""


def test_a_fixed_date_goes_before_a_recurrence_and_that_before_the_default() -> None:
    profiles = [DEFAULT, FRIDAY_EVENING, MONDAY_MORNING, HOLIDAY]
    assert name_at(profiles, at("2030-03-01 00:00")) == "holiday"
    assert name_at(profiles, at("2030-02-28 23:59")) == "week"  # a Thursday
    assert name_at(profiles, at("2030-03-08 11:59")) == "holiday"
    assert name_at(profiles, at("2030-03-08 12:00")) == "week"
    assert name_at(profiles, at("2030-03-08 18:00", "Europe/Berlin")) == "weekend"
    assert name_at([DEFAULT, HOLIDAY], at("2030-04-01 00:00")) == "default"


def test_the_first_of_two_fixed_dates_counts() -> None:
    other = profile(name="other", fixed=("UTC", "2030-03-02T00:00:00", "2030-03-03T00:00:00"))
    assert name_at([HOLIDAY, other], at("2030-03-02 12:00")) == "holiday"
    assert name_at([other, HOLIDAY], at("2030-03-02 12:00")) == "other"


def test_a_recurrence_without_an_end_profile_never_ends() -> None:
    """Azure's quirk: a recurrence says when a profile begins, and nothing else."""
    for now in (at("2030-03-04 12:00"), at("2030-03-06 00:00")):
        assert name_at([DEFAULT, FRIDAY_EVENING], now) == "weekend"


def test_of_two_that_begin_at_once_the_first_counts() -> None:
    twin = FRIDAY_EVENING.model_copy(update={"name": "twin"})
    friday = at("2030-03-08 18:00", "Europe/Berlin")
    assert name_at([FRIDAY_EVENING, twin], friday) == "weekend"
    assert name_at([twin, FRIDAY_EVENING], friday) == "twin"


def test_an_offset_in_a_fixed_date_means_nothing() -> None:
    """Azure's clients write a Z behind local times."""
    new_york = profile(
        name="d", fixed=("Eastern Standard Time", "2030-07-01T08:00:00Z", "2030-07-01T09:00:00Z")
    )
    assert name_at([new_york], at("2030-07-01 08:00", "America/New_York")) == "d"
    assert name_at([new_york], at("2030-07-01 08:00")) == ""


def test_local_times_follow_daylight_saving() -> None:
    """Seven in the morning in Berlin is six o'clock UTC in winter, and five in summer."""
    morning = profile(name="day", weekly=("W. Europe Standard Time", WEEK, 7, 0))
    evening = profile(name="night", weekly=("W. Europe Standard Time", WEEK, 19, 0))
    for day, hour in (("2030-03-30", 6), ("2030-03-31", 5), ("2030-10-26", 5), ("2030-10-27", 6)):
        begins = at(f"{day} {hour:02}:00")
        assert name_at([morning, evening], begins) == "day"
        assert name_at([morning, evening], begins - 1) == "night"


def test_a_time_that_does_not_exist_comes_as_much_later_as_clocks_are_put_forward() -> None:
    early = profile(name="early", weekly=("Europe/Berlin", (Weekday.SUNDAY,), 2, 30))
    late = profile(name="late", weekly=("Europe/Berlin", (Weekday.SUNDAY,), 1, 0))
    begins = at("2030-03-31 01:30")  # 03:30 in Berlin; 02:30 is skipped that day
    assert name_at([early, late], begins) == "early"
    assert name_at([early, late], begins - 1) == "late"


def test_a_time_that_there_is_twice_is_meant_when_it_comes_first() -> None:
    early = profile(name="early", weekly=("Europe/Berlin", (Weekday.SUNDAY,), 2, 30))
    late = profile(name="late", weekly=("Europe/Berlin", (Weekday.SUNDAY,), 1, 0))
    begins = at("2030-10-27 00:30")  # 02:30 in Berlin, summer time
    assert name_at([early, late], begins) == "early"
    assert name_at([early, late], begins - 1) == "late"


@settings(max_examples=60, deadline=None)
@given(ZONES, TIMES, st.sets(st.sampled_from(WEEK), min_size=1), st.integers(0, 23))
def test_a_day_profile_is_in_force_on_its_days_local_hours(
    place: str, now: float, days: set[Weekday], hour: int
) -> None:
    """Told apart from the implementation: by the local clock's reading alone.

    Days on which clocks are changed are left out; they have tests of their own.
    """
    chosen = tuple(day for day in WEEK if day in days)
    on = profile(name="on", weekly=(place, chosen, hour, 0))
    off = profile(name="off", weekly=(place, WEEK, 23, 59))
    local = datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(place))
    offsets = {(local + timedelta(hours=h)).utcoffset() for h in range(-48, 48, 1)}
    if len(offsets) > 1 or (local.hour, local.minute) >= (23, 59):
        return
    begins = local.replace(hour=hour, minute=0, second=0, microsecond=0)
    is_on = WEEK[local.weekday()] in days and local >= begins
    assert name_at([on, off], now) == ("on" if is_on else "off")


@settings(max_examples=60, deadline=None)
@given(ZONES, TIMES, st.sets(st.sampled_from(WEEK), min_size=1), st.integers(0, 23))
def test_nothing_changes_before_it_is_said_to(
    place: str, now: float, days: set[Weekday], hour: int
) -> None:
    profiles = [
        DEFAULT,
        HOLIDAY,
        profile(name="a", weekly=(place, tuple(days), hour, 15)),
        profile(name="b", weekly=(place, WEEK, 12, 0)),
    ]
    found = schedule.in_force(profiles, now)
    assert found.until > now
    for share in (0.25, 0.5, 0.999):
        then = now + share * (found.until - now)
        assert schedule.in_force(profiles, then).profile == found.profile


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (profile(fixed=("UTC", "2030-01-02T00:00:00", "2030-01-01T00:00:00")), "after its start"),
        (profile(fixed=("UTC", "2030-01-01T00:00:00", "2031-02-01T00:00:00")), "365 days"),
        (profile(fixed=("UTC", "soon", "2031-02-01T00:00:00")), "no time such as"),
        (profile(weekly=("Middle-earth", WEEK, 1, 0)), "no time zone"),
        (profile(fixed=("UTC", "2030-01-01", "2030-01-02"), weekly=("UTC", WEEK, 1, 0)), "both"),
    ],
)
def test_times_that_mean_nothing_are_refused(wrong: Profile, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        schedule.check(wrong)


def test_every_zone_of_windows_is_known_here() -> None:
    from headgate.azure.time_zones import _OF_WINDOWS

    for name in _OF_WINDOWS:
        assert zone(f"{name} Standard Time")
    assert zone("Pacific Standard Time").key == "America/Los_Angeles"
    assert zone("utc").key == "Etc/UTC"
