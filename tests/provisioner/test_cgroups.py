"""Cgroups as files: where we are, what we may use, what was written and read."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from headgate.provisioner.drivers import Limits, OutOfMemory, cgroups
from headgate.provisioner.drivers.cgroups import Base

MIB = 1024**2


def lay_out(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for hierarchies, with a /proc beside them."""
    monkeypatch.setattr(cgroups, "_PROC", tmp_path / "proc")
    return tmp_path


def describe(machine: Path, cgroup: str, *lines: str) -> None:
    mountinfo = "".join(f"{line.replace('TOP', str(machine / 'cg'))}\n" for line in lines)
    lay_out(machine / "proc" / "self", {"cgroup": cgroup, "mountinfo": mountinfo})


V2 = "30 23 0:26 / TOP rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"


def test_in_version_2_every_group_above_counts(machine: Path) -> None:
    describe(machine, "0::/a.slice/b.service\n", V2, "31 1 8:1 / / rw - ext4 /dev/sda rw")
    lay_out(
        machine / "cg",
        {
            "a.slice/cpu.max": "150000 100000\n",
            "a.slice/memory.max": "max\n",
            "a.slice/b.service/cpu.max": "max 100000\n",
            "a.slice/b.service/memory.max": f"{512 * MIB}\n",
        },
    )
    assert cgroups.cores_allowed() == 1.5
    assert cgroups.memory_allowed() == 512 * MIB


def test_in_version_1_each_controller_has_its_own_place(machine: Path) -> None:
    describe(
        machine,
        "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n0::/\n",
        "30 23 0:26 /docker/abc TOP/memory rw - cgroup cgroup rw,memory",
        "31 23 0:27 /docker/abc TOP/cpu rw - cgroup cgroup rw,cpu,cpuacct",
    )
    lay_out(
        machine / "cg",
        {
            "memory/memory.limit_in_bytes": f"{256 * MIB}\n",
            "cpu/cpu.cfs_quota_us": "50000\n",
            "cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert cgroups.cores_allowed() == 0.5
    assert cgroups.memory_allowed() == 256 * MIB


def test_without_cgroups_nothing_is_limited_and_nothing_made(machine: Path) -> None:
    assert cgroups.cores_allowed() == float("inf")
    assert cgroups.memory_allowed() > 2**50
    assert cgroups.bases() == []


def test_a_service_without_limits_has_its_instances_beside_it(machine: Path) -> None:
    describe(machine, "0::/app.slice/headgate.service\n", V2)
    lay_out(
        machine / "cg" / "app.slice",
        {
            "cgroup.subtree_control": "memory pids\n",
            "cgroup.procs": "",
            "headgate.service/cgroup.subtree_control": "\n",
            "headgate.service/memory.max": "max\n",
        },
    )
    base = machine / "cg" / "app.slice"
    assert cgroups.bases() == [Base(base, 2, frozenset({"memory"}))]
    # With a limit of its own nothing may escape it.
    (base / "headgate.service" / "memory.max").write_text(f"{MIB}\n")
    assert cgroups.bases() == []


def test_the_top_of_the_machine_is_left_alone(machine: Path) -> None:
    describe(machine, "0::/\n", V2)
    lay_out(
        machine / "cg",
        {"cgroup.controllers": "memory cpu\n", "cgroup.subtree_control": "\n", "cgroup.procs": "1"},
    )
    assert cgroups.bases() == []
    assert not (machine / "cg" / cgroups.SELF).exists()


@pytest.mark.skipif(not cgroups.bases(), reason="no cgroup may be made here")
def test_groups_that_were_left_behind_are_swept_and_others_kept() -> None:
    place = cgroups.bases()[0]
    below = place.path / f"test-{os.getpid()}"
    below.mkdir()
    found = [Base(below, place.version, frozenset())]
    limits = Limits(1, 64 * MIB, 0)
    left, used = cgroups.make(found, "left", limits), cgroups.make(found, "used", limits)
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            cgroups.enter(used, process.pid)
            cgroups.sweep(found, time.time())
            assert all(group.exists() for group in [*left, *used])
            cgroups.sweep(found, time.time() + 3_600)
            assert not any(group.exists() for group in left)
            assert all(group.exists() for group in used)
        finally:
            cgroups.remove(used)  # ends what is in there
        assert process.wait() == -signal.SIGKILL
    assert not any(group.exists() for group in used)
    below.rmdir()


def test_limits_of_version_2_are_written_and_its_figures_read(tmp_path: Path) -> None:
    base = Base(tmp_path, 2, frozenset({"memory", "cpu"}))
    (group,) = cgroups.make([base], "abc", Limits(0.25, 64 * MIB, 0), is_low_priority=True)
    said = {path.name: path.read_text() for path in group.iterdir()}
    assert said == {
        "memory.max": str(64 * MIB),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "cpu.max": "25000 100000",
        "cpu.weight": "1",
    }
    assert cgroups.out_of_memory([group]) is None
    lay_out(group, {"memory.events": "low 0\noom 3\noom_kill 1\n", "memory.peak": f"{63 * MIB}\n"})
    assert cgroups.out_of_memory([group]) == OutOfMemory(64 * MIB, 63 * MIB)
