"""Metrics from reports: counts that grow, routers that come, go and fall silent, windows."""

from __future__ import annotations

from collections import Counter

import pytest

from autoscaler.settings import rule
from headgate.autoscaler.collector import GONE_AFTER_S, Collector
from headgate.autoscaler.load_window import LoadWindow
from headgate.autoscaler.metrics import (
    KNOWN,
    InstanceUse,
    Size,
    Sums,
    Track,
    samples_of,
)
from headgate.autoscaler.values import Unread
from headgate_contracts.autoscale import MetricDimension, MetricTrigger
from headgate_contracts.load import DeploymentLoad, EndpointLoad, LoadReported
from headgate_contracts.routing import LATENCY_BOUNDS_MS
from headgate_contracts.scoring import Heartbeat, InstanceState

KEY = ("ep-1", "blue")


class Router:
    """Reports of one router whose every second is alike."""

    def __init__(self, name: str = "r1", since: float = 100.0) -> None:
        self.name = name
        self.since = since
        self.seq = 0
        self.counts = Counter[str]()

    def report(self, at: float, **told: object) -> LoadReported:
        """``told``: ``busy_s``, ``served`` and so on since the last report, and what is now."""
        self.seq += 1
        growing = ("busy_s", "ok", "served", "service_s", "latency_s", "request_bytes")
        for name in growing:
            self.counts[name] += told.pop(name, 0)  # type: ignore[arg-type] # a number
        counts = self.counts
        load = DeploymentLoad.model_validate(
            {
                "endpoint": KEY[0],
                "deployment": KEY[1],
                "statuses": {200: counts["ok"]},
                "latency_buckets": {10: counts["ok"]},
                **{name: counts[name] for name in growing if name != "ok"},
                **told,
            }
        )
        refused = EndpointLoad(endpoint=KEY[0], refused={401: self.seq})
        return LoadReported(
            router=self.name,
            seq=self.seq,
            since=self.since,
            at=at,
            mono_s=at,
            deployments=(load,),
            endpoints=(refused,),
        )


def test_what_happened_is_the_difference_of_two_reports() -> None:
    collector, router = Collector(100.0), Router()
    collector.take(router.report(101.0, busy_s=2, ok=10, served=10, service_s=1), 1.0)
    first = collector.step(1.0)
    assert first.heard and first.sums[KEY].busy_s == 2 and first.sums[KEY].span_s == 1
    collector.take(router.report(102.0, busy_s=3, ok=20, in_flight=4, waiting=2, held=1), 2.0)
    step = collector.step(2.0)
    sums = step.sums[KEY]
    assert (sums.busy_s, sums.span_s, sums.statuses[200]) == (3, 1, 20)
    assert (sums.arrivals, sums.in_hand, sums.waiting, sums.held) == (27, 7, 2, 1)
    assert step.sums["ep-1", ""].statuses == {401: 1}
    assert collector.step(3.0).sums[KEY].span_s == 0


def test_what_a_router_counted_before_we_listened_is_not_ours() -> None:
    collector, router = Collector(100.0), Router(since=50.0)
    collector.take(router.report(101.0, busy_s=500, ok=9_000), 1.0)
    assert KEY in collector.step(1.0).sums
    collector.take(router.report(102.0, busy_s=1, ok=5), 2.0)
    assert collector.step(2.0).sums[KEY].statuses[200] == 5


def test_two_routers_add_up_over_the_same_time() -> None:
    collector, one, two = Collector(100.0), Router("a"), Router("b")
    for second in (1, 2):
        collector.take(one.report(100.0 + second, busy_s=2, ready_instances=3), float(second))
        collector.take(two.report(100.0 + second, busy_s=1, ready_instances=3), second + 0.4)
        step = collector.step(second + 0.5)
    sums = step.sums[KEY]
    assert sums.busy_s / sums.span_s == pytest.approx(3)
    assert sums.ready == 3


def test_a_silent_router_makes_everything_unknown_until_it_counts_as_gone() -> None:
    collector, one, two = Collector(100.0), Router("a"), Router("b")
    collector.take(one.report(101.0), 1.0)
    collector.take(two.report(101.0), 1.0)
    assert collector.step(1.0).heard
    heard = {}
    for second in range(2, 30):
        collector.take(one.report(100.0 + second), float(second))
        heard[second] = collector.step(float(second)).heard
    assert heard[4] and not heard[5] and not heard[15]
    assert heard[2 + int(GONE_AFTER_S)]
    assert not Collector(0.0).step(1.0).heard  # without any router


def test_a_router_that_says_goodbye_is_not_missed() -> None:
    collector, one, two = Collector(100.0), Router("a"), Router("b")
    collector.take(one.report(101.0), 1.0)
    last = two.report(101.0, busy_s=1).model_copy(update={"is_last": True})
    collector.take(last, 1.0)
    for second in range(2, 8):
        collector.take(one.report(100.0 + second), float(second))
    assert collector.step(7.0).heard


def test_connections_are_the_endpoints() -> None:
    collector, one, two = Collector(100.0), Router("a"), Router("b")
    for second in (1, 2):
        told = {"connections": 5 * second, "connections_opened": 30 * second}
        for router in (one, two):
            collector.take(router.report(100.0 + second).model_copy(update=told), float(second))
        step = collector.step(float(second))
    parts = {name: step.sums["ep-1", name] for name in ("", "blue")}

    def read(name: str, *deployments: str) -> list[float]:
        chosen = {each: parts[each] for each in deployments}
        return samples_of(rule(f"{name} > 1").trigger, chosen, {})

    assert read("ConnectionsActive", "", "blue") == [20]
    assert read("NewConnectionsPerSecond", "", "blue") == [60]
    assert read("ConnectionsActive", "blue") == read("NewConnectionsPerSecond", "blue") == []


def test_a_lost_report_loses_nothing() -> None:
    collector, router = Collector(100.0), Router()
    collector.take(router.report(101.0, busy_s=1), 1.0)
    router.report(102.0, busy_s=1)
    collector.take(router.report(103.0, busy_s=1), 3.0)
    sums = collector.step(3.0).sums[KEY]
    assert (sums.busy_s, sums.span_s) == (3, 3)


def test_a_count_that_fell_has_begun_anew() -> None:
    collector, router = Collector(100.0), Router()
    collector.take(router.report(101.0, busy_s=50, ok=100, served=100), 1.0)
    collector.step(1.0)
    router.counts.clear()
    collector.take(router.report(102.0, busy_s=1, ok=2, served=2), 2.0)
    sums = collector.step(2.0).sums[KEY]
    assert (sums.busy_s, sums.statuses[200], sums.served) == (1, 2, 2)


def test_who_holds_requests_is_told_at_once() -> None:
    collector, router = Collector(100.0), Router()
    assert collector.take(router.report(101.0, held=3), 1.0) == {KEY}
    assert collector.take(router.report(102.0), 2.0) == set()


def test_processor_and_memory_come_from_heartbeats() -> None:
    collector = Collector(100.0)
    for lane, share in (("i1", 0.5), ("i2", 0.2), ("i2-1", 0.1)):
        for second in (1, 2, 3):
            beat = Heartbeat(
                endpoint=KEY[0],
                deployment=KEY[1],
                instance=lane,
                state=InstanceState.READY,
                mono_ms=1_000.0 * second,
                cpu_s=10 + share * second,
                rss_bytes=2**20,
            )
            collector.beat(beat, float(second))
    sums = collector.step(3.0).sums[KEY]
    size = {"blue": Size(cores=0.5, memory_bytes=2**22)}
    cpu = samples_of(rule("CpuUtilizationPercentage > 1").trigger, {"blue": sums}, size)
    assert sorted(cpu) == pytest.approx([60, 100])
    memory = samples_of(rule("CpuMemoryUtilizationPercentage > 1").trigger, {"blue": sums}, size)
    assert sorted(memory) == pytest.approx([25, 50])


def test_disks_and_gpus_come_from_heartbeats_that_tell_them() -> None:
    collector = Collector(100.0)
    for lane, joules in (("i1", 500.0), ("i1-1", None)):  # the second process tells nothing
        for second in (0, 1, 2):
            grown = None if joules is None else joules * second
            beat = Heartbeat(
                endpoint=KEY[0],
                deployment=KEY[1],
                instance=lane,
                state=InstanceState.READY,
                mono_ms=1_000.0 * second,
                disk_percent=None if joules is None else 30.0 + second,
                gpu_joules=grown,
            )
            collector.beat(beat, float(second))
    parts = {"blue": collector.step(3.0).sums[KEY]}

    def read(name: str) -> list[float]:
        return samples_of(rule(f"{name} > 1").trigger, parts, {})

    assert read("DiskUtilization") == [31.5]
    assert read("GpuEnergyJoules") == [30_000]
    assert read("GpuUtilizationPercentage") == []


def test_an_instance_that_measures_no_processor_time_has_no_value() -> None:
    sums = Sums()
    sums.instances["i1"] = use = InstanceUse()
    use.span_s = 60.0
    trigger = rule("CpuUtilizationPercentage < 10").trigger
    assert samples_of(trigger, {"blue": sums}, {"blue": Size(1.0, 1.0)}) == []


# --- metrics -----------------------------------------------------------------------------------


def minute(ok: int = 0, failed: int = 0, latency_ms: float = 50.0) -> Sums:
    sums = Sums(span_s=60.0, busy_s=120.0, looks=60, ready=120, waiting=30)
    sums.statuses = Counter({200: ok, 424: failed})
    bucket = next(i for i, bound in enumerate(LATENCY_BOUNDS_MS) if bound >= latency_ms)
    sums.latencies = Counter({bucket: ok})
    sums.latency_s = ok * latency_ms / 1_000
    sums.traffic_bytes = 6_000
    return sums


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RequestsPerMinute", 110),
        ("requestlatency", 50),
        ("NetworkBytes", 100),
        ("DeploymentCapacity", 2),
        ("ConcurrentRequests", 2),
        ("WaitingRequests", 0.5),
    ],
)
def test_values(name: str, value: float) -> None:
    found = samples_of(rule(f"{name} > 1").trigger, {"blue": minute(100, 10)}, {})
    assert found == [pytest.approx(value)]


@pytest.mark.parametrize("name", ["P50", "P90", "P95", "P99"])
def test_quantiles_are_within_a_bucket(name: str) -> None:
    (found,) = samples_of(rule(f"RequestLatency_{name} > 1").trigger, {"b": minute(100)}, {})
    assert found == pytest.approx(50, rel=0.2)


def test_dimensions_choose_what_counts() -> None:
    def rate(name: str, *values: str, operator: str = "Equals") -> float:
        dimension = MetricDimension.model_validate(
            {"name": name, "operator": operator, "values": values}
        )
        trigger = rule("RequestsPerMinute > 1").trigger
        trigger = trigger.model_copy(update={"dimensions": (dimension,)})
        parts = {"blue": minute(100, 10), "green": minute(30)}
        return sum(samples_of(trigger, parts, {}))

    assert rate("deployment", "blue") == 110
    assert rate("deployment", "blue", operator="NotEquals") == 30
    assert rate("statusCodeClass", "4xx") == 10
    assert rate("statusCode", "200", "424") == 140
    assert rate("statusCode", "424", operator="NotEquals") == 130


def test_an_endpoints_latency_is_that_of_all_its_requests() -> None:
    parts = {"blue": minute(300, latency_ms=100), "green": minute(100, latency_ms=20), "": Sums()}
    assert samples_of(rule("RequestLatency > 1").trigger, parts, {}) == [pytest.approx(80)]


def test_azures_names_without_a_source_are_known_and_have_no_value() -> None:
    assert "gpuutilizationpercentage" in KNOWN
    assert samples_of(rule("GpuUtilizationPercentage > 1").trigger, {"b": minute(5)}, {}) == []


# --- windows -----------------------------------------------------------------------------------


def track_of(values: list[float | None], trigger: MetricTrigger, *, heard: bool = True) -> Track:
    """A track after so many grains of one step each, told by requests; None: nobody reported."""
    track = Track(trigger.time_grain, trigger.time_window)
    for number, value in enumerate([*values, 0.0]):
        now = float(number * trigger.time_grain)
        if value is None:
            track.feed(now, {}, heard=False)
        else:
            sums = minute(round(value))
            track.feed(now, {"blue": sums}, heard=heard)
    return track


@pytest.mark.parametrize(
    ("aggregation", "value"),
    [("Average", 30), ("Minimum", 10), ("Maximum", 60), ("Total", 150), ("Count", 5), ("Last", 40)],
)
def test_aggregation_over_the_window(aggregation: str, value: float) -> None:
    trigger = rule("RequestsPerMinute > 1").trigger
    trigger = MetricTrigger.model_validate(
        {**trigger.model_dump(), "time_aggregation": aggregation}
    )
    track = track_of([999, 10, 20, 60, 20, 40], trigger)
    assert track.read(trigger, {}) == pytest.approx(value)


@pytest.mark.parametrize(
    ("statistic", "value"), [("Average", 40), ("Min", 20), ("Max", 60), ("Sum", 80), ("Count", 2)]
)
def test_statistic_over_the_instances(statistic: str, value: float) -> None:
    trigger = rule("CpuUtilizationPercentage > 1", time_grain=60, time_window=60).trigger
    trigger = MetricTrigger.model_validate({**trigger.model_dump(), "statistic": statistic})
    sums = Sums()
    for name, cpu_s in (("i1", 12.0), ("i2", 36.0)):
        use = sums.instances[name] = InstanceUse()
        use.cpu_s, use.span_s = cpu_s, 60.0
    track = Track(60, 60)
    track.feed(0.0, {"blue": sums}, heard=True)
    track.feed(60.0, {}, heard=True)
    assert track.read(trigger, {"blue": Size(cores=1.0)}) == pytest.approx(value)


def test_a_window_counts_when_it_is_full_and_told_of() -> None:
    trigger = rule("RequestsPerMinute > 1").trigger
    assert track_of([1, 1, 1, 1], trigger).read(trigger, {}) is Unread.YOUNG
    assert track_of([10] * 5, trigger).read(trigger, {}) == pytest.approx(10)
    assert track_of([10, None, 10, 10, 10], trigger).read(trigger, {}) == pytest.approx(10)
    assert track_of([10, None, None, 10, 10], trigger).read(trigger, {}) is Unread.NO_DATA
    latency = rule("RequestLatency > 1").trigger
    assert track_of([0] * 5, latency).read(latency, {}) is Unread.IDLE
    assert track_of([0, 0, 7, 0, 0], latency).read(latency, {}) == pytest.approx(50)


def test_a_pause_of_ours_is_no_data() -> None:
    trigger = rule("RequestsPerMinute > 1").trigger
    track = track_of([10] * 5, trigger)
    track.feed(1_000.0, {"blue": minute(10)}, heard=True)
    assert track.read(trigger, {}) is Unread.NO_DATA


def test_the_load_is_the_mean_over_its_windows() -> None:
    window = LoadWindow(60.0, 6.0)
    assert window.read(0.0) is None
    for second in range(1, 121):
        busy = 2.0 if second <= 90 else 10.0
        window.feed(float(second), 1.0, busy, 10, 5, served=10, service_s=0.5)
    found = window.read(120.0)
    assert found is not None
    assert found.stable == pytest.approx(6.0) and found.panic == pytest.approx(10.0)
    assert found.service_s == pytest.approx(0.05)
    assert found.panic_demand == pytest.approx(0.5)
    assert (found.in_hand, found.idle_s) == (5, 0.0)
    assert window.read(125.0) is None  # nobody has said anything for five seconds


def test_how_long_nothing_was_in_hand() -> None:
    window = LoadWindow(6.0, 2.0)
    window.feed(1.0, 1.0, 0.5, 1, 0)
    for second in range(2, 12):
        window.feed(float(second), 1.0, 0.0, 0, 0)
    found = window.read(11.0)
    assert found is not None
    assert (found.stable, found.idle_s) == (0.0, 10.0)


def test_how_long_a_request_takes_is_remembered_while_none_is_served() -> None:
    window = LoadWindow(6.0, 2.0)
    window.feed(1.0, 1.0, 0.5, 1, 0, served=1, service_s=0.5)
    for second in range(2, 12):
        window.feed(float(second), 1.0, 1.0, 0, 1)
    found = window.read(11.0)
    assert found is not None and found.service_s == 0.5


@pytest.mark.parametrize(
    ("seconds", "standing"),
    [
        ([(4.0, 10, 10), (4.2, 10, 10), (4.1, 10, 10)], 4.0),
        ([(90.0, 10, 10), (4.0, 10, 10), (4.2, 10, 10), (4.1, 10, 10)], 4.0),
        ([(4.0, 10, 10), (4.0, 10, 10)], None),  # not long enough
        ([(4.0, 10, 10), (4.0, 10, 10), (4.6, 10, 10)], None),  # it moves
        ([(4.0, 10, 10), (4.0, 10, 8), (4.0, 10, 10)], None),  # more come than go
        ([(4.0, 10, 10), (4.0, 8, 10), (4.0, 10, 10)], None),  # more go than come
        ([(4.0, 2, 1), (4.0, 1, 2), (4.0, 2, 1)], 4.0),  # one more or less says nothing
        ([(4.0, 0, 0), (4.0, 0, 0), (4.0, 0, 0)], None),  # nothing is served
    ],
)
def test_a_queue_stands_while_as_many_go_as_come(
    seconds: list[tuple[float, int, int]], standing: float | None
) -> None:
    window = LoadWindow(60.0, 6.0)
    for second, (busy_s, arrivals, served) in enumerate(seconds):
        window.feed(float(second), 1.0, busy_s, arrivals, 4, served=served, service_s=0.1)
    found = window.read(float(len(seconds)))
    assert found is not None and found.standing == standing
