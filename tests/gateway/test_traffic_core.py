"""How the traffic of several routers adds up."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from headgate.gateway import traffic_core
from headgate_contracts.routing import LATENCY_BOUNDS_MS, DeploymentTraffic, TrafficReply

BUCKETS = len(LATENCY_BOUNDS_MS) + 1
latencies = st.lists(st.floats(0.1, 100_000), min_size=1, max_size=200)


def bucketed(values: list[float]) -> list[int]:
    buckets = [0] * BUCKETS
    for value in values:
        index = next((i for i, bound in enumerate(LATENCY_BOUNDS_MS) if value <= bound), -1)
        buckets[index] += 1
    return buckets


@given(latencies, st.sampled_from(traffic_core.QUANTILES))
def test_a_quantile_is_within_one_bucket_of_the_true_one(values: list[float], q: float) -> None:
    true = sorted(values)[math.ceil(q * len(values)) - 1]
    found = traffic_core.quantile_ms(bucketed(values), q)
    assert found is not None
    assert true / 2**0.25 - 0.001 <= found <= true * 2**0.25 + 0.001


def test_a_quantile_of_nothing_is_nothing_and_of_endless_ones_the_last_bound() -> None:
    assert traffic_core.quantile_ms([], 0.5) is None
    assert traffic_core.quantile_ms([0] * BUCKETS, 0.5) is None
    assert traffic_core.quantile_ms([0] * (BUCKETS - 1) + [3], 0.5) == LATENCY_BOUNDS_MS[-1]


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
    told = traffic_core.describe_traffic("ep", {"blue": 100}, {"green": 10}, replies)
    assert (told["routers"], told["since"], told["requests"]) == (2, 1.0, 20)
    assert told["refused"] == {"429": 3}
    blue, green = told["deployments"]["blue"], told["deployments"]["green"]
    assert (blue["requests"], blue["readyInstances"], blue["observedPercent"]) == (20, 2, 100.0)
    assert traffic_core.summed(replies)["blue"].latency_buckets == (3, 2)
    assert blue["latencyHistogram"] == [
        {"fromMs": 0.0, "upToMs": 0.1, "count": 3}, {"fromMs": 0.1, "upToMs": 0.1189, "count": 2},
    ]  # fmt: skip
    assert blue["mirrorLatencyHistogram"] == []
    assert (green["declaredMirrorPercent"], green["requests"]) == (10, 0)


def test_without_requests_there_is_no_share() -> None:
    told = traffic_core.describe_traffic("ep", {"blue": 100}, {}, [])
    assert told["since"] is None
    assert told["deployments"]["blue"]["observedPercent"] is None
    assert told["deployments"]["blue"]["latencyMs"] == dict.fromkeys(["p50", "p90", "p95", "p99"])


@given(st.lists(st.integers(0, 3), max_size=BUCKETS))
def test_a_histogram_tells_every_answer_once_and_its_buckets_follow_each_other(
    buckets: list[int],
) -> None:
    told = traffic_core.histogram(buckets)
    assert sum(bucket["count"] for bucket in told) == sum(buckets)
    for one, next_one in pairwise(told):
        assert one["fromMs"] < one["upToMs"] <= next_one["fromMs"]
    endless = len(buckets) == BUCKETS and buckets[-1] > 0
    assert [bucket["upToMs"] is None for bucket in told[-1:]] == [endless] * len(told[-1:])
