"""What the studio's pages decide, without a page."""

from __future__ import annotations

import shlex
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from headgate.portal import autoscale_core, batch_core, charts_core, core, mirror_core
from headgate.portal.gate import same_origin
from headgate_contracts import limits
from headgate_contracts.errors import HeadgateError

NAMES = st.sampled_from(["blue", "green", "red", "grey", "pink"])
SHARES = st.dictionaries(NAMES, st.integers(0, 100), min_size=1, max_size=5)


@given(SHARES, st.data())
def test_shares_always_sum_to_a_hundred_and_the_moved_one_is_where_it_was_put(
    shares: dict[str, int], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(shares)))
    percent = data.draw(st.integers(-5, 105))
    after = core.rebalanced(shares, name, percent)
    assert list(after) == list(shares)
    assert all(0 <= share <= 100 for share in after.values())
    if len(shares) > 1:
        assert after[name] == max(0, min(100, percent))
        assert sum(after.values()) == 100
    else:
        assert after[name] in (0, 100)


def test_the_others_give_in_proportion() -> None:
    after = core.rebalanced({"blue": 60, "green": 30, "red": 10}, "red", 40)
    assert after == {"blue": 40, "green": 20, "red": 40}
    assert core.rebalanced({"blue": 0, "green": 0}, "blue", 0) == {"blue": 0, "green": 100}


def test_what_a_change_means_is_told_for_those_that_change() -> None:
    before, after = {"blue": 100, "green": 0, "red": 0}, {"blue": 90, "green": 10, "red": 0}
    assert [line.split(":")[0] for line in core.changes(before, after)] == ["blue", "green"]
    assert core.changes(before, before) == []


def test_rights_follow_from_the_best_role_in_the_workspace() -> None:
    assert core.rights(["local/reader"], "local") == core.Right(roles=("reader",))
    assert core.rights(["other/admin"], "local") == core.Right()
    best = core.rights(["local/reader", "*/operator"], "local")
    assert best.can_write and not best.can_delete and not best.can_see_keys
    assert core.rights(["*/admin"], "anything").can_see_keys


def test_copied_commands_survive_a_shell_whatever_the_body_holds() -> None:
    body = """{"text": "it's \\"quoted\\" $HOME `id`"}"""
    made = core.snippets(
        endpoint="echo", uri="https://h:1/score", body=body, deployment="blue", header="x-dep"
    )
    words = shlex.split(made.curl)
    assert words[words.index("-d") + 1] == body
    assert "Authorization: Bearer $KEY" in words
    compile(made.python, "snippet", "exec")
    assert made.az.endswith("-d blue")


def part(**told: object) -> dict[str, object]:
    empty = {
        "requests": 0, "declaredPercent": 0, "declaredMirrorPercent": 0,
        "statuses": {}, "mirrored": {}, "latencyMs": {}, "mirrorLatencyMs": {},
        "latencyHistogram": [], "mirrorLatencyHistogram": [],
    }  # fmt: skip
    return {**empty, **told}


def test_a_mirror_is_shown_beside_those_that_answer_clients() -> None:
    blue = part(requests=4, statuses={"200": 3, "424": 1}, latencyMs={"p50": 2.0})
    green = part(declaredMirrorPercent=10, mirrored={"200": 1, "0": 1})
    found = mirror_core.sides({"deployments": {"blue": blue, "green": green, "idle": part()}})
    assert [(side.deployment, side.is_mirror) for side in found] == [
        ("blue", False), ("green", True),
    ]  # fmt: skip
    assert [side.failed_percent for side in found] == [25, 50]
    assert mirror_core.Side("x", False, {}, {}, ()).failed_percent is None


BUCKETS = [0, 0.1, 0.1189, 0.1414, 0.1682, None]


@given(st.lists(st.integers(0, 4), min_size=5, max_size=5).filter(any))
def test_a_distribution_is_drawn_bar_by_bar_and_touches_the_ground_in_between(
    counts: list[int],
) -> None:
    histogram = [
        {"fromMs": lower, "upToMs": upper, "count": count}
        for count, (lower, upper) in zip(counts, pairwise(BUCKETS), strict=True)
        if count
    ]
    corners = mirror_core.outline(histogram)
    assert [ms for ms, _ in corners] == sorted(ms for ms, _ in corners)
    assert corners[0][0] > 0 and corners[0][1] == corners[-1][1] == 0
    tops = [(one, other) for one, other in pairwise(corners) if one[1] and one[0] < other[0]]
    assert sum(top[0][1] for top in tops) == pytest.approx(100, abs=0.1)
    assert len(tops) == len(histogram)
    apart = sum(one["upToMs"] != other["fromMs"] for one, other in pairwise(histogram))
    assert sum(percent == 0 for _, percent in corners) == 2 + 2 * apart


def test_a_distribution_of_nothing_is_nothing() -> None:
    assert mirror_core.outline([]) == []


def test_figures_are_for_people() -> None:
    assert [core.short(n) for n in (None, 0, 3, 0.25, 1234, 2.5e6)] == [
        core.UNKNOWN, "0", "3", "0.2", "1.2k", "2.5M",
    ]  # fmt: skip


def test_a_sample_comes_from_the_scripts_own_description() -> None:
    schema = {"example": {"data": [1]}}
    document = {
        "paths": {"/score": {"post": {"requestBody": {"content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/In"}}}}}}},
        "components": {"schemas": {"In": schema}},
    }  # fmt: skip
    assert core.sample_of(document) == {"data": [1]}
    schema["example"] = {}
    assert core.sample_of(document) is None
    for nothing in ({}, [], {"paths": None}, None):
        assert core.sample_of(nothing) is None


def test_only_our_own_pages_may_change_something() -> None:
    assert same_origin(Headers({"host": "h:1", "origin": "https://h:1"}))
    assert same_origin(Headers({"host": "h:1"}))  # a program, which no site can steer
    for origin in ("https://evil", "null", "https://h:2", "https://h.evil:1"):
        assert not same_origin(Headers({"host": "h:1", "origin": origin}))


def test_a_picture_of_a_job_says_what_each_cell_is_and_holds_no_text_of_others() -> None:
    groups = [{"first": 0, "done": 9, "failed": 1, "retried": 2}, {"first": 10, "waiting": 3}]
    counts = batch_core.totals(groups)
    assert counts["done"] == 9 and counts["waiting"] == 3
    assert batch_core.summary(counts) == ("1 given up, 3 waiting, 9 done; 2 needed another attempt")
    picture = batch_core.cells(groups, 10)
    assert picture.count("<i ") == 2
    assert 'class="failed again" style="--d:90%" data-n="0" title="0 to 9: ' in picture
    assert 'class="waiting" style="--d:0%" data-n="10" title="10 to 12: 3 waiting"' in picture
    assert batch_core.summary(batch_core.totals([])) == "no mini-batch yet"


def test_what_a_form_leaves_empty_is_as_the_deployment_says() -> None:
    overrides = {"mini_batch_size": 5.0, "priority": None}
    made = batch_core.invocation(
        workspace="local", endpoint="numbers", deployment="", name="", uri="azureml:x@latest",
        is_file=False, file_name="", overrides=overrides,
    )  # fmt: skip
    assert (made.deployment, made.name, made.overrides.priority) == (None, None, None)
    assert made.overrides.mini_batch_size == 5


def test_a_weekly_profile_is_ended_by_the_default_one() -> None:
    spec = autoscale_core.template("digits", "blue")
    made = autoscale_core.with_week(
        spec, name="day", days=["Sunday", "Friday"], begins=8, ends=24, time_zone="UTC",
        least=2, most=9,
    )  # fmt: skip
    default, day, after = made.profiles
    assert [each.value for each in day.recurrence.days] == ["Friday", "Sunday"]  # type: ignore[union-attr]
    assert (day.capacity.minimum, day.recurrence.hours) == (2, (8,))  # type: ignore[union-attr]
    assert [each.value for each in after.recurrence.days] == ["Saturday", "Monday"]  # type: ignore[union-attr]
    assert (after.capacity, after.rules, after.recurrence.hours) == (  # type: ignore[union-attr]
        default.capacity, default.rules, (0,),
    )  # fmt: skip
    with pytest.raises(HeadgateError):
        autoscale_core.with_week(spec, name="x", days=[], begins=8, ends=9, time_zone="UTC",
                                 least=1, most=2)  # fmt: skip


def test_a_weekly_profile_that_cannot_be_is_told_at_its_field() -> None:
    spec = autoscale_core.template("digits", "blue")
    right: dict[str, Any] = {"name": "day", "days": ["Monday"], "begins": 8, "ends": 18,
                             "time_zone": "Europe/Berlin", "least": 1, "most": 4}  # fmt: skip
    assert autoscale_core.week_problems(spec, right) == {}
    assert "From 8:00 to 18:00 on Monday" in autoscale_core.week_meaning(right)
    for field, wrong in (
        ("name", ""), ("name", spec.profiles[0].name), ("days", []), ("ends", 8), ("most", 0),
        ("time_zone", "Nowhere"),
    ):  # fmt: skip
        assert list(autoscale_core.week_problems(spec, {**right, field: wrong})) == [field], field
    lone = spec.model_copy(update={"profiles": ()})
    assert "default profile" in autoscale_core.week_problems(lone, right)[""]


def test_the_load_of_a_day_has_the_minutes_without_requests_too() -> None:
    points = [{"timeStamp": "2030-01-31T00:01:00Z", "total": 120.0},
              {"timeStamp": "2030-01-31T00:02:00Z", "total": 120.0}]  # fmt: skip
    told = [{"timeseries": [{"data": points}]}]
    began = autoscale_core.unix("2030-01-31T00:00:00Z")
    assert autoscale_core.measured_load(told, began) == [
        {"at_s": 0.0, "requests_per_s": 0.0},
        {"at_s": 60.0, "requests_per_s": 2.0},
        {"at_s": 180.0, "requests_per_s": 0.0},
    ]
    assert autoscale_core.measured_load([], began) == []
    assert max(p["requests_per_s"] for p in autoscale_core.wave(10)) == 10


def test_the_week_is_told_by_spans_of_hours() -> None:
    week = ["low"] * 8 + ["high"] * 10 + ["low"] * 6 + ["low"] * 144
    days = autoscale_core.spans(week)
    assert days[0] == [("low", 8), ("high", 10), ("low", 6)]
    assert days[1:] == [[("low", 24)]] * 6


def test_a_moment_without_a_zone_is_utc() -> None:
    assert core.moment_of("2030-01-31 12:00") == "2030-01-31T12:00Z"
    assert core.moment_of("2030-01-31T12:00:00+02:00") == "2030-01-31T12:00:00+02:00"
    assert core.moment_of(" ") == ""


def test_moments_and_events_are_for_people() -> None:
    event = {"time": "2030-01-31T12:00:01.250Z", "type": "headgate.job.event.v1.traffic_set",
             "data": {"id": "x", "endpoint": "echo", "to": {"blue": 9}, "about": "",
                      "build_s": 1.4339999}}  # fmt: skip
    assert core.event_line(event) == (
        "2030-01-31 12:00:01", "job.traffic_set", 'endpoint=echo to={"blue": 9} build_s=1.434',
    )  # fmt: skip
    for workspace, is_here in (("local", True), ("", True), ("other", False)):
        assert core.is_of({"data": {"workspace": workspace}}, "local") is is_here
    assert core.is_of({"data": None}, "local")
    assert [core.exact(n) for n in (None, 0, 1000, 0.25, 24.0, 1e6)] == [
        core.UNKNOWN, "0", "1,000", "0.25", "24", "1,000,000",
    ]  # fmt: skip


def test_only_points_that_are_new_are_sent_and_every_line_is_named() -> None:
    told = {"value": [_told("blue", 1.25), _told("green", None)]}
    kept = {name: core.Series("echo", name) for name in ("blue", "green")}
    for at in (10.0, 11.0):
        for row in core.live_rows(told, at):
            kept[row.deployment].append(row)

    def rows(since: float) -> dict[str, list[core.Live]]:
        return {name: series.since(since) for name, series in kept.items()}

    values: charts_core.Values = (("p50", lambda row: row.p50_ms), ("p95", lambda row: row.p95_ms))
    everything = charts_core.points(rows(0.0), values)
    assert everything["blue p50"] == [(10_000, 1.25), (11_000, 1.25)]
    assert everything["green p95"] == [(10_000, None), (11_000, None)]
    assert charts_core.points(rows(10.0), values)["blue p50"] == [(11_000, 1.25)]
    assert charts_core.points(rows(11.0), values) == {line: [] for line in everything}


def test_a_series_forgets_its_oldest_points_and_gives_back_what_it_took() -> None:
    series, most = core.Series("e", "blue"), limits.STUDIO_POINTS_MAX
    for at in range(most + 3):
        (row,) = core.live_rows({"value": [_told("blue", 0.5 * at or None)]}, float(at))
        series.append(row)
    assert series.latest == row
    assert [each.at for each in series.since(0.0)] == list(range(3, most + 3))
    assert [each.p50_ms for each in series.since(most)] == [0.5 * (most + 1), 0.5 * (most + 2)]


def _told(deployment: str, ms: float | None) -> dict[str, Any]:
    counts = ("requestsPerSecond", "failuresPerSecond", "mirroredPerSecond", "inFlight",
              "waiting", "held", "readyInstances")  # fmt: skip
    quantiles = dict.fromkeys(("p50Ms", "p95Ms", "p99Ms"), ms)
    return {"endpoint": "e", "deployment": deployment, **dict.fromkeys(counts, 0), **quantiles}


def test_logs_are_filtered_by_level_with_and_without_the_instance() -> None:
    lines = [
        "[8bfc] 2030-01-31T12:00:00.456Z INFO - an ERROR is only spoken of",
        "[8bfc] 2030-01-31T12:00:01.456Z ERROR r1 Traceback",
        "2030-01-31T12:00:02.456Z WARNING - slow",
        "",
    ]
    text = "\n".join(lines)
    assert core.at_least(text, "") == text
    assert core.at_least(text, "WARNING") == "\n".join(lines[1:3])
    assert core.at_least(text, "ERROR") == lines[1]


def test_metrics_become_lines_and_what_is_unknown_is_left_out() -> None:
    points = [
        {"timeStamp": "2030-01-31T00:01:00Z", "total": 2.0},
        {"timeStamp": "x"},
        {"timeStamp": "2030-01-31T00:04:00Z", "total": 3.0},
    ]
    split = [{"name": {"value": "statusCode"}, "value": "429"}]
    told = [{"name": {"value": "RequestsPerMinute"},
             "timeseries": [{"metadatavalues": split, "data": points}, {"data": []}]}]  # fmt: skip
    at_ms = 1000 * autoscale_core.unix("2030-01-31T00:01:00Z")
    assert charts_core.metric_lines(told, "total") == {
        "429": [[at_ms, 2.0], [at_ms + 60_000, None], [at_ms + 180_000, 3.0]],
        "RequestsPerMinute": [],
    }


def test_a_new_deployment_is_offered_a_name_that_nobody_has() -> None:
    names: list[str] = []
    for _ in range(4):
        names.append(core.free_name(names, "blue", "green"))
    assert names == ["blue", "green", "blue-2", "blue-3"]


def test_tags_are_edited_as_lines_and_a_line_that_is_none_is_named() -> None:
    tags = {"team": "payments", "query": "a=b", "empty": ""}
    assert core.tags_of(core.tag_lines(tags)) == tags
    with pytest.raises(ValueError, match="'nothing': a tag is written name=value"):
        core.tags_of("team=x\n\nnothing")


def test_parts_of_a_count_stand_on_the_same_moments() -> None:
    lines: dict[str, list[list[float | None]]] = {
        "200": [[1, 5], [2, None], [4, 6]],
        "429": [[2, 3]],
    }
    assert charts_core.aligned(lines) == {
        "200": [[1, 5], [2, 0], [4, 6]], "429": [[1, 0], [2, 3], [4, 0]],
    }  # fmt: skip
    assert charts_core.aligned({}) == {}
