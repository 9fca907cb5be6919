"""The comparison: every server with every model under the same loads, one after the other."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import uvloop
from rich.console import Console

from loadtests import closed_loop, open_loop, servers, workloads
from loadtests.processes import ServerError
from loadtests.runs import Cell, Run
from loadtests.servers import Running, Server
from loadtests.workloads import Workload

OPEN, CLOSED = "open", "closed"
_SEED = 20
# Requests per second of the open loop: one that all servers can carry, one that tells them apart.
_LOADS: dict[str, tuple[tuple[str, int], ...]] = {
    "small": ((CLOSED, 1), (CLOSED, 32), (CLOSED, 128), (OPEN, 100), (OPEN, 1000)),
    "binary": ((CLOSED, 1), (CLOSED, 32)),
    "slow": ((CLOSED, 1), (OPEN, 5)),  # ten a second are all that the model can do
}
_SLOW_FACTOR = 3  # a model with ten calls a second needs longer to show anything
_SPREAD_ROUNDS_MAX = 3  # rounds of the loads that vary little


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: so many rounds over all servers, and seconds for each load."""

    names: tuple[str, ...]
    models: tuple[str, ...]
    rounds: int
    seconds: float

    def steps(self) -> Iterator[tuple[str, int, str, Workload]]:
        """Rounds on the outside: so slow drifts of the machine meet all servers alike."""
        for turn in range(self.rounds):
            for model in self.models:
                workload = workloads.ALL[model]
                if workload is not workloads.SMALL and turn >= min(
                    _SPREAD_ROUNDS_MAX, math.ceil(self.rounds / 3)
                ):
                    continue
                for name in self.names:
                    if workload.name in servers.ALL[name].workloads:
                        yield f"{turn}/{workload.name}/{name}", turn, name, workload


def measure(run: Run, plan: Plan, console: Console, time_s: float = math.inf) -> bool:
    """Do the steps that are not done yet, for about so long; whether all are done."""
    begun, longest_s = time.monotonic(), 0.0
    steps = list(plan.steps())
    for position, (step, turn, name, workload) in enumerate(steps, 1):
        if step in run.steps or f"{name}, {workload.name}" in run.absent:
            continue
        started = time.monotonic()
        if started - begun + longest_s > time_s:
            return False
        try:
            cells = _step(servers.ALL[name], name, workload, turn, plan.seconds)
        except ServerError as error:
            console.print(f"{name}, {workload.name}: {error}", style="red", markup=False)
            run.absent[f"{name}, {workload.name}"] = str(error)
            run.write()
            continue
        run.add(step, cells)
        longest_s = max(longest_s, time.monotonic() - started)
        console.print(f"{position}/{len(steps)} {_told(name, cells)}", markup=False)
    return True


def _step(server: Server, name: str, workload: Workload, turn: int, seconds: float) -> list[Cell]:
    """All loads of one server; a server that fails gets a second try, as slow starters need."""
    try:
        return _measured(server, name, workload, turn, seconds)
    except ServerError:
        return _measured(server, name, workload, turn, seconds)


def _measured(
    server: Server, name: str, workload: Workload, turn: int, seconds: float
) -> list[Cell]:
    with servers.running(server, workload) as running:
        return uvloop.run(_loads(running, name, workload, turn, seconds))


async def _loads(
    running: Running, name: str, workload: Workload, turn: int, seconds: float
) -> list[Cell]:
    if not workload.serial_s:
        await closed_loop.run(running.target, 32, 1.0)  # warm-up
    cells = []
    for loop, size in _LOADS[workload.name]:
        length_s = seconds * (_SLOW_FACTOR if workload.serial_s else 1)
        cpu_s = running.tree.cpu_s()
        if loop == CLOSED:
            outcome = await closed_loop.run(running.target, size, length_s)
        else:
            outcome = await _open(running, size, length_s, turn)
        spent_s = running.tree.cpu_s() - cpu_s
        cells.append(
            {
                "server": name, "workload": workload.name, "loop": loop, "size": size,
                "round": turn, "requests": outcome.requests, "errors": outcome.errors,
                "requests_per_s": round(outcome.per_s, 1), "p50_ms": round(outcome.p50_ms, 4),
                "p95_ms": round(outcome.p95_ms, 4), "p99_ms": round(outcome.p99_ms, 4),
                "cpu_s_per_1000": round(1000 * spent_s / max(1, outcome.requests), 4),
                "memory_mib": round(running.tree.memory_mib(), 1),
            }
        )  # fmt: skip
        await asyncio.sleep(0.1)
    return cells


async def _open(
    running: Running, rate_per_s: int, seconds: float, turn: int
) -> closed_loop.Outcome:
    arrivals = open_loop.poisson(rate_per_s, seconds, _SEED + turn)
    return closed_loop.Outcome.of(await open_loop.run(running.target, arrivals))


def _told(name: str, cells: Sequence[Cell]) -> str:
    figures = [
        f"{cell['loop']} {cell['size']}: {cell['requests_per_s']:,.0f}/s"
        f" p50 {cell['p50_ms']:.2f} ms" + (f", {cell['errors']} failed" if cell["errors"] else "")
        for cell in cells
    ]
    return f"{name}, {cells[0]['workload']}: {', '.join(figures)}"
