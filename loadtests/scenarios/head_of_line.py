"""Few long requests among many short ones: nobody may wait behind one while an instance is free.

Beside it the two ends of the scale: an ideal central queue (computed), and a plain NATS queue
group (measured), whose server picks a member at random, busy or not.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from loadtests import open_loop
from loadtests.open_loop import poisson, quantile
from loadtests.processes import free_port
from loadtests.queueing import central_queue
from loadtests.scenarios.outcome import Outcome
from loadtests.system import BLUE, System

INSTANCES, PENDING_PER_SLOT = 4, 2
SHORT_MS, LONG_MS, LONG_SHARE = 10, 200, 0.1
LOAD = 0.7
P99_MAX = 1.25


async def measure(quick: bool) -> Outcome:
    mean_s = ((1 - LONG_SHARE) * SHORT_MS + LONG_SHARE * LONG_MS) / 1000
    arrivals = poisson(LOAD * INSTANCES / mean_s, 15.0 if quick else 48.0, seed=4)
    dice = random.Random(5)
    works_ms = [LONG_MS if dice.random() < LONG_SHARE else SHORT_MS for _ in arrivals]
    with System.running() as system:
        system.deploy(BLUE, "timed.py", concurrency=1, instances=INSTANCES)
        target = system.target()
        messages = [target.message(b'{"ms": %d}' % ms) for ms in works_ms]
        await open_loop.run(target, arrivals[:200], messages[:200])
        shots = await open_loop.run(target, arrivals, messages)
    group = await _queue_group(arrivals[: len(arrivals) // 2], works_ms)
    services_s = [ms / 1000 for ms in works_ms]
    ideal = central_queue(arrivals, services_s, INSTANCES, PENDING_PER_SLOT * INSTANCES)
    best = sorted(1e3 * each for each in ideal if each is not None)
    found = shots.latencies_ms(status=200)
    outcome = Outcome(
        f"{INSTANCES} instances of one request, {SHORT_MS} ms or (one in ten) {LONG_MS} ms, "
        f"{100 * LOAD:.0f} % load"
    )
    outcome.figures = {
        "requests": len(arrivals),
        "p50, p95, p99 ms": _three(found),
        "of an ideal central queue": _three(best),
        "of a plain queue group": _three(group),
        "refused": shots.errors,
        "refused by the ideal queue with as many places": ideal.count(None),
    }
    worse = quantile(found, 0.99) / quantile(best, 0.99)
    outcome.at_most("p99 by that of an ideal central queue", worse, P99_MAX)
    others = len(shots) - len(found) - sum(status == 429 for status in shots.statuses)
    outcome.at_most("failed other than by a full queue", others, 0)
    return outcome


def _three(values: Sequence[float]) -> str:
    return " ".join(f"{quantile(values, q):.1f}" for q in (0.5, 0.95, 0.99))


async def _queue_group(arrivals: Sequence[float], works_ms: Sequence[int]) -> list[float]:
    """The same requests to four members of a queue group, each with a queue of its own."""
    port = free_port()
    program = Path(sys.executable).with_name("nats-server")
    server = subprocess.Popen(
        [program, "-a", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL
    )
    connections: list[Client] = []
    members: list[asyncio.Task[None]] = []
    try:
        for _ in range(INSTANCES + 1):
            connections.append(await _connected(port))
        for connection in connections[1:]:
            mailbox: asyncio.Queue[Msg] = asyncio.Queue()
            await connection.subscribe("work", queue="members", cb=mailbox.put)
            members.append(asyncio.create_task(_serve(mailbox)))
            await connection.flush()
        begun, found = time.perf_counter(), list[float]()
        async with asyncio.TaskGroup() as group:
            for at, ms in zip(arrivals, works_ms, strict=False):
                await asyncio.sleep(at - (time.perf_counter() - begun))
                group.create_task(_ask(connections[0], ms, begun + at, found))
        return sorted(found)
    finally:
        for member in members:
            member.cancel()
        for connection in connections:
            await connection.close()
        server.terminate()
        server.wait()


async def _connected(port: int) -> Client:
    """A connection to a server that may still be starting."""

    async def unheard(error: Exception) -> None:
        pass

    return await nats.connect(
        f"nats://127.0.0.1:{port}",
        max_reconnect_attempts=100,
        reconnect_time_wait=0.05,
        error_cb=unheard,
    )


async def _serve(mailbox: asyncio.Queue[Msg]) -> None:
    while True:
        message = await mailbox.get()
        await asyncio.sleep(int(message.data) / 1000)
        await message.respond(b"")


async def _ask(connection: Client, ms: int, meant: float, found: list[float]) -> None:
    await connection.request("work", b"%d" % ms, timeout=30)
    found.append(1e3 * (time.perf_counter() - meant))
