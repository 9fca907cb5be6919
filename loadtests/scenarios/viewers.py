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
from loadtests.open_loop import poisson
from loadtests.processes import ServerError, memory_mib
from loadtests.scenarios.outcome import Outcome
from loadtests.system import BLUE, ENDPOINT, System
from loadtests.workloads import Target

CONNECTIONS = 8
RATE_PER_S = 300
MANY = 20
RATE_MIN = 0.95
P99_MAX = 1.10
GROWTH_MAX_MIB = 64.0
_SETTLED_S = 1.0
_PARTS = {
    "portal": "run portal", "control": "headgate up", "nats": "nats-server", "router": "run router",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Crowd:
    """So many of a kind: what they look at, and how."""

    name: str
    what: str = ""
    manner: str = ""
    number: int = 0


NOBODY = Crowd("nobody")
CROWDS = (
    NOBODY,
    Crowd("one viewer", "page", "reads", 1),
    Crowd(f"{MANY} viewers that never read", "page", "stalls", MANY),
    Crowd(f"{MANY} viewers that vanish", "page", "vanishes", MANY),
    Crowd(f"{MANY} readers of events that never read", "events", "stalls", MANY),
    Crowd(f"{MANY} readers of logs that never read", "logs", "stalls", MANY),
)


@dataclass(frozen=True, slots=True)
class Slice:
    rate_per_s: float
    p50_ms: float
    p99_ms: float


async def measure(quick: bool) -> Outcome:
    """Each crowd by turns with nobody, and nobody with nobody: what the noise is."""
    seconds, turns = (1.5, 3) if quick else (2.5, 5)
    wanted = os.environ.get("CROWDS", "")
    outcome = Outcome(f"viewers and readers beside scoring, by turns with nobody ({turns} turns)")
    with System.running() as system:
        system.deploy(BLUE, "small.py", concurrency=128)
        target = system.target()
        await _slice(target, seconds, 0)
        for crowd in CROWDS:
            if wanted in crowd.name:
                await _compare(system, target, crowd, seconds, turns, outcome)
    return outcome


async def _compare(
    system: System, target: Target, crowd: Crowd, seconds: float, turns: int, outcome: Outcome
) -> None:
    ratios, before = [], _memory(system)
    most = before
    for turn in range(turns):
        alone = await _slice(target, seconds, turn)
        async with _crowd(system, crowd):
            beside = await _slice(target, seconds, turn)
            most = {part: max(most[part], mib) for part, mib in _memory(system).items()}
        ratios.append((beside.rate_per_s / alone.rate_per_s, beside.p50_ms / alone.p50_ms,
                       beside.p99_ms / alone.p99_ms))  # fmt: skip
    rate, p50, p99 = (median(each) for each in zip(*ratios, strict=True))
    told = ", ".join(f"{part} {most[part] - before[part]:+.0f}" for part in _PARTS)
    outcome.figures[crowd.name] = (
        f"rate x{rate:.3f}, p50 x{p50:.3f}, p99 x{p99:.3f} (each turn: "
        f"{' '.join(f'{each[2]:.2f}' for each in ratios)}); MiB {told}"
    )
    outcome.at_least(f"requests/s, {crowd.name} by nobody", rate, RATE_MIN)
    outcome.at_most(f"p99, {crowd.name} by nobody", p99, P99_MAX)
    growth = max(most[part] - before[part] for part in _PARTS)
    outcome.at_most(f"MiB more of any process, {crowd.name}", growth, GROWTH_MAX_MIB)


@asynccontextmanager
async def _crowd(system: System, crowd: Crowd) -> AsyncIterator[None]:
    """They are there, in a process that stands back: their own work is not what is measured."""
    if not crowd.number:
        await asyncio.sleep(_SETTLED_S)
        yield
        return
    token = (system.data / "keys" / "admin.token").read_text().strip()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtests.studio_viewers", crowd.what, crowd.manner,
        str(crowd.number), system.running_file()["gateway"], token, ENDPOINT, _path(crowd),
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


def _path(crowd: Crowd) -> str:
    if crowd.what == "events":
        return "/events?since=7d"
    workspace = (
        "/subscriptions/local/resourceGroups/local/providers/"
        "Microsoft.MachineLearningServices/workspaces/local"
    )
    return f"{workspace}/logs/tables?api-version=2025-09-01"


async def _slice(target: Target, seconds: float, seed: int) -> Slice:
    """The rate of a closed loop, then latencies at a rate that leaves room."""
    full = await open_loop.closed(target, CONNECTIONS, seconds)
    shots = await open_loop.run(target, poisson(RATE_PER_S, seconds, seed))
    if full.errors or shots.errors:
        raise ServerError(f"{full.errors + shots.errors} requests failed")
    return Slice(len(full) / seconds, shots.quantile_ms(0.5), shots.quantile_ms(0.99))


def _memory(system: System) -> dict[str, float]:
    return {
        part: sum(memory_mib(pid) for pid in system.tree.pids(words))
        for part, words in _PARTS.items()
    }
