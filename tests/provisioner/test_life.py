"""Real workers: deployed, killed, scaled, rolled, adopted, deleted."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

from headgate.runtime.files import PRIVATE_DIR
from headgate_contracts.power import StartDeployment, StopDeployment
from headgate_contracts.resources import Probe, ProvisioningState
from provisioner.harness import GOOD, World, ended, eventually, kill


async def test_a_deployment_succeeds_when_all_its_instances_are_ready(world: World) -> None:
    await world.put(code=await world.code(GOOD), instance_count=2)
    done = await world.outcome()
    assert done.provisioning_state is ProvisioningState.SUCCEEDED, done.error
    assert done.ready_instances == 2
    ready = await world.ready(2)
    assert "the model is loaded" in (await world.logs()).content
    links = world.settings.links_dir
    assert stat.S_IMODE(links.stat().st_mode) == PRIVATE_DIR
    for instance in ready:
        told = Path(f"/proc/{instance.pid}/environ").read_bytes().split(b"\0")
        assert f"HEADGATE_LINK_DIR={links}".encode() in told


async def test_a_killed_instance_is_announced_at_once_and_replaced(world: World) -> None:
    await world.put(code=await world.code(GOOD), instance_count=2)
    await world.outcome()
    first, second = await world.ready(2)
    kill(first.pid)
    assert (await world.lost(first.id)).deployment == "blue"

    async def replaced() -> bool:
        now = {i.id for i in await world.ready(2)}
        return first.id not in now and second.id in now

    await eventually(replaced)
    assert (await world.deployment()).provisioning_state is ProvisioningState.SUCCEEDED


async def test_scaling_starts_and_stops_only_the_difference(world: World) -> None:
    await world.put(code=await world.code(GOOD), instance_count=1)
    await world.outcome()
    (first,) = await world.ready(1)
    await world.change(instance_count=3)
    three = await world.ready(3)
    assert first.id in {i.id for i in three}
    await world.outcome()
    await world.change(instance_count=1)
    (left,) = await world.ready(1)
    assert left.id == first.id, "the oldest stays"
    for gone in three:
        if gone.id != first.id:
            await ended(gone.pid)


async def test_a_new_version_takes_over_without_a_moment_of_less(world: World) -> None:
    await world.put(code=await world.code(GOOD), instance_count=2)
    await world.outcome()
    old = await world.ready(2)
    await world.change(environment_variables={"COLOUR": "green"})
    least = 2

    async def rolled() -> bool:
        nonlocal least
        now = await world.instances()
        least = min(least, sum(i.state == "ready" for i in now))
        running = [i for i in now if i.state != "lost"]
        return len(running) == 2 and all(
            i.state == "ready" and i.spec != old[0].spec for i in running
        )

    await eventually(rolled)
    assert least == 2
    assert (await world.outcome()).provisioning_state is ProvisioningState.SUCCEEDED


async def test_a_failing_update_leaves_the_old_version_serving(world: World) -> None:
    await world.put(code=await world.code(GOOD), instance_count=2)
    await world.outcome()
    old = {i.id for i in await world.ready(2)}
    bad = await world.code("raise ValueError('not today')")
    await world.put(code=bad, instance_count=2)
    done = await world.outcome()
    assert done.provisioning_state is ProvisioningState.FAILED
    assert done.error is not None
    assert "not today" in done.error.message
    assert {i.id for i in await world.ready(2)} == old
    good = await world.code(GOOD)
    await world.put(code=good, instance_count=2)
    assert (await world.outcome()).provisioning_state is ProvisioningState.SUCCEEDED


async def test_a_deleted_deployment_leaves_nothing_behind(world: World) -> None:
    await world.put(code=await world.code(GOOD), instance_count=2)
    await world.outcome()
    pids = [i.pid for i in await world.ready(2)]
    await world.delete()

    async def gone() -> bool:
        left = [
            *world.settings.instances_dir.iterdir(),
            *(world.settings.data / "deployments").iterdir(),
        ]
        return not left and not await world.instances()

    await eventually(gone)
    for pid in pids:
        await ended(pid)
    assert world.processes() == []


async def test_instances_are_adopted_by_the_next_provisioner(world: World) -> None:
    await world.put(code=await world.code(GOOD), instance_count=2)
    await world.outcome()
    before = {(i.id, i.pid) for i in await world.ready(2)}
    await world.stop_provisioner()
    assert len(world.processes()) == 2, "workers survive their provisioner"
    await world.start_provisioner()
    assert {(i.id, i.pid) for i in await world.ready(2)} == before
    adopted = next(iter(before))
    kill(adopted[1])
    await world.lost(adopted[0])
    await world.ready(2)


async def test_what_ended_while_nobody_looked_is_replaced(world: World) -> None:
    await world.put(code=await world.code(GOOD), instance_count=2)
    await world.outcome()
    first, second = await world.ready(2)
    await world.stop_provisioner()
    kill(first.pid)
    await ended(first.pid)
    await world.start_provisioner()
    now = {i.id for i in await world.ready(2)}
    assert second.id in now
    assert first.id not in now


async def test_without_the_registry_everything_goes_on(world: World) -> None:
    await world.put(code=await world.code(GOOD), instance_count=2)
    await world.outcome()
    first, _ = await world.ready(2)
    await world.stop_registry()
    kill(first.pid)
    await world.lost(first.id)
    await world.ready(2)
    await world.stop_provisioner()
    await world.start_provisioner()
    assert len(await world.ready(2)) == 2, "what is wanted is known without the registry"
    await world.start_registry()

    async def told() -> bool:
        return (await world.deployment()).ready_instances == 2

    await eventually(told)


async def test_an_orderly_stop_ends_all_instances_and_a_new_start_brings_them_back(
    idle_world: World,
) -> None:
    await idle_world.start_provisioner(stop_instances=True)
    await idle_world.put(code=await idle_world.code(GOOD), instance_count=2)
    await idle_world.outcome()
    before = {i.id for i in await idle_world.ready(2)}
    await idle_world.stop_provisioner()
    assert idle_world.processes() == []
    await idle_world.start_provisioner()
    now = await idle_world.ready(2)
    assert not before & {i.id for i in now}
    assert all(i.restarts == 0 for i in now), "being stopped is no failure"


async def test_several_lanes_are_ready_together_and_end_together(world: World) -> None:
    await world.put(
        code=await world.code(GOOD), environment_variables={"WORKER_COUNT": "2"}, instance_count=1
    )
    done = await world.outcome()
    assert done.provisioning_state is ProvisioningState.SUCCEEDED, done.error
    (one,) = await world.ready(1)
    assert len(world.processes()) == 3
    assert {b.instance for b in world.beats if b.state == "ready"} == {one.id, f"{one.id}-1"}
    kill(one.pid)
    await asyncio.gather(world.lost(one.id), world.lost(f"{one.id}-1"))
    (two,) = await world.ready(1)
    assert two.id != one.id
    assert len(world.processes()) == 3


async def test_a_stopped_deployment_has_no_process_until_it_is_started(world: World) -> None:
    await world.put(code=await world.code(GOOD), instance_count=2)
    await world.outcome()
    before = await world.ready(2)
    await world.set_power(StopDeployment)
    stopped = await world.outcome()
    assert (stopped.provisioning_state, stopped.ready_instances) == (
        ProvisioningState.SUCCEEDED,
        0,
    )
    assert world.processes() == []
    assert await world.instances() == []
    await world.stop_provisioner()
    await world.start_provisioner()
    await world.change(instance_count=3)
    await world.outcome()
    assert world.processes() == [], "neither a restart nor a change of size starts it"
    await world.set_power(StartDeployment)
    assert (await world.outcome()).ready_instances == 3
    now = await world.ready(3)
    assert {i.spec for i in now} == {before[0].spec}, "it is the same version"


HANGS = """
import json, time

def init():
    pass

def run(data):
    time.sleep(json.loads(data)["sleep_s"])
    return "done"
"""
QUICK = Probe(initial_delay=1, period=1, timeout=1, failure_threshold=2)
PATIENT = Probe(initial_delay=10, period=1, failure_threshold=20)


async def test_a_model_that_hangs_is_unready_then_killed_and_replaced(world: World) -> None:
    """Its heartbeats go on, but nobody waits any more for what it is busy with."""
    await world.put(
        code=await world.code(HANGS),
        liveness_probe=Probe(initial_delay=1, period=1, timeout=1, failure_threshold=4),
        readiness_probe=QUICK,
        startup_probe=PATIENT,
    )
    await world.outcome()
    (hung,) = await world.ready(1)
    await world.send(hung, b'{"sleep_s": 600}', time_limit_ms=300)

    async def unready() -> bool:
        return [i.state for i in await world.instances()] == ["unready"]

    await eventually(unready)
    assert any(b.state == "unready" and b.withheld_s > 0 for b in world.beats)
    assert "run() of the scoring script has not returned" in (await world.lost_because(hung.id))
    (new,) = await world.ready(1)
    assert new.id != hung.id
    told = world.event_types(hung.id)
    assert told[-1] == "instance_lost"
    assert told.count("liveness_probe_failed") == 2
    assert told.count("readiness_probe_failed") == 2


async def test_an_instance_that_is_busy_for_too_long_once_becomes_ready_again(
    world: World,
) -> None:
    code = await world.code(HANGS)
    await world.put(code=code, readiness_probe=QUICK, startup_probe=PATIENT)
    await world.outcome()
    (slow,) = await world.ready(1)
    await world.send(slow, b'{"sleep_s": 6}', time_limit_ms=200)

    async def unready() -> bool:
        return [i.state for i in await world.instances()] == ["unready"]

    await eventually(unready)
    (back,) = await world.ready(1)
    assert (back.id, back.pid) == (slow.id, slow.pid)

    async def told() -> bool:
        released = any(b.state == "unready" and b.withheld_s == 0 for b in world.beats)
        return released and world.event_types(slow.id)[-1] == "instance_recovered"

    await eventually(told)
