"""Deployments that are scaled: by their load, from none and back, and by a rule."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from acceptance.load import Load
from acceptance.models import deployment_file
from acceptance.system import Headgate, failures
from headgate.runtime.bus import Bus
from headgate_contracts.autoscale import DecisionsReply, ListDecisions, ScaleDecision
from headgate_contracts.errors import HeadgateError
from headgate_contracts.scoring import InstanceState

LIGHT = """
    import time

    def init():
        pass

    def run(raw_data):
        time.sleep(0.05)
        return "ok"
"""
ONE_AT_ONCE = {"max_concurrent_requests_per_instance": 1, "request_timeout_ms": 30_000}
FOLLOWS = {
    "type": "target_utilization",
    "min_instances": 0,
    "max_instances": 12,
    "stable_window": 6,
    "scale_to_zero_grace": 0,
    "polling_interval": 1,
}
# Commands and new instances take their time on a machine with other work.
pytestmark = pytest.mark.timeout(180)


class Scaled:
    """What was decided about the deployments of one endpoint."""

    def __init__(self, bus: Bus, endpoint: str) -> None:
        self._bus = bus
        self._endpoint = endpoint

    async def changes(self) -> list[ScaleDecision]:
        """Decisions that changed the count, oldest first."""
        query = ListDecisions(workspace="local", endpoint=self._endpoint)
        reply = await self._bus.ask(query, DecisionsReply)
        return [each for each in reversed(reply.decisions) if each.action != "hold"]

    async def until(
        self, is_so: Callable[[list[ScaleDecision]], bool], what: str
    ) -> list[ScaleDecision]:
        """The changes, once they are as wanted."""
        changes: list[ScaleDecision] = []
        try:
            async with asyncio.timeout(60):
                while not is_so(changes):
                    await asyncio.sleep(0.2)
                    with contextlib.suppress(HeadgateError):  # it is busy starting instances
                        changes = await self.changes()
        except TimeoutError:
            raise AssertionError(f"never: {what}; there were {changes}") from None
        return changes

    async def emptied(self, after: int = 0) -> int:
        """Return when no instance is wanted; how many changes there have been."""
        found = await self.until(
            lambda all: len(all) > after and all[-1].to_count == 0, "no instance is wanted"
        )
        return len(found)


@asynccontextmanager
async def watching(headgate: Headgate, endpoint: str) -> AsyncIterator[Scaled]:
    bus = await headgate.bus()
    try:
        yield Scaled(bus, endpoint)
    finally:
        await bus.close()


async def test_instances_follow_the_load_from_none_and_back(
    headgate: Headgate, new_endpoint: Callable[[], str], files: Path
) -> None:
    """A hundred requests that find no instance are all answered."""
    endpoint = new_endpoint()
    file = deployment_file(
        files, endpoint, "blue", LIGHT, request_settings=ONE_AT_ONCE, scale_settings=FOLLOWS
    )
    headgate.cli("online-deployment", "create", "-f", file, "--all-traffic")
    async with watching(headgate, endpoint) as scaled:
        seen = await scaled.emptied()
        burst = Load(headgate.target(endpoint), connections=100)
        assert not failures(await burst.send(100))
        await scaled.emptied(seen)


async def test_a_rule_on_the_endpoints_latency_scales_a_deployment(
    headgate: Headgate, new_endpoint: Callable[[], str], files: Path
) -> None:
    """Set up with the command line, as one would with az."""
    endpoint = new_endpoint()
    file = deployment_file(files, endpoint, "blue", LIGHT)
    headgate.cli("online-deployment", "create", "-f", file, "--all-traffic")
    of = ("-e", endpoint, "-d", "blue")
    headgate.cli("autoscale", "create", *of, "--min-count", "1", "--max-count", "2")
    condition = "RequestLatency > 20 avg 3s"
    headgate.cli(
        *("autoscale", "rule", "create", *of, "--condition", condition, "--resource", "endpoint"),
        *("--scale", "out", "1", "--cooldown", "1s"),
    )
    load = Load(headgate.target(endpoint), connections=2)
    async with watching(headgate, endpoint) as scaled, load.running():
        (decision,) = await scaled.until(bool, "a decision")
    assert (decision.from_count, decision.to_count) == (1, 2)
    assert decision.figures[0].value is not None and decision.figures[0].value > 20
    assert not failures(load)
    (shown,) = json.loads(headgate.cli("autoscale", "history", *of, "--top", "1", "-o", "json"))
    assert shown["from_count"] in (1, 2) and shown["figures"][0]["threshold"] == 20


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_a_live_step_from_one_to_eight(
    headgate: Headgate, new_endpoint: Callable[[], str], files: Path
) -> None:
    """Clients that wait for their answers: at the wanted count within ten seconds, no more than one
    turn in five minutes, and hardly a request that fails."""
    endpoint = new_endpoint()
    follows = {"type": "target_utilization", "min_instances": 1, "max_instances": 20}
    file = deployment_file(
        files, endpoint, "blue", LIGHT, request_settings=ONE_AT_ONCE, scale_settings=follows
    )
    headgate.cli("online-deployment", "create", "-f", file, "--all-traffic")
    target = headgate.target(endpoint)
    few = Load(target, connections=1, pause_s=0.08)
    many = Load(target, connections=5)
    async with watching(headgate, endpoint) as scaled:
        async with few.running():
            await few.reach(200)
            assert await scaled.changes() == []
        began = time.time()
        async with many.running():
            await scaled.until(lambda all: bool(all) and all[-1].to_count >= 8, "eight are wanted")
            running = 0.0
            while not running:
                instances = await headgate.instances(endpoint, "blue")
                if sum(each.state == InstanceState.READY for each in instances) >= 8:
                    running = time.time() - began
                await asyncio.sleep(0.1)
            await asyncio.sleep(began + 300 - time.time())
        changes = await scaled.changes()
    told = [(round(each.at - began, 1), each.from_count, each.to_count) for each in changes]
    answered = 1 - len(failures(many)) / len(many.shots)
    print(f"changes {told}; eight ready after {running:.1f} s; answered {answered:.5%}")
    assert next(at for at, _, count in told if count >= 8) <= 10
    ways = [after > before for _, before, after in told]
    assert sum(one is not other for one, other in pairwise(ways)) <= 1
    assert answered >= 0.999
