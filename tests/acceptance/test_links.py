"""Routers and workers of one machine talk past the bus; faults and roll-outs are told elsewhere."""

from __future__ import annotations

import asyncio
import os
import signal

from acceptance.load import Load
from acceptance.models import Journaled
from acceptance.system import eventually, failures

CONNECTIONS = 8


def linked(served: Journaled) -> int:
    """How often the router has said so of instances of the endpoint."""
    lines = (served.headgate.data / "logs" / "router.log").read_text().splitlines()
    return sum("lane_linked" in line and served.endpoint in line for line in lines)


async def test_requests_are_answered_while_the_bus_stands_still(journaled: Journaled) -> None:
    """Shorter than it takes to call the bus silent; only the link can have carried them."""
    await asyncio.to_thread(journaled.deploy, "blue", instances=2, all_traffic=True)
    await eventually(lambda: linked(journaled) == 2, "both instances are linked")
    bus = journaled.headgate.pid_of("nats-server")
    load = Load(journaled.headgate.target(journaled.endpoint), connections=CONNECTIONS)
    async with load.running():
        await load.reach(100)
        os.kill(bus, signal.SIGSTOP)
        try:
            await load.more(2 * CONNECTIONS)
        finally:
            os.kill(bus, signal.SIGCONT)
        await load.more(100)
    assert failures(load) == []
    ran = journaled.journal.read()
    assert len(ran) == len({run.id for run in ran}) == len(load.shots), "each ran once"
