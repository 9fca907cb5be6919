"""Viewers of the studio, readers of events and of logs, good and bad ones, beside scoring."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median

from loadtests import open_loop
from loadtests.open_loop import poisson, quantile
from loadtests.processes import ServerError, memory_mib
from loadtests.scenarios.outcome import Outcome
from loadtests.studio_viewers import READS, STALLS, VANISHES
from loadtests.system import BLUE, ENDPOINT, System
from loadtests.workloads import Target

CONNECTIONS = 8
RATE_PER_S = 500
MANY = 20
RATE_MIN = 0.95
P99_MAX = 1.10
GROWTH_MAX_MIB = 80.0  # the pages that one session may have open
_SETTLED_S = 2.0
_PARTS = {
    "portal": "run portal", "control": "run control", "nats": "nats-server", "router": "run router",
}  # fmt: skip


_LOGS = (
    "POST /subscriptions/local/resourceGroups/local/providers/Microsoft.MachineLearningServices"
    f"/workspaces/local/onlineEndpoints/{ENDPOINT}/deployments/{BLUE}/getLogs"
    '?api-version=2025-09-01 HTTP/1.1 {"tail": 200}'
)


@dataclass(frozen=True, slots=True)
class Crowd:
    """So many of a kind: who look at the studio in some manner, or who ask for something."""

    name: str
    number: int = 0
    manner: str = STALLS
    request: str = ""
    times: int = 1


NOBODY = Crowd("nobody")
CROWDS = (
    Crowd("one viewer", 1, READS),
    Crowd(f"{MANY} viewers that never read", MANY),
    Crowd(f"{MANY} viewers that vanish", MANY, VANISHES),
    Crowd(f"{MANY} readers of events that never read", MANY,
          request="GET /events?since=7d HTTP/1.1 "),
    Crowd(f"{MANY} readers of logs that never read", MANY, request=_LOGS, times=5),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Slice:
    rate_per_s: float
    latencies_ms: list[float]


@dataclass(frozen=True, slots=True)
class Compared:
    """A crowd by nobody: ratios, and how much more memory a process had at most."""

    rate: float
    p99: float
    growth_mib: float


async def measure(quick: bool) -> Outcome:
    """Each crowd by turns with nobody, and first nobody with nobody: what the noise is.

    ``CROWDS``: parts of names, with commas between them, of those that are wanted."""
    seconds, turns = (2.0, 3) if quick else (3.0, 4)
    wanted = os.environ.get("CROWDS", "").split(",")
    outcome = Outcome(f"viewers and readers beside scoring, by turns with nobody ({turns} turns)")
    with System.running() as system:
        system.deploy(BLUE, "small.py", concurrency=128)
        target = system.target()
        await _slice(target, seconds, 0)
        noise = (await _compare(system, target, NOBODY, seconds, turns, outcome)).p99
        for crowd in CROWDS:
            if any(part in crowd.name for part in wanted):
                found = await _compare(system, target, crowd, seconds, turns, outcome)
                _judge(outcome, crowd, found, noise)
    return outcome


def _judge(outcome: Outcome, crowd: Crowd, found: Compared, noise: float) -> None:
    """``noise``: p99 of nobody by nobody. Where that alone breaks the promise, it says nothing
    about a crowd that does not do worse by more than it allows."""
    spread = max(noise, 1 / noise)
    limit, told = P99_MAX, ""
    if spread > P99_MAX:
        limit, told = P99_MAX * spread, f" (of noise: nobody by nobody is x{noise:.2f})"
    outcome.at_least(f"requests/s, {crowd.name} by nobody", found.rate, RATE_MIN)
    outcome.at_most(f"p99, {crowd.name} by nobody{told}", found.p99, round(limit, 3))
    outcome.at_most(f"MiB more of any process, {crowd.name}", found.growth_mib, GROWTH_MAX_MIB)


async def _compare(
    system: System, target: Target, crowd: Crowd, seconds: float, turns: int, outcome: Outcome
) -> Compared:
    rates, before = [], _memory(system)
    alone_ms: list[float] = []
    beside_ms: list[float] = []
    most = before
    for turn in range(turns):
        alone = await _slice(target, seconds, turn)
        async with gathered(system, crowd):
            beside = await _slice(target, seconds, turn)
            most = {part: max(most[part], mib) for part, mib in _memory(system).items()}
        rates.append(beside.rate_per_s / alone.rate_per_s)
        alone_ms += alone.latencies_ms
        beside_ms += beside.latencies_ms
    # Of all turns together: a single slice has too few requests for its tail to say anything.
    alone_ms.sort()
    beside_ms.sort()
    p50, p99 = (quantile(beside_ms, q) / quantile(alone_ms, q) for q in (0.5, 0.99))
    told = ", ".join(f"{part} {most[part] - before[part]:+.0f}" for part in _PARTS)
    outcome.figures[crowd.name] = (
        f"rate x{median(rates):.3f} ({min(rates):.2f} to {max(rates):.2f}), p50 x{p50:.3f}, "
        f"p99 x{p99:.3f} ({quantile(alone_ms, 0.99):.2f} and {quantile(beside_ms, 0.99):.2f} ms); "
        f"MiB {told}"
    )
    return Compared(median(rates), p99, max(most[part] - before[part] for part in _PARTS))


@asynccontextmanager
async def gathered(system: System, crowd: Crowd) -> AsyncIterator[None]:
    """They are there, in a process that stands back: their own work is not what is measured."""
    if not crowd.number:
        await asyncio.sleep(_SETTLED_S)
        yield
        return
    token = (system.data / "keys" / "admin.token").read_text().strip()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtests.studio_viewers", str(crowd.number), crowd.manner,
        system.running_file()["gateway"], token, ENDPOINT, crowd.request, str(crowd.times),
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=lambda: os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        if not await process.stdout.readline():  # until all are there
            raise ServerError(f"{crowd.name}: none came")
        await asyncio.sleep(_SETTLED_S)
        yield
    finally:
        process.kill()
        await process.wait()


async def _slice(target: Target, seconds: float, seed: int) -> Slice:
    """The rate of a closed loop, then latencies at a rate that leaves room."""
    full = await open_loop.closed(target, CONNECTIONS, seconds / 2)
    shots = await open_loop.run(target, poisson(RATE_PER_S, seconds, seed))
    if full.errors or shots.errors:
        raise ServerError(f"{full.errors + shots.errors} requests failed")
    return Slice(2 * len(full) / seconds, shots.latencies_ms())


def _memory(system: System) -> dict[str, float]:
    return {
        part: sum(memory_mib(pid) for pid in system.tree.pids(words))
        for part, words in _PARTS.items()
    }
