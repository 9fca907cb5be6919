"""Two thousand clients that send a byte now and then, beside others that are in a hurry."""

from __future__ import annotations

import asyncio
import sys
from statistics import median

from loadtests import open_loop
from loadtests.open_loop import poisson
from loadtests.scenarios.outcome import Outcome
from loadtests.system import BLUE, System
from loadtests.workloads import Target

CLIENTS = 2_000
RATE_PER_S = 500
P99_MAX = 1.10


async def measure(quick: bool) -> Outcome:
    seconds, turns = (4.0, 2) if quick else (6.0, 5)
    alone: list[float] = []
    beside: list[float] = []
    with System.running() as system:
        system.deploy(BLUE, "small.py", concurrency=128)
        target = system.target()
        await _p99_ms(target, seconds, 0)
        for turn in range(turns):
            alone.append(await _p99_ms(target, seconds, turn))
            crowd = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "loadtests.crowd", str(CLIENTS), target.host,
                str(target.port), target.path, target.headers["Authorization"],
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            assert crowd.stdout is not None
            await crowd.stdout.readline()  # all are connected
            beside.append(await _p99_ms(target, seconds, turn))
            crowd.terminate()
            await crowd.wait()
            await asyncio.sleep(0.5)
    outcome = Outcome(f"{CLIENTS:,} slow clients beside {RATE_PER_S} requests/s")
    outcome.figures = {
        "p99 ms alone, each turn": " ".join(f"{ms:.2f}" for ms in alone),
        "p99 ms beside them": " ".join(f"{ms:.2f}" for ms in beside),
    }
    ratios = [after / before for before, after in zip(alone, beside, strict=True)]
    outcome.at_most("p99 beside them by p99 alone, median of turns", median(ratios), P99_MAX)
    return outcome


async def _p99_ms(target: Target, seconds: float, seed: int) -> float:
    shots = await open_loop.run(target, poisson(RATE_PER_S, seconds, seed))
    if shots.errors:
        raise RuntimeError(f"{shots.errors} of {len(shots)} requests failed")
    return shots.quantile_ms(0.99)
