"""Limits of real instances: memory that the kernel holds, capacity of the host, GPUs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headgate.provisioner.drivers import Limits, cgroups, confinement
from headgate.runtime.settings import Settings
from headgate_contracts.errors import ErrorCode
from headgate_contracts.provisioning import Amounts, GetCapacity
from headgate_contracts.resources import Deployment, ProvisioningState
from provisioner.harness import GOOD, World, eventually

GIB = 1024**3
HUNGRY = """
import os

def init():
    global kept
    kept = []
    while True:
        kept.append(os.urandom(4 * 1024 * 1024))

def run(data):
    return data
"""
GPUS = """
import os

def init():
    print("sees=" + repr(os.environ["CUDA_VISIBLE_DEVICES"]), flush=True)

def run(data):
    return data
"""


def holds_memory() -> bool:
    return any("memory" in base.controllers for base in cgroups.bases())


def groups_left() -> list[Path]:
    return [each for base in cgroups.bases() for each in base.path.glob(f"{cgroups.PREFIX}*")]


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    sizes = data_dir / "sizes.yaml"
    sizes.write_text("instance_types:\n  tight: {cores: 0.5, memory_gib: 0.125}\n")
    return Settings(
        data=data_dir,
        reconcile_s=0.2,
        restart_backoff_s=0.3,
        drain_timeout_s=5,
        instance_types=sizes,
        host_cores=2,
        host_memory_gib=2,
        host_gpus=2,
    )


async def test_an_instance_over_its_memory_limit_is_reported_with_figures(world: World) -> None:
    calm = await world.put("calm", code=await world.code(GOOD), instance_type="tight")
    assert calm.spec.instance_type == "tight"
    steady = await world.ready(1, "calm")
    await world.put("hungry", code=await world.code(HUNGRY), instance_type="tight")
    failed = await world.outcome("hungry")
    assert failed.error is not None
    assert failed.error.code is ErrorCode.OUT_OF_MEMORY
    assert "limit of 128 MiB" in failed.error.message
    assert "were in use" in failed.error.message
    still = await world.ready(1, "calm")
    assert [i.pid for i in still] == [i.pid for i in steady]


@pytest.mark.skipif(not holds_memory(), reason="no memory cgroup may be made here")
async def test_groups_live_and_die_with_their_instances(world: World) -> None:
    await world.put(code=await world.code(GOOD), instance_type="tight")
    running = await world.ready(1)
    groups = confinement.of(world.settings.instances_dir / running[0].id).groups
    assert groups
    for group in groups:
        assert str(running[0].pid) in (group / "cgroup.procs").read_text().split()
    await world.stop_provisioner()
    await world.start_provisioner()  # adopts
    await world.ready(1, id=running[0].id)
    await world.delete()

    async def gone() -> bool:
        return not any(group.exists() for group in groups)

    await eventually(gone)


async def test_a_deployment_larger_than_the_host_says_what_is_free_and_what_it_needs(
    world: World,
) -> None:
    await world.put("first", code=await world.code(GOOD), instance_type="medium")
    await world.ready(1, "first")
    await world.put("big", code=await world.code(GOOD), instance_type="large", instance_count=1)
    failed = await world.outcome("big")
    assert failed.error is not None
    assert failed.error.code is ErrorCode.OUT_OF_QUOTA
    for part in ("'large'", "2 cores and 4 GiB of memory", "1 of 2 cores", "0 MiB of 2 GiB"):
        assert part in failed.error.message
    assert not await world.instances("big")
    told = await world.ask(GetCapacity(instance_type="small"))
    assert told.total == Amounts(cores=2, memory_bytes=2 * GIB, gpus=2)
    assert told.taken == Amounts(cores=1, memory_bytes=2 * GIB, gpus=0)
    assert told.instances_max == 2
    assert len(await world.ready(1, "first")) == 1
    assert (await world.deployment("first")).provisioning_state is ProvisioningState.SUCCEEDED


async def test_what_had_no_room_starts_when_there_is_some(world: World) -> None:
    code = await world.code(GOOD)
    await world.put("first", code=code, instance_type="medium", instance_count=1)
    await world.ready(1, "first")
    await world.put("second", code=code, instance_type="small", instance_count=1)
    assert (await world.outcome("second")).error is not None
    await world.delete("first")

    async def up() -> Deployment | None:
        found = await world.deployment("second")
        is_up = found.provisioning_state is ProvisioningState.SUCCEEDED
        return found if is_up and found.error is None else None

    await eventually(up)
    await world.ready(1, "second")


async def test_a_roll_out_without_room_goes_on_in_place(world: World) -> None:
    await world.put(code=await world.code(GOOD), instance_type="small", instance_count=2)
    old = await world.ready(2)
    assert (await world.outcome()).error is None
    await world.change(environment_variables={"A": "b"})

    async def rolled() -> bool:
        found = await world.instances()
        ready = [i for i in found if i.state == "ready"]
        assert ready, "one is ready at any time"
        return len(ready) == 2 and not {i.spec for i in ready} & {i.spec for i in old}

    await eventually(rolled)


async def test_each_instance_sees_the_gpus_that_it_was_given(world: World) -> None:
    code = await world.code(GPUS)
    await world.put("two", code=code, instance_type="Standard_NC6s_v3", instance_count=2)
    await world.ready(2, "two")
    await world.put("none", code=code, instance_type="tight")
    await world.ready(1, "none")
    said = (await world.logs("two")).content
    assert "sees='0'" in said
    assert "sees='1'" in said
    assert "sees=''" in (await world.logs("none")).content
    await world.put("third", code=code, instance_type="Standard_NC6s_v3")
    failed = await world.outcome("third")
    assert failed.error is not None
    assert "1 GPU, free: 0 of 2 GPUs" in failed.error.message


async def test_without_cgroups_an_instance_over_its_limit_is_told_so_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confinement, "_bases", list)
    await world.put("hungry", code=await world.code(HUNGRY), instance_type="tight")
    failed = await world.outcome("hungry")
    assert failed.error is not None
    assert failed.error.code is ErrorCode.OUT_OF_MEMORY
    assert "limit of 128 MiB" in failed.error.message
    assert "were in use" in failed.error.message


def test_without_cgroups_the_data_segment_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confinement, "_bases", list)
    held = confinement.prepare(tmp_path, "abc", Limits(1, 64 * 1024**2, 0))
    assert (held.groups, held.memory_bytes) == ([], 64 * 1024**2)
    pid = os.fork()
    if not pid:
        try:
            held.enter(os.getpid())
            kept = [bytes(1024**2) for _ in range(200)]
            os._exit(len(kept) % 7 or 1)
        except MemoryError:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
