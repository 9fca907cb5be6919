"""The grammar of ``headgate autoscale``, and its simulation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headgate.cli import autoscale_edit as edit
from headgate.cli import autoscale_simulate, charts
from headgate.cli.app import app, spread
from headgate.cli.errors import UsageError
from headgate_contracts.autoscale import (
    AutoscaleSpec,
    Capacity,
    Direction,
    Operator,
    Profile,
    Rule,
    ScaleType,
    Statistic,
    TimeAggregation,
    Weekday,
)

SPEC = AutoscaleSpec(
    name="s",
    endpoint="ep-1",
    deployment="blue",
    profiles=(Profile(name="default", capacity=Capacity(minimum=2, maximum=5, default=2)),),
)


def test_a_condition_as_az_writes_it() -> None:
    found = edit.trigger(
        "CpuUtilizationPercentage > 70 avg 5m", resource="", grain="", per_instance=False
    )
    assert (found.metric_name, found.operator, found.threshold) == (
        "CpuUtilizationPercentage",
        Operator.GREATER_THAN,
        70.0,
    )
    assert (found.time_window, found.time_grain) == (300, 60)
    assert (found.statistic, found.time_aggregation) == (Statistic.AVERAGE, TimeAggregation.AVERAGE)


def test_short_windows_have_short_grains_and_dimensions_choose() -> None:
    found = edit.trigger(
        "RequestsPerMinute>=12.5 max 30s where statusCodeClass == 5xx or 4xx and deployment != b",
        resource="endpoints/ep-1",
        grain="",
        per_instance=True,
    )
    assert (found.time_window, found.time_grain) == (30, 6)
    assert found.time_aggregation is TimeAggregation.MAXIMUM
    one, other = found.dimensions
    assert (one.name, one.operator, one.values) == ("statusCodeClass", "Equals", ("5xx", "4xx"))
    assert (other.name, other.operator, other.values) == ("deployment", "NotEquals", ("b",))
    grained = edit.trigger("A > 1 avg 1h30m", resource="", grain="max 5m", per_instance=False)
    assert (grained.statistic, grained.time_grain, grained.time_window) == (
        Statistic.MAX,
        300,
        5_400,
    )


@pytest.mark.parametrize("wrong", ["", "cpu", "Cpu > x avg 5m", "Cpu > 1 mean 5m", "Cpu > 1 avg 5"])
def test_a_condition_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match="--condition"):
        edit.trigger(wrong, resource="", grain="", per_instance=False)


@pytest.mark.parametrize(
    ("words", "sign", "direction", "kind", "value"),
    [
        (["out", "2"], ">", Direction.INCREASE, ScaleType.CHANGE_COUNT, 2),
        (["in", "25%"], "<", Direction.DECREASE, ScaleType.PERCENT_CHANGE_COUNT, 25),
        (["to", "5"], ">", Direction.INCREASE, ScaleType.EXACT_COUNT, 5),
        (["to", "1"], "<", Direction.DECREASE, ScaleType.EXACT_COUNT, 1),
    ],
)
def test_what_to_do(
    words: list[str], sign: str, direction: Direction, kind: ScaleType, value: int
) -> None:
    operator = Operator.GREATER_THAN if sign == ">" else Operator.LESS_THAN
    found = edit.action(words, "5", operator)
    assert (found.direction, found.type, found.value, found.cooldown) == (
        direction,
        kind,
        value,
        300,
    )
    assert edit.action(words, "30s", operator).cooldown == 30


def test_options_with_several_words_as_in_az() -> None:
    given = ["autoscale", "rule", "create", "--scale", "out", "2"]
    given += ["--recurrence", "week", "sat", "sun"]
    assert spread(given) == [
        *("autoscale", "rule", "create", "--scale", "out", "--scale", "2"),
        *("--recurrence", "week", "--recurrence", "sat", "--recurrence", "sun"),
    ]


def test_a_weekly_profile_comes_with_one_that_ends_it() -> None:
    weekend = Profile(name="weekend", capacity=edit.capacity(None, None, 2))
    spec = edit.recurring(
        SPEC, weekend, ["week", "sat", "sunday"], "Pacific Standard Time", "00:00", "23:59"
    )
    assert [each.name for each in spec.profiles] == [
        "default",
        "weekend",
        '{"name": "default", "for": "weekend"}',
    ]
    _, begins, ends = spec.profiles
    assert begins.recurrence is not None and ends.recurrence is not None
    assert begins.recurrence.days == (Weekday.SATURDAY, Weekday.SUNDAY)
    assert (ends.recurrence.hours, ends.recurrence.minutes) == ((23,), (59,))
    assert ends.capacity == SPEC.profiles[0].capacity
    rule = Rule(
        trigger=edit.trigger("A > 1 avg 5m", resource="", grain="", per_instance=False),
        action=edit.action(["out", "1"], "5", Operator.GREATER_THAN),
    )
    ruled = edit.with_rules(spec, "", (rule,))
    assert [len(each.rules) for each in ruled.profiles] == [1, 0, 1]
    assert edit.without_profile(spec, "weekend") == SPEC
    with pytest.raises(UsageError, match="last profile"):
        edit.without_profile(SPEC, "default")


def test_loads_from_a_flag_and_from_a_file(tmp_path: Path) -> None:
    rate, duration_s = autoscale_simulate.synthetic("10 for 1m, 10..40 for 30s,5 for 1h")
    assert duration_s == 3_690
    assert [rate(at) for at in (0, 59, 75, 90, 3_600)] == [10, 10, 25, 5, 5]
    file = tmp_path / "load.csv"
    file.write_text("time,rate\n2030-01-01T00:00:00Z,5\n2030-01-01T00:01:00Z,9\n")
    rate, duration_s = autoscale_simulate.recorded(file)
    assert (duration_s, rate(0), rate(59.9), rate(60)) == (60, 5, 5, 9)
    file.write_text("0,1\nlater,2\n")
    with pytest.raises(UsageError, match="line 2"):
        autoscale_simulate.recorded(file)


def test_the_simulation_is_told_to_programs_and_people(tmp_path: Path) -> None:
    flags = ["autoscale", "simulate", "--target", "0.7", "--min-count", "0", "--service-time"]
    flags += ["0.05", "--startup", "1", "--load", "0 for 1m, 110 for 2m, 0 for 3m", "--seed", "1"]
    done = CliRunner().invoke(app, [*flags, "-o", "json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert found["requests"] > 12_000 and found["refused"] == 0
    assert found["decisions"][0]["reason"] == "from_zero"
    assert found["decisions"][-1]["to"] == 0
    shown = CliRunner().invoke(app, [*flags, "-o", "table"])
    assert "instances wanted" in shown.output and "0 refused" in shown.output
    nothing = CliRunner().invoke(app, ["autoscale", "simulate", "--load", "1 for 1m"])
    assert nothing.exit_code == 2


def test_charts_show_peaks_in_any_terminal() -> None:
    values = [0.0] * 500 + [8.0] + [0.0] * 499
    lines = charts.chart("peaks", values, 50, height=2)
    assert lines[0] == "peaks" and "█" in lines[1] and lines[1].startswith("       8")
    plain = charts.chart("peaks", values, 50, height=2, is_unicode=False)
    assert "".join(plain).isascii() and "@" in plain[1]
    assert charts.chart("nothing", [], 50, height=1)
