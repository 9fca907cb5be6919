"""Costs and periods, as values."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.metering import core, periods
from headgate.metering.core import GbPrices, Ran, Used
from headgate_contracts import limits
from headgate_contracts.metering import CostGroup, Grain
from metering.conftest import DAY, at

HOUR = core.HOUR_S
PRICES = GbPrices({0.0: Decimal("0.087")})


def used(hour: int, caller: str = "k1", **said: int | str) -> Used:
    about = {"endpoint": "e", "deployment": "d", "kind": "scored", "requests": 1, **said}
    sizes = {"request_bytes": 0, "response_bytes": 0, "compute_us": 0}
    return Used(hour=hour, caller=caller, **{**sizes, **about})  # type: ignore[arg-type]


def test_an_hour_is_paid_for_by_those_who_computed_in_it() -> None:
    day = int(DAY)
    ran = [Ran("e", "d", DAY, DAY + 3 * HOUR, Decimal("0.30"))]
    requests = [
        used(day, "a", compute_us=30),
        used(day, "b", compute_us=10),
        used(day + HOUR, "b", compute_us=7),
        used(day, "b", kind="mirrored", compute_us=999),
    ]
    rows, total = core.costs(
        requests, ran, PRICES, {}, by=CostGroup.KEY, since=DAY, until=DAY + 3 * HOUR
    )
    found = {row.group: (row.cost, row.instance_s) for row in rows}
    assert found == {"a": (0.225, 2_700.0), "b": (0.375, 4_500.0), "": (0.3, 3_600.0)}
    assert total.cost == 0.9 and total.instance_s == 10_800 and total.mirrored == 1


def test_a_price_counts_from_its_time_on() -> None:
    prices = GbPrices({DAY: Decimal("0.1"), DAY + 2 * HOUR: Decimal("0.2")})
    at_hours = [str(prices.at(int(DAY) + n * HOUR)) for n in (-5, 0, 1, 2, 9)]
    assert at_hours == ["0.1", "0.1", "0.1", "0.2", "0.2"]


@pytest.mark.parametrize(
    ("at_s", "seen_s", "was_asked", "ended_s"),
    [
        (100, None, False, 100),
        (100, 40, False, 100),
        (90_000, 40, False, 40),  # the machine was off
        (90_000, 40, True, 90_000),
    ],
)
def test_an_instance_ends_when_it_was_last_heard_of(
    at_s: float, seen_s: float | None, was_asked: bool, ended_s: float
) -> None:
    assert core.end_of(at_s, seen_s, was_asked=was_asked) == ended_s


def test_tags_give_a_row_each() -> None:
    tags = {("e", "d"): {"team": "vision", "stage": "live"}, ("e", ""): {"team": "all"}}
    requests = [used(int(DAY)), used(int(DAY), deployment=""), used(int(DAY), endpoint="other")]
    rows, _ = core.costs(requests, [], PRICES, tags, by=CostGroup.TAG, since=DAY, until=DAY + HOUR)
    assert {row.group: row.requests for row in rows} == {
        "team=vision": 1,
        "stage=live": 1,
        "team=all": 1,
        "": 1,
    }


@given(
    st.lists(
        st.tuples(
            st.integers(0, 72 * HOUR), st.integers(1, 40 * HOUR), st.sampled_from(["a", "b"])
        ),
        max_size=8,
    ),
    st.lists(
        st.tuples(st.integers(0, 71), st.sampled_from("xyz"), st.integers(0, 10**9)), max_size=30
    ),
)
def test_every_grouping_has_the_same_total(
    instances: list[tuple[int, int, str]], requests: list[tuple[int, str, int]]
) -> None:
    ran = [
        Ran("e", place, DAY + begin, DAY + begin + length, Decimal("0.293"))
        for begin, length, place in instances
    ]
    all_used = [
        used(int(DAY) + hour * HOUR, caller, deployment="a", response_bytes=n, compute_us=n)
        for hour, caller, n in requests
    ]
    totals = []
    for by in CostGroup:
        rows, total = core.costs(all_used, ran, PRICES, {}, by=by, since=DAY, until=DAY + 72 * HOUR)
        assert sum(row.cost for row in rows) == pytest.approx(total.cost, abs=1e-4)
        assert sum(row.requests for row in rows) == total.requests == len(requests)
        totals.append(total)
    assert all(total == totals[0] for total in totals)
    seconds = sum(min(b + n, 72 * HOUR) - b for b, n, _ in instances)
    assert totals[0].instance_s == seconds


def test_minutes_are_kept_for_days_and_then_hours() -> None:
    now = at("2030-03-10 12:34")
    assert core.begins_of(int(now) - 60, now) == int(now) - 60
    folded = at("2030-03-08 11:59")
    assert core.begins_of(int(folded), now) == int(at("2030-03-08 11:00"))
    assert core.begins_of(int(at("2030-03-08 12:00")), now) == int(at("2030-03-08 12:00"))
    assert core.begins_of(int(now - limits.USAGE_AGE_S_MAX) - 60, now) is None


@pytest.mark.parametrize(
    ("grain", "now", "begin", "end"),
    [
        (Grain.DAY, "2030-03-10 23:59", "2030-03-10", "2030-03-11"),
        (Grain.WEEK, "2030-03-10 12:00", "2030-03-04", "2030-03-11"),  # a Sunday
        (Grain.WEEK, "2030-03-11 00:00", "2030-03-11", "2030-03-18"),
        (Grain.MONTH, "2028-02-29 10:00", "2028-02-01", "2028-03-01"),
        (Grain.MONTH, "2030-12-31 23:59", "2030-12-01", "2031-01-01"),
    ],
)
def test_periods_of_budgets(grain: Grain, now: str, begin: str, end: str) -> None:
    assert periods.period(grain, at(now)) == (at(begin), at(end))


def test_alerts_are_due_once() -> None:
    assert periods.due(49.9, 100, (50, 80), ()) == []
    assert periods.due(80, 100, (80, 50), ()) == [50, 80]
    assert periods.due(500, 100, (80, 50, 100), (50, 80)) == [100]
