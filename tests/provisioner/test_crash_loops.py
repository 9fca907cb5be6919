"""Instances that crash again and again cost themselves, and nobody else."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from headgate.provisioner import app, core
from headgate.provisioner.drivers import Interpreter, Launch, Running
from headgate.provisioner.drivers.process import ProcessDriver
from headgate.provisioner.state import Desire, Memory
from headgate.provisioner.values import Backoff
from headgate_contracts.resources import ProvisioningState
from provisioner.harness import GOOD, World, eventually, kill

LOOPING, EACH = 4, 50


class CrashingDriver(ProcessDriver):
    """Real processes, but those of the deployments named ``loop-...`` end at once."""

    starts: ClassVar[dict[str, int]] = defaultdict(int)

    async def start(self, launch: Launch) -> Running:
        if launch.deployment.startswith("loop-"):
            self.starts[launch.deployment] += 1
            launch = replace(launch, base=Interpreter(Path("/bin/false")))
        return await super().start(launch)


async def prove(world: World, name: str) -> None:
    """The provisioner remembers that this deployment has worked before."""
    bus = await world.connect("provisioner")
    memory = await Memory.open(world.settings.database_url("provisioner"), bus)
    deployment = await world.deployment(name)
    version = core.version_of(deployment)
    await memory.remember_desire(Desire(deployment, since=time.monotonic(), serving=version))
    await memory.close()
    await bus.close()


async def test_200_crash_looping_instances_do_not_slow_the_others(
    idle_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each slot waits longer and longer by itself; what they all do together stays bounded."""
    monkeypatch.setattr(app, "ProcessDriver", CrashingDriver)
    world = idle_world
    code = await world.code(GOOD)
    for number in range(LOOPING):
        await world.put(f"loop-{number}", code, instance_count=EACH)
        await prove(world, f"loop-{number}")
    begun = time.monotonic()
    await world.start_provisioner()

    async def all_tried() -> bool:
        return len(CrashingDriver.starts) == LOOPING and min(CrashingDriver.starts.values()) >= EACH

    await eventually(all_tried, within_s=120)
    await world.put("blue", code, instance_count=2)
    done = await world.outcome("blue", within_s=120)
    assert done.provisioning_state is ProvisioningState.SUCCEEDED, done.error
    first, _ = await world.ready(2, "blue")
    kill(first.pid)
    await world.lost(first.id)
    assert first.id not in {i.id for i in await world.ready(2, "blue")}
    await world.change("blue", environment_variables={"V": "2"})
    assert (await world.outcome("blue", within_s=120)).ready_instances >= 2  # old ones may drain
    await world.ready(2, "blue")

    backoff = Backoff(first_s=world.settings.restart_backoff_s)
    elapsed_s = time.monotonic() - begun
    for number in range(LOOPING):
        starts = CrashingDriver.starts[f"loop-{number}"]
        rounds = 1
        while sum(map(backoff.wait_s, range(rounds))) <= elapsed_s:
            rounds += 1
        assert starts <= EACH * rounds, "none more often than its back-off allows"
    lost = [i for i in await world.instances("loop-0") if i.state == "lost"]
    assert lost and max(i.restarts for i in lost) >= 1
    assert "exit status 1" in (lost[0].error.message if lost[0].error else "")
