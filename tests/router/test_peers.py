"""Several routers on one bus: together they keep the limit of requests that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from headgate.router import app
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate.runtime.settings import Settings
from headgate_contracts import limits
from router.stage import Stage, Wire, request, until

Names = Callable[[str], str]


async def ask(router: app.Router, endpoint: str) -> Wire:
    """Send a request to that router, and do not wait for its answer."""
    wire = Wire(*await asyncio.open_connection("127.0.0.1", router.ingress.port))
    await wire.send(request(endpoint))
    return wire


async def test_what_waits_elsewhere_counts_until_that_router_ends(
    stage: Stage, unique: Names, data_dir: Path
) -> None:
    name = unique("ep")
    route = await stage.route(name, {"blue": 100})
    instance = await stage.instance(name)
    bus = await Bus.connect("router", stage.server.url, stage.server.creds("router"), SystemClock())
    settings = Settings(data=data_dir / "second", http=True, scoring_port=0)
    service, second = app.assemble(settings, bus, SystemClock())
    await service.start()
    await until(lambda: (e := second.table.endpoint(name)) and e.route == route, "the route")
    here = stage.router.table.endpoint(name)
    there = second.table.endpoint(name)
    assert here is not None
    assert there is not None
    await until(lambda: there.deployments["blue"].ready, "the second router knows the instance")

    instance.gate.clear()
    wires = [await ask(second, name) for _ in range(1 + limits.PENDING_PER_SLOT)]
    waiting = limits.PENDING_PER_SLOT
    await until(lambda: here.deployments["blue"].elsewhere == waiting, "the other one has told")
    refused = await stage.ask(name)
    assert (refused.status, refused.error["code"]) == (429, "TooManyRequests")

    instance.gate.set()
    assert [(await wire.receive()).status for wire in wires] == [200] * len(wires)
    for wire in wires:
        await wire.close()
    await service.stop()
    await until(lambda: here.deployments["blue"].elsewhere == 0, "it has said its last word")
    assert (await stage.ask(name)).status == 200
