"""Decisions of the gateway."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.gateway import core
from headgate_contracts.errors import HeadgateError
from headgate_contracts.routing import LATENCY_BOUNDS_MS, DeploymentTraffic, TrafficReply

BUCKETS = len(LATENCY_BOUNDS_MS) + 1
latencies = st.lists(st.floats(0.1, 100_000), min_size=1, max_size=200)


def bucketed(values: list[float]) -> list[int]:
    buckets = [0] * BUCKETS
    for value in values:
        index = next((i for i, bound in enumerate(LATENCY_BOUNDS_MS) if value <= bound), -1)
        buckets[index] += 1
    return buckets


@given(latencies, st.sampled_from(core.QUANTILES))
def test_a_quantile_is_within_one_bucket_of_the_true_one(values: list[float], q: float) -> None:
    true = sorted(values)[math.ceil(q * len(values)) - 1]
    found = core.quantile_ms(bucketed(values), q)
    assert found is not None
    assert true / 2**0.25 - 0.001 <= found <= true * 2**0.25 + 0.001


def test_a_quantile_of_nothing_is_nothing_and_of_endless_ones_the_last_bound() -> None:
    assert core.quantile_ms([], 0.5) is None
    assert core.quantile_ms([0] * BUCKETS, 0.5) is None
    assert core.quantile_ms([0] * (BUCKETS - 1) + [3], 0.5) == LATENCY_BOUNDS_MS[-1]


def part(requests: int, **more: object) -> DeploymentTraffic:
    return DeploymentTraffic(requests=requests, statuses={200: requests}, **more)


def test_routers_add_up_but_their_instances_do_not() -> None:
    replies = [
        TrafficReply(
            router=f"r{n}",
            since=float(n),
            deployments={"blue": part(10, ready_instances=2, latency_buckets=(n, 1))},
            refused={429: n},
        )
        for n in (1, 2)
    ]
    told = core.describe_traffic("ep", {"blue": 100}, {"green": 10}, replies)
    assert (told["routers"], told["since"], told["requests"]) == (2, 1.0, 20)
    assert told["refused"] == {"429": 3}
    blue, green = told["deployments"]["blue"], told["deployments"]["green"]
    assert (blue["requests"], blue["readyInstances"], blue["observedPercent"]) == (20, 2, 100.0)
    assert core.summed(replies)["blue"].latency_buckets == (3, 2)
    assert (green["declaredMirrorPercent"], green["requests"]) == (10, 0)


def test_without_requests_there_is_no_share() -> None:
    told = core.describe_traffic("ep", {"blue": 100}, {}, [])
    assert told["since"] is None
    assert told["deployments"]["blue"]["observedPercent"] is None
    assert told["deployments"]["blue"]["latencyMs"] == dict.fromkeys(["p50", "p90", "p95", "p99"])


@given(
    st.dictionaries(st.text(), st.integers() | st.none() | st.dictionaries(st.text(), st.text()))
)
def test_a_merge_patch_holds_what_it_says(patch: dict[str, object]) -> None:
    merged = core.merge_patch({"a": {"x": "1"}, "b": 2}, patch)
    for key, value in patch.items():
        assert (key not in merged) if value is None else merged[key] is not None
    assert core.merge_patch(merged, {}) == merged


def test_the_merge_patch_cases_of_the_standard() -> None:
    cases = [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        (["a"], {"a": "b"}, {"a": "b"}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ]
    for target, patch, expected in cases:
        assert core.merge_patch(target, patch) == expected


@given(st.text())
def test_a_path_splits_into_harmless_segments_or_is_refused(text: str) -> None:
    try:
        segments = core.split_path("/" + text)
    except HeadgateError as error:
        assert error.error.blame == "caller"
        return
    for segment in segments:
        assert segment not in ("", ".", "..")
        assert not set(segment) & {"/", "\\", "\0", "\n", "\r"}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("", True), ("a", True), ("a=1", True), ("a=2", False), ("a=1,b", True), ("c", False)],
)
def test_labels_are_matched(wanted: str, expected: bool) -> None:
    assert core.has_labels({"a": "1", "b": ""}, wanted) is expected


@pytest.mark.parametrize(
    ("text", "now", "expected"),
    [("10m", 1000, 400), ("1h", 4000, 400), ("1970-01-01T00:00:05Z", 0, 5)],
)
def test_since_is_an_age_or_a_time(text: str, now: float, expected: float) -> None:
    assert core.read_since(text, now) == expected


def test_an_event_that_is_no_json_is_still_told() -> None:
    event = core.describe_event(7, "s", {}, b"\xff")
    assert (event["sequence"], event["data_base64"]) == (7, "/w==")


def test_retry_after_never_calls_back_too_early() -> None:
    assert [core.whole_seconds(s) for s in (-1, 0, 0.2, 1, 1.5)] == ["0", "0", "1", "1", "2"]
