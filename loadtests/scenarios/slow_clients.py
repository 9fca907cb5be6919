"""Two thousand clients that send a byte now and then, beside others that are in a hurry.

On one machine the clients themselves take processor time, which they would take elsewhere. So the
same crowd is also measured while it talks to a process that does nothing with what it gets: the
router answers for what it costs beyond that, and the whole difference is shown too.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from loadtests import open_loop
from loadtests.crowd import BYTE_EVERY_S
from loadtests.open_loop import poisson, quantile
from loadtests.processes import cpu_s
from loadtests.scenarios.outcome import Outcome
from loadtests.system import BLUE, System
from loadtests.workloads import Target

CLIENTS = 2_000
RATE_PER_S = 500
P99_MAX = 1.10
SENT_MIN = 0.8  # those who come again send nothing meanwhile
ALONE, SINK, ROUTER = "alone", "beside them at a sink", "beside them at the router"


async def measure(quick: bool) -> Outcome:
    seconds, turns = (2.0, 2) if quick else (2.5, 6)
    latencies_ms: dict[str, list[float]] = {ALONE: [], SINK: [], ROUTER: []}
    router_cpu_s = dict.fromkeys(latencies_ms, 0.0)
    p99s_ms: dict[str, list[float]] = {name: [] for name in latencies_ms}
    sent: list[int] = []
    with System.running() as system:
        system.deploy(BLUE, "small.py", concurrency=128)
        target = system.target()
        (router,) = system.tree.pids("run router")
        async with _program("sink") as sink:
            assert sink.stdout is not None
            sink_port = int(await sink.stdout.readline())
            await _latencies_ms(target, seconds, 0)
            for turn in range(turns):
                # Turns of all three, in changing order, so that a machine that drifts favours none.
                for at in range(3):
                    name = list(latencies_ms)[(turn + at) % 3]
                    async with _crowd(target, name, sink_port, sent):
                        before = cpu_s(router)
                        found = await _latencies_ms(target, seconds, turn)
                        router_cpu_s[name] += cpu_s(router) - before
                    latencies_ms[name] += found
                    p99s_ms[name].append(quantile(found, 0.99))
    p99_ms = {name: quantile(sorted(found), 0.99) for name, found in latencies_ms.items()}
    meant = 2 * turns * seconds * CLIENTS / BYTE_EVERY_S
    outcome = Outcome(f"{CLIENTS:,} slow clients beside {RATE_PER_S} requests/s")
    outcome.figures = {
        **{f"p99 ms {name}": ms for name, ms in p99_ms.items()},
        **{
            f"p99 ms {name}, each turn": " ".join(f"{ms:.2f}" for ms in found)
            for name, found in p99s_ms.items()
        },
        **{
            f"router's processor time {name}": f"{taken / turns / seconds:.1%} of a core"
            for name, taken in router_cpu_s.items()
        },
        "p99 beside them by p99 alone, their own processor time included": (
            p99_ms[ROUTER] / p99_ms[ALONE]
        ),
        "bytes that the slow clients sent": sum(sent),
    }
    worse = p99_ms[ROUTER] / p99_ms[SINK]
    outcome.at_most("p99 beside them by p99 with them at a sink", worse, P99_MAX)
    outcome.at_least("bytes sent by those there should be", sum(sent) / meant, SENT_MIN)
    return outcome


async def _latencies_ms(target: Target, seconds: float, seed: int) -> list[float]:
    shots = await open_loop.run(target, poisson(RATE_PER_S, seconds, seed))
    if shots.errors:
        raise RuntimeError(f"{shots.errors} of {len(shots)} requests failed")
    return shots.latencies_ms()


@asynccontextmanager
async def _crowd(
    target: Target, whose: str, sink_port: int, sent: list[int]
) -> AsyncIterator[None]:
    """The slow clients while the block runs, if there are any; adds what they have sent."""
    if whose == ALONE:
        await asyncio.sleep(1.0)  # as long as the others take to connect
        yield
        return
    port = sink_port if whose == SINK else target.port
    said = target.host, str(port), target.path, target.headers["Authorization"]
    async with _program("crowd", str(CLIENTS), *said) as crowd:
        assert crowd.stdout is not None
        await crowd.stdout.readline()  # all are connected
        yield
        crowd.terminate()
        sent.append(int(await crowd.stdout.read()))
    await asyncio.sleep(0.5)


@asynccontextmanager
async def _program(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A part of the crowd as a process, ended with the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtests.crowd", *arguments,
        stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
