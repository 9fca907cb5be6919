"""Kill each part under load: what clients see, and what has been executed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from statistics import median

import pytest

from acceptance.load import NO_ANSWER, Load, Shot
from acceptance.models import Journaled
from acceptance.system import EventTail, Headgate, eventually, failures
from headgate_contracts.scoring import InstanceState

CONNECTIONS = 8
WELL_AGAIN_S = 5.0
NOTICED_S = 0.5  # until a router knows that its connection is gone
FAST_REFUSAL_S = 0.5  # a refusal that waited for nothing, on two busy cores


@pytest.fixture
def served(journaled: Journaled) -> Journaled:
    """A deployment of two instances that takes all traffic."""
    journaled.deploy("blue", instances=2, all_traffic=True)
    return journaled


def load_on(served: Journaled) -> Load:
    return Load(served.headgate.target(served.endpoint), connections=CONNECTIONS, pause_s=0.002)


async def ready_pids(served: Journaled) -> set[int]:
    found = await served.headgate.instances(served.endpoint, "blue")
    return {instance.pid for instance in found if instance.state == InstanceState.READY}


async def until_ready(served: Journaled, instances: int) -> set[int]:
    """Wait until the provisioner counts so many ready instances; their processes."""
    async with asyncio.timeout(25):
        while len(pids := await ready_pids(served)) != instances:
            await asyncio.sleep(0.1)
    return pids


def executed_after_their_answer(served: Journaled, shots: list[Shot]) -> list[str]:
    """Requests whose execution began after their caller had been told the outcome."""
    ended = {shot.id: shot.ended for shot in shots}
    return [run.id for run in served.journal.read() if run.started > ended[run.id]]


async def test_killing_one_of_two_workers_costs_no_request(served: Journaled) -> None:
    """The router hands the requests in flight to the other instance; a new one comes."""
    before = await until_ready(served, 2)
    load = load_on(served)
    async with load.running():
        await load.reach(300)
        os.kill(min(before), signal.SIGKILL)
        await load.more(600)
        after = await until_ready(served, 2)
        await load.more(300)
    assert failures(load) == []
    assert min(before) not in after
    assert max(before) in after
    ran = served.journal.read()
    assert {run.id for run in ran} == {shot.id for shot in load.shots}
    assert len(ran) - len(load.shots) <= CONNECTIONS  # only those in flight ran twice


async def test_a_worker_that_crashes_in_c_code_costs_no_request(served: Journaled) -> None:
    """SIGSEGV: as with any other end; what it was doing is in its log, the signal in the event."""
    victim = min(await until_ready(served, 2))
    load = load_on(served)
    async with load.running():
        await load.reach(300)
        os.kill(victim, signal.SIGSEGV)
        await load.more(300)
        after = await until_ready(served, 2)
        await load.more(200)
    assert failures(load) == []
    assert victim not in after
    only = ("--since", "1h", "--filter", f"instance.{served.endpoint}.>")
    with EventTail(served.headgate, *only) as tail:

        def reasons() -> list[str]:
            return [e["data"]["reason"] for e in tail.events if e["subject"].endswith(".lost")]

        (reason,) = await eventually(reasons, "the event")
    assert "SIGSEGV" in reason
    logs = ("online-deployment", "get-logs", "-e", served.endpoint, "-n", "blue")
    assert "Fatal Python error: Segmentation fault" in served.headgate.cli(*logs)


async def test_a_hung_worker_is_killed_by_its_probe_and_replaced(served: Journaled) -> None:
    """Only what it had in hand times out; then it is left out, found dead and replaced."""
    probe = "--set", "liveness_probe.period=1", "--set", "liveness_probe.failure_threshold=2"
    limits = "--set", "request_settings.request_timeout_ms=1000"
    update = ("online-deployment", "update", "-e", served.endpoint, "-n", "blue")
    await asyncio.to_thread(served.headgate.cli, *update, *probe, *limits)
    hung = min(await until_ready(served, 2))
    load = load_on(served)
    async with load.running():
        await load.reach(300)
        os.kill(hung, signal.SIGSTOP)
        stopped = time.monotonic()
        await asyncio.sleep(2.0)  # three heartbeats missed
        noticed = time.monotonic()
        async with asyncio.timeout(40):
            while hung in (pids := await ready_pids(served)) or len(pids) != 2:
                await asyncio.sleep(0.1)
        await load.more(300)
    assert set(load.statuses()) <= {200, 408}
    late = [shot for shot in load.shots if shot.status == 408]
    assert len(late) <= CONNECTIONS
    assert all(stopped - 1 < shot.sent < noticed for shot in late)
    assert hung not in served.headgate.processes()


async def test_killing_the_router_costs_only_the_requests_in_flight(served: Journaled) -> None:
    """It comes back by itself and knows the routes before it listens; new clients wait for it."""
    await until_ready(served, 2)
    load = load_on(served)
    async with load.running():
        await load.reach(300)
        served.headgate.kill("run router")
        killed = time.monotonic()
        await load.more(600)
    lost = failures(load)
    assert {shot.status for shot in lost} <= {NO_ANSWER}
    assert len(lost) <= CONNECTIONS
    assert load.refused == 0
    first = min(shot.ended for shot in load.shots if shot.sent > killed)
    assert first - killed < WELL_AGAIN_S


async def test_killing_the_control_process_costs_nothing(served: Journaled) -> None:
    """Scoring goes on; the new control process adopts the workers instead of starting others."""
    before = await until_ready(served, 2)
    load = load_on(served)
    async with load.running():
        await load.reach(200)
        served.headgate.kill("run control")
        await load.more(300)
        status = ("online-endpoint", "show", "--name", served.endpoint)
        await eventually(
            lambda: served.headgate.try_cli(*status).returncode == 0, "the gateway answers again"
        )
        after = await until_ready(served, 2)
        await load.more(200)
    assert failures(load) == []
    assert after == before
    assert len({run.pid for run in served.journal.read()}) == 2
    workers = [p for p in served.headgate.processes().values() if "headgate_worker" in p.command]
    assert before <= {worker.pid for worker in workers}


async def test_killing_the_bus_refuses_fast_and_runs_nothing_behind_the_callers_back(
    served: Journaled,
) -> None:
    """New requests get 503 at once, those in flight an answer or a refusal by their deadline."""
    before = await until_ready(served, 2)
    # Most connections pause at any moment: they are the ones that ask while the bus is down.
    target = served.headgate.target(served.endpoint)
    load = Load(target, connections=4 * CONNECTIONS, pause_s=0.05)
    async with load.running():
        await load.reach(300)
        await asyncio.to_thread(served.headgate.kill, "nats-server")
        killed = time.monotonic()
        await asyncio.sleep(WELL_AGAIN_S)  # the bound itself, not a wait for something
        well = time.monotonic()
        await load.more(500)
    # 429: so many are pending on a busy machine that one more would wait for nothing
    answers = {200, 408, 429, 503}
    assert load.statuses().keys() <= answers, "the router stays up, and nothing hangs"
    assert load.refused == 0
    assert set(load.statuses(since=well)) == {200}

    refused = [shot for shot in load.shots if shot.status == 503]
    assert refused
    assert all("retry-after" in shot.headers for shot in refused)
    assert median(shot.seconds for shot in refused) < FAST_REFUSAL_S
    late = [shot for shot in load.shots if shot.status == 408]
    assert all(shot.sent < killed + NOTICED_S for shot in late), "only what was in flight waits"
    assert executed_after_their_answer(served, load.shots) == []
    assert await until_ready(served, 2) == before, "no worker was replaced"


async def test_a_frozen_worker_fails_nobody(served: Journaled) -> None:
    """What it has in hand is tried by the other one as well; everything else goes there anyway."""
    stopped = min(await until_ready(served, 2))
    load = load_on(served)
    os.kill(stopped, signal.SIGSTOP)
    try:
        async with load.running():
            await load.reach(CONNECTIONS)
            await asyncio.sleep(2.0)  # three heartbeats missed
            await load.more(400)
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert failures(load) == []
    await until_ready(served, 2)


def test_the_shared_headgate_survived_all_of_this(headgate: Headgate) -> None:
    """No part was started twice, and everything answers."""
    for part in ("nats-server", "run control", "run router"):
        headgate.pid_of(part)
    assert headgate.try_cli("status").returncode == 0
