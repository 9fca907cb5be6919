"""Disk and GPUs of an instance: what is read, what is reckoned, what stays unknown."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from pytest import approx

from headgate_contracts.scoring import Heartbeat
from headgate_worker import machine
from headgate_worker.machine import Energy, Gpus, Machine

# As nvidia-smi prints them for machine.FIELDS with csv,noheader,nounits.
ONE = "37, 20480, 81920, 345.50\n"
TWO = "0, 0, 15360, 9.62\n98, 15000, 15360, 69.38\n"
LAPTOP = "12, 1024, 4096, [N/A]\n"
OLD = "[Not Supported], 512, 2048, [Not Supported]\n"
SLICED = "[N/A], [Insufficient Permissions], [Insufficient Permissions], 88.00\n"
ODD_ONE = "40, 10, 100, 50.0\n[GPU requires reset], [GPU requires reset], 100, [Unknown Error]\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (ONE, Gpus(37, 25, 345.5)),
        (TWO, Gpus(49, approx(48.828, abs=0.001), 79)),
        (LAPTOP, Gpus(12, 25, None)),
        (OLD, Gpus(None, 25, None)),
        (SLICED, Gpus(None, None, 88)),
        (ODD_ONE, Gpus(None, None, None)),
        ("", Gpus()),
        ("No devices were found\n", Gpus()),
    ],
)
def test_gpus_are_read(text: str, found: Gpus) -> None:
    assert machine.parse_gpus(text) == found


def test_energy_is_the_area_below_the_power() -> None:
    energy = Energy()
    energy.look(0.0, None)
    assert energy.joules is None  # unknown is not zero
    for at_s, power_w in ((10.0, 100.0), (20.0, 200.0), (30.0, None), (40.0, 200.0), (45.0, 200.0)):
        energy.look(at_s, power_w)
    assert energy.joules == 1_500 + 1_000  # nothing for the gap


def test_a_disk_is_as_full_as_df_says() -> None:
    assert machine.disk_percent(blocks=1_000, free=400, available=200) == 75
    assert machine.disk_percent(blocks=0, free=0, available=0) is None  # /proc and the like


def program(folder: Path, script: str) -> dict[str, str]:
    """An environment whose ``nvidia-smi`` is this script."""
    path = folder / machine.PROGRAM
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "TMPDIR": str(folder)}


def test_only_the_gpus_of_the_instance_are_asked_about(tmp_path: Path) -> None:
    environ = program(tmp_path, "exit 0")
    command = machine.gpu_command({**environ, "CUDA_VISIBLE_DEVICES": "2,3"})
    assert command is not None and command[-2:] == ["-i", "2,3"]
    assert machine.gpu_command({**environ, "CUDA_VISIBLE_DEVICES": ""}) is None
    everything = machine.gpu_command(environ)  # a container sees its own and no other
    assert everything is not None and "-i" not in everything
    assert machine.gpu_command({"PATH": "/nowhere"}) is None


def test_what_is_known_is_what_heartbeats_tell(tmp_path: Path) -> None:
    looking = Machine(program(tmp_path, f"printf '{ONE}'"))
    assert looking.figures == {}
    looking.look()
    assert set(looking.figures) == {
        *("disk_percent", "gpu_percent", "gpu_memory_percent", "gpu_joules")
    }
    assert set(looking.figures) <= set(Heartbeat.model_fields)
    assert looking.figures["gpu_percent"] == 37
    assert 0 < looking.figures["disk_percent"] <= 100


@pytest.mark.parametrize("script", ["echo 'Failed to initialize NVML'; exit 9", "printf '\\377'"])
def test_a_driver_that_fails_leaves_the_disk(tmp_path: Path, script: str) -> None:
    looking = Machine(program(tmp_path, script))
    looking.look()
    assert set(looking.figures) == {"disk_percent"}
