"""Quotas in a router: pure figures, then real requests against a real ledger."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.metering import app as metering_app
from headgate.router import app, gates, quotas
from headgate.router.demand import Demand
from headgate.router.gates import Meters
from headgate.router.quotas import Bucket
from headgate.runtime.bus import Bus, Msg
from headgate.runtime.clock import SystemClock
from headgate.runtime.settings import Settings
from headgate_contracts.load import DeploymentLoad, LoadReported
from headgate_contracts.quotas import Quota, QuotaRefused, QuotaUse
from headgate_contracts.scoring import Route
from router.stage import Stage, Wire, request, until

Names = Callable[[str], str]
RATE = st.floats(0.01, 1e6)


def quota(kind: str, limit: float, **place: Any) -> Quota:
    about = {"workspace": "local", "name": "q", "kind": kind, "limit": limit, "endpoint": "*"}
    return Quota.model_validate({**about, **place})


# --- figures -----------------------------------------------------------------------------------


@given(RATE, st.lists(st.floats(0, 5), max_size=60))
def test_a_bucket_never_gives_more_than_its_rate_and_one_burst(
    rate: float, waits: list[float]
) -> None:
    burst = quotas.burst_of(rate)
    bucket, now, took = Bucket(burst, 0.0), 0.0, 0
    for wait in waits:
        now += wait
        after = quotas.taken(bucket, 1.0, rate, burst, now)
        if isinstance(after, Bucket):
            bucket, took = after, took + 1
        else:
            assert after > 0
            assert isinstance(quotas.taken(bucket, 1.0, rate, burst, now + after * 1.0001), Bucket)
    assert took <= burst + rate * now + 1e-6


def test_a_rate_of_nothing_gives_nothing_for_ever() -> None:
    bucket = Bucket(0.0, 0.0)
    assert quotas.taken(bucket, 1.0, 0.0, 1.0, 1e9) == math.inf
    assert quotas.rate_refusal(quota("requests_per_second", 0), "e", math.inf).retry_after_s > 0


@given(RATE, st.lists(st.floats(0, 1e6), min_size=1, max_size=8))
def test_the_parts_of_all_routers_add_up_to_the_figure(limit: float, demands: list[float]) -> None:
    parts = [
        quotas.share(limit, own, [d for j, d in enumerate(demands) if j != i])
        for i, own in enumerate(demands)
    ]
    assert sum(parts) == pytest.approx(limit)
    assert min(parts) > 0
    if sum(demands) <= limit:
        assert all(part >= own - 1e-6 * limit for part, own in zip(parts, demands, strict=True))


@given(st.integers(0, 1_000), st.integers(1, 20))
def test_connections_are_shared_out_and_nobody_goes_without(limit: int, count: int) -> None:
    parts = [quotas.seats(limit, rank, count) for rank in range(count)]
    assert max(parts) - min(parts) <= 1
    assert sum(parts) == (limit if limit >= count or not limit else count)


@pytest.mark.parametrize(
    ("seconds", "text"), [(60, "minute"), (3_600, "hour"), (7_200, "2 hours"), (90, "90 seconds")]
)
def test_a_window_has_a_name(seconds: int, text: str) -> None:
    assert quotas.span(seconds) == text


def loads(
    router: str, seq: int, statuses: dict[int, int], *, is_last: bool = False
) -> LoadReported:
    row = DeploymentLoad(endpoint="e", deployment="d", statuses=statuses)
    return LoadReported(
        router=router, seq=seq, since=0, mono_s=seq, deployments=(row,), is_last=is_last
    )


def test_demand_is_growth_between_whole_reports() -> None:
    demand = Demand()
    for seq in (1, 2, 3):
        demand.hear(loads("a", seq, {200: 10 * seq, 429: 5 * seq}), {"e"})
        demand.hear(loads("b", seq, {200: 3 * seq}), {"e"})
        demand.hear(loads("idle", seq, {}), {})
    assert demand.of("e", "a") == (15, [3, 0])
    assert demand.place_of("b") == (1, 3)
    demand.hear(loads("b", 4, {}, is_last=True), {"e"})
    assert demand.of("e", "a") == (15, [0])


# --- a gate ------------------------------------------------------------------------------------


def gate(*kept: Quota) -> tuple[Meters, gates.Gate]:
    meters = Meters()
    made = meters.gate(Route(workspace="local", endpoint="e", quotas=kept))
    assert made is not None
    return meters, made


def test_what_is_under_way_counts_until_it_is_known_what_became_of_it() -> None:
    meters, door = gate(quota("requests", 2, caller="*", window_s=60))
    tolls = [door.enter("k", 1.0) for _ in range(2)]
    refusal = door.refusal("k", None, 1.0)
    assert refusal is not None and refusal.retry_after_s == 59
    assert "2 requests of the caller 'k' per minute" in refusal.message
    assert "frees at 1970-01-01T00:01:00Z" in refusal.message
    assert door.refusal("another", None, 1.0) is None
    assert isinstance(tolls[0], gates.Tolls)
    tolls[0].pay((1, 0), "blue", 503, 0, 0)  # nothing was done for it
    assert door.refusal("k", None, 1.0) is None
    assert isinstance(tolls[1], gates.Tolls)
    tolls[1].pay((1, 0), "blue", 200, 0, 0)
    assert isinstance(door.enter("k", 1.0), gates.Tolls)
    assert door.refusal("k", None, 59.9) is not None
    assert door.refusal("k", None, 60.0) is None  # another window, and one is under way still
    assert isinstance(door.enter("k", 60.0), gates.Tolls)
    assert door.refusal("k", None, 60.0) is not None
    assert len(meters.refused) == 1


def test_the_ledger_and_own_records_are_never_counted_twice() -> None:
    meters, door = gate(quota("requests", 100, endpoint="", window_s=60))
    for row in range(5):
        tolls = door.enter("k", 1.0)
        assert isinstance(tolls, gates.Tolls)
        tolls.pay((1 + row // 3, row % 3), "blue", 200, 0, 0)
    (window,) = meters.windows.values()
    use = QuotaUse(workspace="local", quota="q", since=0, used=40)
    meters.reconcile(meters.counted(), [use], (1, 1), is_whole=True)
    assert window.used == 43  # rows 0 and 1 of page 1 are in the forty
    meters.reconcile(meters.counted(), [use], (2, 1), is_whole=True)
    assert window.used == 40
    late = use.model_copy(update={"since": -60.0, "used": 1e9})
    meters.reconcile(meters.counted(), [late], (2, 1), is_whole=True)
    assert window.used == 40  # of a window that is over
    meters.reconcile(meters.counted(), [], (2, 1), is_whole=True)
    assert window.used == 0
    meters.forget(60.0)
    assert not meters.windows


def test_bytes_that_were_too_many_are_waited_for() -> None:
    _, door = gate(quota("bytes_per_second", 1_000))
    tolls = door.enter("k", 0.0)
    assert isinstance(tolls, gates.Tolls) and door.refusal("k", None, 0.0) is None
    tolls.pay((1, 0), "blue", 200, 0, 4_000)
    refusal = door.refusal("k", None, 0.0)
    assert refusal is not None and refusal.retry_after_s == 3
    assert door.refusal("k", None, 2.9) is not None
    assert door.refusal("k", None, 3.1) is None


def test_a_change_of_the_figure_keeps_what_was_counted() -> None:
    meters, door = gate(quota("requests", 2, window_s=60))
    for _ in range(2):
        door.enter("k", 1.0)
    assert door.refusal("k", None, 1.0) is not None
    more = Route(workspace="local", endpoint="e", quotas=(quota("requests", 3, window_s=60),))
    door = meters.gate(more)
    assert door is not None and door.refusal("k", None, 1.0) is None
    door.enter("k", 1.0)
    assert door.refusal("k", None, 1.0) is not None
    assert meters.gate(Route(workspace="local", endpoint="e")) is None


# --- a router ----------------------------------------------------------------------------------


async def with_quotas(stage: Stage, name: str, *kept: Quota) -> None:
    route = await stage.route(name, {"blue": 100}, quotas=kept)
    assert route.quotas == kept


async def test_requests_beyond_a_rate_are_refused_with_the_quota_and_when_to_come_again(
    stage: Stage, unique: Names
) -> None:
    name = unique("ep")
    await with_quotas(stage, name, quota("requests_per_second", 1, name="slow"))
    instance = await stage.instance(name)
    answers = [await stage.ask(name) for _ in range(4)]
    assert answers[0].status == 200
    refused = next(each for each in answers if each.status == 429)
    assert refused.error["code"] == "QuotaExceeded" and refused.error["retryable"]
    assert "quota 'slow'" in refused.error["message"]
    assert "1 requests per second" in refused.error["message"]
    assert refused.headers["retry-after"] == "1"
    assert len(instance.runs) == sum(each.status == 200 for each in answers)


async def test_connections_beyond_a_quota_wait_for_others_to_end(
    stage: Stage, unique: Names
) -> None:
    name = unique("ep")
    await with_quotas(stage, name, quota("connections", 2))
    await stage.instance(name, capacity=10)
    wires = [await stage.wire() for _ in range(3)]
    statuses = []
    for wire in wires:
        await wire.send(request(name))
        statuses.append((await wire.receive()).status)
    assert statuses == [200, 200, 429]
    await wires[0].send(request(name))
    assert (await wires[0].receive()).status == 200
    await wires[0].close()
    async with asyncio.timeout(10):
        while True:
            await wires[2].send(request(name))
            if (await wires[2].receive()).status == 200:
                break


async def test_no_more_requests_run_than_a_caller_has_left_however_many_come_at_once(
    stage: Stage, unique: Names
) -> None:
    name = unique("ep")
    await with_quotas(stage, name, quota("requests", 5, caller="*", window_s=86_400))
    instance = await stage.instance(name, capacity=100, seconds=0.05)
    answers = await asyncio.gather(*(stage.ask(name) for _ in range(20)))
    assert sorted(each.status for each in answers) == [200] * 5 + [429] * 15
    assert len(instance.runs) == 5
    body = next(each for each in answers if each.status == 429)
    assert "5 requests of the caller '0' per day" in body.error["message"]
    assert 0 < int(body.headers["retry-after"]) <= 86_400


@pytest.fixture
async def ledger(stage: Stage, data_dir: Path) -> AsyncIterator[None]:
    """The real metering service."""
    bus = await connect(stage, "metering")
    service = await metering_app.build(Settings(data=data_dir / "ledger"), bus, SystemClock())
    await service.start()
    yield
    await service.stop()


async def connect(stage: Stage, service: str) -> Bus:
    return await Bus.connect(service, stage.server.url, stage.server.creds(service), SystemClock())


async def test_what_a_caller_has_used_outlives_the_router(
    stage: Stage, ledger: None, data_dir: Path, unique: Names
) -> None:
    """Its counts move from its own records into the ledger, once, and the next one asks there."""
    name = unique("ep")
    kept = quota("requests", 5, caller="*", window_s=86_400)
    await with_quotas(stage, name, kept)
    await stage.instance(name, capacity=100)
    assert [(await stage.ask(name)).status for _ in range(6)] == [200] * 5 + [429]
    (window,) = stage.router.table.meters.windows.values()
    assert window.used == 5
    await until(lambda: window.ledger == 5, "the ledger has all of it")
    assert (window.used, window.own) == (5, {})
    assert (await stage.ask(name)).status == 429

    bus = await connect(stage, "router")
    settings = Settings(data=data_dir / "second", http=True, scoring_port=0)
    service, second = app.assemble(settings, bus, SystemClock())
    await service.start()
    wire = Wire(*await asyncio.open_connection("127.0.0.1", second.ingress.port))
    await wire.send(request(name))
    assert (await wire.receive()).status == 429
    await wire.close()
    await service.stop()


async def test_a_quota_that_refuses_is_told_once(stage: Stage, unique: Names) -> None:
    name = unique("ep")
    probe, told = await connect(stage, "probe"), []
    named = unique("closed")

    async def hear(message: Msg) -> None:
        told.append(QuotaRefused.model_validate_json(message.data))

    await probe.subscribe(f"hg.v1.evt.quota.{named}.refused", hear)
    await probe.sync()
    await with_quotas(stage, name, quota("requests", 0, name=named, window_s=3_600))
    for _ in range(3):
        assert (await stage.ask(name)).status == 429
    await until(lambda: told, "the event has come")
    (event,) = told
    assert (event.workspace, event.endpoint, event.limit) == ("local", name, 0)
    assert event.refusals >= 1 and event.frees_at is not None and event.frees_at % 3_600 == 0
    await probe.close()


async def test_two_routers_keep_a_rate_together(
    stage: Stage, unique: Names, data_dir: Path
) -> None:
    """With the whole load at one of them its part becomes nearly all of the figure."""
    name = unique("ep")
    await with_quotas(stage, name, quota("requests_per_second", 100))
    await stage.instance(name, capacity=100)
    bus = await connect(stage, "router")
    settings = Settings(data=data_dir / "second", http=True, scoring_port=0)
    service, second = app.assemble(settings, bus, SystemClock())
    await service.start()
    (mine,), (theirs,) = (
        list(router.table.meters.rates.values()) for router in (stage.router, second)
    )
    await until(lambda: (mine.share, theirs.share) == (50, 50), "equal parts while nobody asks")
    wire, answered = await stage.wire(), 0
    async with asyncio.timeout(20):
        while mine.share < 90 or theirs.share > 15:
            await wire.send(request(name))
            answered += (await wire.receive()).status == 200
    assert answered
    await service.stop()
    await until(lambda: mine.share == 100, "the other has said its last word")


async def test_an_endpoint_without_quotas_has_no_gate(stage: Stage, unique: Names) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100})
    endpoint = stage.router.table.endpoint(name)
    assert endpoint is not None and endpoint.quotas is None
