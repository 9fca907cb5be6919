"""What a mirror of all traffic costs those who are answered, and a mirror that hangs.

Users may mirror half of their traffic, as with Azure; so that all of it is mirrored here, the
route is written into the routers' bucket directly.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median

from headgate.registry.relay import BucketWriter
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate_contracts import streams
from headgate_contracts.scoring import Route
from loadtests import open_loop
from loadtests.open_loop import poisson
from loadtests.scenarios.outcome import Outcome
from loadtests.system import BLUE, ENDPOINT, GREEN, System
from loadtests.workloads import Target

INSTANCES, MODEL_MS = 4, 20
HUNG = "red"
P50_MAX = 1.15
KEPT_EVERY_S = 1.0  # the registry puts its own route back now and then


async def measure(quick: bool) -> Outcome:
    seconds, turns = (3.0, 2) if quick else (5.0, 3)
    p50s_ms: dict[str, list[float]] = {"none": [], GREEN: [], HUNG: []}
    with System.running() as system:
        system.deploy(BLUE, "timed.py", concurrency=1, instances=INSTANCES)
        system.deploy(GREEN, "timed.py", concurrency=1, instances=INSTANCES, traffic=False)
        system.deploy(HUNG, "hung.py", concurrency=1, instances=INSTANCES, traffic=False)
        target = system.target()
        await _p50_ms(target, seconds, 0)
        for turn in range(turns):
            for name, found in p50s_ms.items():
                async with _mirrored(system, {} if name == "none" else {name: 100}):
                    found.append(await _p50_ms(target, seconds, turn))
        copies = _mirrored_requests(system)
    outcome = Outcome(f"all requests mirrored, a {MODEL_MS} ms model at half load")
    none, all_, hung = (median(p50s_ms[name]) for name in ("none", GREEN, HUNG))
    outcome.figures = {
        "p50 ms without a mirror": none,
        "p50 ms with a mirror of all": all_,
        "p50 ms with a mirror that hangs": hung,
        "copies that were answered": copies,
    }
    outcome.at_least("copies answered", copies, turns)
    outcome.at_most("p50 with a mirror by p50 without", all_ / none, P50_MAX)
    outcome.at_most("p50 with a hung mirror by p50 without", hung / none, 1.05)
    return outcome


async def _p50_ms(target: Target, seconds: float, seed: int) -> float:
    arrivals = poisson(0.5 * INSTANCES * 1000 / MODEL_MS, seconds, seed)
    message = target.message(b'{"ms": %d}' % MODEL_MS)
    shots = await open_loop.run(target, arrivals, [message] * len(arrivals))
    if shots.errors:
        raise RuntimeError(f"{shots.errors} of {len(shots)} requests failed")
    return shots.quantile_ms(0.5)


@asynccontextmanager
async def _mirrored(system: System, mirror: dict[str, int]) -> AsyncIterator[None]:
    """Routers mirror like this while the block runs."""
    running = system.running_file()
    creds = system.data / "keys" / "registry.creds"
    bus = await Bus.connect("registry", running["nats"], creds, SystemClock())
    writer = BucketWriter(bus, streams.ROUTES.name)
    await _write(writer, mirror)
    keeping = asyncio.create_task(_keep(writer, mirror))
    await asyncio.sleep(1.0)
    try:
        yield
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
        await _write(writer, {})
        await bus.close()


async def _keep(writer: BucketWriter, mirror: dict[str, int]) -> None:
    while True:
        await asyncio.sleep(KEPT_EVERY_S)
        await _write(writer, mirror)


async def _write(writer: BucketWriter, mirror: dict[str, int]) -> None:
    found = await writer.get(ENDPOINT)
    route = Route.model_validate_json(found.value or b"")
    if route.mirror_traffic != mirror:
        update = {"mirror_traffic": mirror, "revision": route.revision + 1}
        wanted = route.model_copy(update=update).model_dump_json().encode()
        await writer.replace(ENDPOINT, found, wanted)


def _mirrored_requests(system: System) -> int:
    """Copies that the mirror has answered, as the router counts them."""
    rows = system.cli_json("online-endpoint", "traffic", "-n", ENDPOINT)
    return sum(row["mirrored"].get("200", 0) for row in rows if row["deployment"] == GREEN)
