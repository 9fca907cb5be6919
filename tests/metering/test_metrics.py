"""Metrics of Azure's names: from reports to minutes, from minutes to points."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from headgate.metering import app, metric_values, state
from headgate.metering.metric_values import Stored
from headgate.metering.minutes import Minutes, Place, Size
from headgate.metering.rows import VERSION_TABLE, InstanceRow, MetricRow
from headgate.runtime.tables import open_database
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.load import DeploymentLoad, EndpointLoad, LoadReported
from headgate_contracts.metrics import (
    DEPLOYMENT,
    ENDPOINT,
    MetricsReply,
    Point,
    QueryMetrics,
)
from headgate_contracts.provisioning import InstanceLost
from headgate_contracts.scoring import Heartbeat, InstanceState
from metering.conftest import DAY, MakeWorld, World

BLUE = Place("local", "digits", "blue")
I1 = Place("local", "digits", "blue", "i1")


def load(requests: int, *, router: str = "r", since: float = DAY + 1) -> LoadReported:
    blue = DeploymentLoad(
        workspace="local",
        endpoint="digits",
        deployment="blue",
        statuses={200: requests, 503: 2 * requests},
        model_statuses={200: requests},
        latency_buckets={20: 9 * requests, 40: requests},
        latency_s=0.5 * requests,
        request_bytes=100 * requests,
        response_bytes=200 * requests,
    )
    refused = EndpointLoad(workspace="local", endpoint="digits", refused={401: requests})
    return LoadReported(
        router=router,
        seq=1,
        since=since,
        mono_s=0.0,
        connections=requests,
        connections_opened=10 * requests,
        deployments=(blue,),
        endpoints=(refused,),
    )


def test_a_minute_holds_what_has_come_in_it() -> None:
    minutes = Minutes(DAY)
    minutes.hear_load(load(5), 1.0)
    minutes.hear_load(load(7), 2.0)
    minutes.hear_load(load(1_000, router="old", since=DAY - 9), 2.0)  # counted from here on
    minutes.hear_load(load(1_001, router="old", since=DAY - 9), 3.0)
    found = minutes.take(3.0)
    assert found[BLUE]["statuses"] == {"200": 8, "503": 16}
    assert found[BLUE]["bytes"] == 2_400 and found[BLUE]["latency_s"] == 4
    endpoint = found[Place("local", "digits")]
    assert endpoint["statuses"] == {"401": 8} and endpoint["opened"] == 80
    assert endpoint["connections"] == [2_013, 4, 5, 1_001]
    minutes.hear_load(load(8), 4.0)
    assert minutes.take(5.0)[BLUE]["statuses"] == {"200": 1, "503": 2}
    minutes.hear_load(load(8), 5.0)
    assert BLUE not in minutes.take(6.0)  # nothing has happened


def test_processors_are_used_as_far_as_their_time_grows() -> None:
    minutes, size = Minutes(DAY), Size(cores=2, memory_bytes=1_000)
    for second in range(5):
        beat = {
            "state": "ready",
            "cpu_s": 0.5 * second,
            "mono_ms": 1_000.0 * second,
            "rss_bytes": 100 * (second + 1),
            "collected": 3 * second,
        }
        minutes.hear_instance(I1, "i1", beat, size, float(second))
    found = minutes.take(5.0)[I1]
    assert found["cpu"] == [100.0, 4, 25.0, 25.0]
    assert found["memory"] == [140.0, 4, 20.0, 50.0]
    assert found["collected"] == 12 and found["state"] == "ready"


def test_what_an_instance_does_not_report_has_no_value() -> None:
    minutes = Minutes(DAY)
    for second in range(3):
        beat = {"state": "ready", "mono_ms": 1_000.0 * second, "disk_percent": None}
        minutes.hear_instance(I1, "i1", beat, Size(1, 1_000), float(second))
    rows = [Stored(int(DAY), "blue", "i1", minutes.take(3.0)[I1])]
    for name in ("DiskUtilization", "GpuUtilizationPercentage", "GpuEnergyJoules"):
        assert points(asked(name, deployment="blue"), rows) == {}


def test_processes_of_an_instance_use_it_together() -> None:
    minutes, size = Minutes(DAY), Size(cores=2, memory_bytes=1_000)
    for second in range(3):
        for lane, cores in (("i1", 0.5), ("i1-1", 0.25)):
            beat = {"state": "ready", "cpu_s": cores * second, "mono_ms": 1_000.0 * second}
            minutes.hear_instance(I1, lane, {**beat, "rss_bytes": 100}, size, float(second))
    found = minutes.take(3.0)[I1]
    assert found["cpu"] == [75.0, 2, 37.5, 37.5]
    assert found["memory"] == [40.0, 2, 20.0, 20.0]


def asked(name: str, *splits: str, deployment: str = "", **more: Any) -> QueryMetrics:
    about = {"workspace": "local", "endpoint": "digits", "since": DAY, "until": DAY + 3_600}
    return QueryMetrics.model_validate(
        {**about, "names": (name,), "splits": splits, "deployment": deployment, **more}
    )


def points(query: QueryMetrics, stored: list[Stored]) -> dict[tuple[str, ...], tuple[Point, ...]]:
    (metric,) = [m for m in metric_values.metrics_of(query) if m.name == query.names[0]]
    found = metric_values.series(query, metric, stored)
    return {tuple(each.dimensions.values()): each.points for each in found}


def stored(requests: int = 60) -> list[Stored]:
    """Two minutes: twice as much in the second."""
    rows = []
    for minute, factor in ((int(DAY), 1), (int(DAY) + 60, 2)):
        minutes = Minutes(DAY)
        minutes.hear_load(load(factor * requests), 1.0)
        beat: dict[str, Any] = {"state": "ready"}
        for second in range(3):
            beat |= {"cpu_s": 0.25 * factor * second, "mono_ms": 1_000.0 * second}
            beat |= {"disk_percent": 40.0 * factor, "gpu_percent": 10.0 * (second + factor)}
            beat |= {"gpu_memory_percent": 25.0, "gpu_joules": 300.0 * factor * second}
            minutes.hear_instance(I1, "i1", beat, Size(1, 1_000), second)
        for place, value in minutes.take(3.0).items():
            rows.append(Stored(minute, place.deployment, place.instance, value))
    return rows


def test_requests_are_counted_by_status_and_deployment() -> None:
    rows = stored()
    (whole,) = points(asked("RequestsPerMinute"), rows).values()
    assert [point.average for point in whole] == [240, 480]  # 60 + 120, and 60 refused before
    split = points(asked("RequestsPerMinute", "deployment", "statusCode"), rows)
    assert {key: values[0].total for key, values in split.items()} == {
        ("blue", "200"): 60,
        ("blue", "503"): 120,
        ("", "401"): 60,
    }
    classes = points(asked("RequestsPerMinute", "statusCodeClass"), rows)
    assert set(classes) == {("2xx",), ("4xx",), ("5xx",)}
    by_model = points(asked("RequestsPerMinute", "modelStatusCode"), rows)
    assert by_model["200",][0].total == 60
    kept = points(asked("RequestsPerMinute", only={"statusCode": "503"}), rows)
    assert kept[()][0].total == 120
    of_blue = points(asked("RequestsPerMinute", "envoy_response_code", deployment="blue"), rows)
    assert set(of_blue) == {("200",), ("503",)}


def test_an_interval_gathers_its_minutes() -> None:
    (five,) = points(asked("RequestsPerMinute", interval_s=300), stored())[()]
    assert (five.total, five.count, five.average) == (720, 2, 360)
    assert (five.minimum, five.maximum, five.at) == (240, 480, DAY)


def test_latencies_are_within_a_tenth() -> None:
    rows = stored()
    p50, p99 = (points(asked(f"RequestLatency_P{q}"), rows)[()][0].average for q in (50, 99))
    assert p50 == pytest.approx(0.1 * 2 ** (19.5 / 4), rel=0.1)
    assert p99 == pytest.approx(0.1 * 2 ** (39.5 / 4), rel=0.1)
    (mean, _) = points(asked("RequestLatency"), rows)[()]
    assert mean.average == 50 and mean.count == 600  # 0.5 s over ten buckets' worth of requests
    assert points(asked("RequestLatency_P95", deployment="blue"), rows)[()][0].count == 1


def test_the_rest_of_azures_metrics() -> None:
    rows = stored()
    first = {
        name: points(asked(name), rows)[()][0].average
        for name in ("ConnectionsActive", "NewConnectionsPerSecond", "NetworkBytes")
    }
    assert first == {
        "ConnectionsActive": 60,
        "NewConnectionsPerSecond": 10,
        "NetworkBytes": 300,
    }
    cpu = points(asked("CpuUtilizationPercentage", "instanceId", deployment="blue"), rows)
    assert [point.average for point in cpu["i1",]] == [25, 50]
    disk = points(asked("DiskUtilization", "instanceId", "disk", deployment="blue"), rows)
    assert [point.average for point in disk["i1", "tmp"]] == [40, 80]
    gpu, _ = points(asked("GpuUtilizationPercentage", deployment="blue"), rows)[()]
    assert (gpu.minimum, gpu.average, gpu.maximum) == (10, 20, 30)
    memory = points(asked("GpuMemoryUtilizationPercentage", deployment="blue"), rows)[()]
    assert [point.average for point in memory] == [25, 25]
    energy = points(asked("GpuEnergyJoules", "instanceId", deployment="blue"), rows)["i1",]
    assert [point.total for point in energy] == [600, 1_200]
    capacity = points(asked("DeploymentCapacity", "State", deployment="blue"), rows)
    assert [point.total for point in capacity["ready",]] == [1, 1]
    for metric in (*ENDPOINT, *DEPLOYMENT):  # each is known, whether there is data or not
        deployment = "blue" if metric in DEPLOYMENT and metric not in ENDPOINT else ""
        found = points(asked(metric.name, *metric.dimensions[:4], deployment=deployment), rows)
        assert found or metric.name.startswith("DataCollection")


async def test_what_is_reported_is_stored_and_answered(make_world: MakeWorld, kind: str) -> None:
    world = await make_world(kind)
    world.clock.at = DAY + 59.5  # the minute ends in half a second
    await world.stop()
    await world.start()
    await world.started("i1", "2030-03-10 00:00:30", "digits/blue", "large")
    beat = Heartbeat(
        endpoint="digits", deployment="blue", instance="i1", state=InstanceState.READY, pid=1
    )
    instances = await world.connect("provisioner")
    query = asked("RequestsPerMinute", "statusCode")
    capacity = asked("DeploymentCapacity", deployment="blue")
    number = 0

    async def answered(query: QueryMetrics) -> MetricsReply:
        return await world.buses["probe"].ask(query, MetricsReply)

    async with asyncio.timeout(30):
        while not (await answered(capacity)).metrics[0].series:
            number += 1
            report = load(number)
            for bus, event in ((world.buses["router"], report), (instances, beat)):
                await bus.publish(event.subject(), event.model_dump_json().encode())
            await asyncio.sleep(0.05)
    reply = await answered(query)
    assert {each.dimensions["statusCode"] for each in reply.metrics[0].series} == {
        *("200", "401", "503")
    }
    with pytest.raises(HeadgateError) as caught:
        await answered(asked("RequestPerMinute"))
    assert caught.value.error.code is ErrorCode.BAD_ARGUMENT
    assert "did you mean RequestsPerMinute?" in caught.value.error.message
    with pytest.raises(HeadgateError) as caught:
        await answered(asked("Happiness"))
    assert "there are RequestsPerMinute, " in caught.value.error.message
    await instances.close()
    lost = InstanceLost(
        workspace="local", endpoint="digits", deployment="blue", instance="i1", reason="found dead"
    )
    await world.say("provisioner", lost, DAY + 86_400)  # told a day after it was last heard of
    await until_none_runs(world)
    world.clock.at = DAY + 86_400
    assert (await world.costs()).total.instance_s == pytest.approx(29.5)


async def until_none_runs(world: World) -> None:
    database = await open_database(
        world.settings.database_url("metering"), app.MIGRATIONS, VERSION_TABLE
    )
    async with asyncio.timeout(30):
        running: Sequence[InstanceRow] | None = None
        while running is None or running:
            await asyncio.sleep(0.05)
            async with database.reading() as session:
                running = await state.running(session)
    await database.close()


async def test_metrics_are_forgotten_by_age_and_by_number(make_world: MakeWorld, kind: str) -> None:
    world = await make_world(kind)
    await world.stop()  # it would forget by itself
    database = await open_database(
        world.settings.database_url("metering"), app.MIGRATIONS, VERSION_TABLE
    )
    async with database.transaction() as session:
        for number in range(30):
            about = {"workspace": "local", "endpoint": "e", "deployment": "d", "instance": ""}
            session.add(MetricRow(minute=60 * number, value="{}", **about))
    query = QueryMetrics(workspace="local", endpoint="e", names=("x",), since=0, until=10_000)
    for before, most, left in ((300, 100, 25), (0, 10, 10)):
        async with database.transaction() as session:
            await state.forget_metrics(session, before, most)
        async with database.reading() as session:
            rows = await state.metric_rows(session, query)
        assert len(rows) == left and rows[-1].minute == 29 * 60
    await database.close()
