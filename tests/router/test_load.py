"""Load reports: what a router tells of each deployment, while it runs and at its end."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from nats.aio.msg import Msg

from headgate.runtime import natsd, ports
from headgate_contracts import limits, subjects
from headgate_contracts.load import DeploymentLoad, LoadReported
from headgate_contracts.routing import LATENCY_BOUNDS_MS
from router.stage import Stage, connected, request, staged, until

Unique = Callable[[str], str]


class Ear:
    """Hears the reports of the router that is started after it."""

    def __init__(self) -> None:
        self.reports: list[LoadReported] = []
        self.stage: Stage | None = None

    async def take(self, message: Msg) -> None:
        report = LoadReported.model_validate_json(message.data)
        if self.stage is not None and report.router == self.stage.router.id:
            assert message.subject == subjects.load(report.router)
            self.reports.append(report)

    async def the_last(self) -> None:
        """Return when the router has told its final counts."""
        await until(
            lambda: (
                self.reports
                and self.reports[-1].is_last
                and self.reports[-1].part == self.reports[-1].parts - 1
            ),
            "the router said goodbye",
        )

    def newest(self, endpoint: str, deployment: str = "blue") -> DeploymentLoad:
        """The newest word on a deployment."""
        for report in reversed(self.reports):
            for load in report.deployments:
                if (load.endpoint, load.deployment) == (endpoint, deployment):
                    return load
        return DeploymentLoad(endpoint=endpoint, deployment=deployment)


@asynccontextmanager
async def hearing(server: natsd.RunningServer) -> AsyncIterator[Ear]:
    ear = Ear()
    async with connected(server, "probe") as nc:
        await nc.subscribe(subjects.LOAD_ALL, cb=ear.take)
        await asyncio.sleep(0)
        await nc.flush()
        yield ear


async def test_what_was_answered_and_what_is_in_hand_is_told(
    nats: natsd.RunningServer, data_dir: Path, unique: Unique
) -> None:
    endpoint = unique("ep")
    async with hearing(nats) as ear:
        async with staged(nats, data_dir) as stage:
            ear.stage = stage
            await stage.route(endpoint, {"blue": 100}, concurrency=2)
            instance = await stage.instance(endpoint, capacity=2)
            for _ in range(5):
                assert (await stage.ask(endpoint, b"123")).status == 200
            assert (await stage.ask(endpoint, key="wrong")).status == 401
            instance.gate.clear()
            began = time.monotonic()
            wires = [await stage.wire() for _ in range(3)]
            for wire in wires:
                await wire.send(request(endpoint, b"12345"))
            stage.router.load.soon()
            await until(lambda: ear.newest(endpoint).waiting == 1, "three are in hand")
            load = ear.newest(endpoint)
            assert (load.in_flight, load.waiting, load.held) == (2, 1, 0)
            assert (load.ready_instances, load.slots, load.workspace) == (1, 2, "local")
            assert load.statuses == load.model_statuses == {200: 5}
            assert sum(load.latency_buckets.values()) == 5
            assert all(0 <= index <= len(LATENCY_BOUNDS_MS) for index in load.latency_buckets)
            assert (load.request_bytes, load.response_bytes) == (15, 15)
            assert abs(load.compute_s - 5 * 0.001) < 1e-9
            assert 0 < load.latency_s < load.busy_s
            assert load.served == 5 and 0 < load.service_s <= load.latency_s
            assert load.busy_s <= load.latency_s + 3 * (time.monotonic() - began)
            report = ear.reports[-1]
            assert [each.refused for each in report.endpoints if each.endpoint == endpoint] == [
                {401: 1}
            ]
            assert report.connections_opened == 9
            await until(lambda: ear.reports[-1].connections == 3, "closed ones are not counted")
            instance.gate.set()
            for wire in wires:
                assert (await wire.receive()).status == 200
        await ear.the_last()
    final = ear.newest(endpoint)
    assert ear.reports[-1].is_last and not any(each.is_last for each in ear.reports[:-1])
    assert final.statuses == {200: 8} and (final.in_flight, final.waiting) == (0, 0)
    assert [each.seq for each in ear.reports] == list(
        range(ear.reports[0].seq, ear.reports[-1].seq + 1)
    )


async def test_refusals_at_the_door_say_nothing_about_latencies(
    nats: natsd.RunningServer, data_dir: Path, unique: Unique
) -> None:
    endpoint = unique("ep")
    async with hearing(nats) as ear:
        async with staged(nats, data_dir) as stage:
            ear.stage = stage
            await stage.route(endpoint, {"blue": 100})
            assert (await stage.ask(endpoint)).status == 503
        await ear.the_last()
    load = ear.newest(endpoint)
    assert load.statuses == {503: 1} and load.model_statuses == {}
    assert load.latency_buckets == {} and load.latency_s == load.busy_s == 0.0


async def test_copies_count_as_load_but_not_as_answers(
    nats: natsd.RunningServer, data_dir: Path, unique: Unique
) -> None:
    endpoint = unique("ep")
    async with hearing(nats) as ear:
        async with staged(nats, data_dir) as stage:
            ear.stage = stage
            await stage.route(endpoint, {"blue": 100}, mirror={"green": 100})
            await stage.instance(endpoint)
            await stage.instance(endpoint, "green")
            assert (await stage.ask(endpoint)).status == 200
            traffic = await stage.deployment_traffic(endpoint, "green")
            await until(lambda: traffic.mirrored, "the copy was answered")
        await ear.the_last()
    load = ear.newest(endpoint, "green")
    assert load.mirrored == {200: 1} and load.statuses == {}
    assert load.busy_s > 0 and abs(load.mirrored_compute_s - 0.001) < 1e-9


async def test_many_deployments_come_in_parts(
    nats: natsd.RunningServer, data_dir: Path, unique: Unique
) -> None:
    names = [f"d{number}" for number in range(limits.LOAD_ROWS_PER_REPORT_MAX + 1)]
    endpoint = unique("ep")
    async with hearing(nats) as ear:
        async with staged(nats, data_dir) as stage:
            ear.stage = stage
            await stage.route(endpoint, dict.fromkeys(names, 0))
        await ear.the_last()
    last = [each for each in ear.reports if each.is_last]
    assert len(last) > 1 and len({each.seq for each in last}) == 1
    assert [(each.part, each.parts) for each in last] == [
        (part, len(last)) for part in range(len(last))
    ]
    told = [
        load.deployment for each in last for load in each.deployments if load.endpoint == endpoint
    ]
    assert sorted(told) == sorted(names)


async def test_a_router_has_a_page_for_prometheus(
    nats: natsd.RunningServer, data_dir: Path, unique: Unique
) -> None:
    """On a port of its own, since several routers share the port of scoring."""
    port = ports.choose("127.0.0.1", 0, setting="router_metrics_port")
    async with staged(nats, data_dir, router_metrics_port=port) as stage:
        name = unique("ep")
        await stage.route(name, {"blue": 100})
        await stage.instance(name)
        await stage.ask(name)
        await stage.router.load.say()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        said = (await reader.read()).decode()
        writer.close()
    assert said.startswith("HTTP/1.1 200 OK\r\n")
    labels = f'workspace="local",endpoint="{name}",deployment="blue"'
    assert f'headgate_requests_total{{{labels},code="200"}} 1\n' in said
    assert re.search(r"^headgate_router_tasks [1-9]\d*$", said, re.MULTILINE)
