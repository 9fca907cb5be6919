"""Keeps a process within its limits: cgroups where we may make them, else resource limits.

Of the resource limits only ``RLIMIT_DATA`` is of use. ``RLIMIT_AS`` counts address space: a model
that is mapped from its file, and the gigabytes that GPU libraries reserve and never touch, would
break on it. ``RLIMIT_RSS`` does nothing. ``RLIMIT_DATA`` counts private memory that can be
written, for each process by itself; an allocation beyond it fails with ``MemoryError``.
"""

from __future__ import annotations

import contextlib
import json
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from headgate.provisioner.drivers import Limits, OutOfMemory, cgroups
from headgate.runtime.files import write_atomic
from headgate.runtime.log import Log

FILE = "confinement.json"

_log = Log("provisioner")


@cache
def _bases() -> Sequence[cgroups.Base]:
    found = cgroups.bases()
    cgroups.sweep(found, time.time())
    return found


@dataclass(frozen=True, slots=True)
class Confinement:
    """What holds one instance. ``memory_bytes`` is set where no cgroup holds its memory."""

    groups: Sequence[Path] = ()
    gpus: tuple[str, ...] = ()
    memory_bytes: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    def enter(self, pid: int) -> None:
        """Put a process that has just started under the limits. Raises OSError."""
        cgroups.enter(self.groups, pid)
        if self.memory_bytes is not None:
            with contextlib.suppress(ProcessLookupError):
                _, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
                most = self.memory_bytes
                soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
                resource.prlimit(pid, resource.RLIMIT_DATA, (soft, soft))


def prepare(
    folder: Path,
    instance: str,
    limits: Limits | None,
    gpus: tuple[str, ...] = (),
    *,
    is_low_priority: bool = False,
) -> Confinement:
    """Make what will hold an instance, and note it in its folder. No limits: nothing is held."""
    if limits is None:
        return Confinement()
    found = _bases()
    groups: list[Path] = []
    try:
        groups = cgroups.make(found, instance, limits, is_low_priority=is_low_priority)
    except OSError as error:
        _log.warning("no_cgroup", instance=instance, error=str(error))
    is_held = bool(groups) and any("memory" in base.controllers for base in found)
    noted = {"groups": [str(group) for group in groups], "gpus": gpus}
    write_atomic(folder / FILE, json.dumps(noted))
    return Confinement(
        groups,
        gpus,
        memory_bytes=None if is_held else limits.memory_bytes,
        # Without a GPU it is empty, so that none is seen. The order is that of the devices.
        variables={"CUDA_VISIBLE_DEVICES": ",".join(gpus), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
    )


def of(folder: Path) -> Confinement:
    """What was noted in the folder of an instance."""
    try:
        noted = json.loads((folder / FILE).read_bytes())
        groups = [Path(str(group)) for group in noted["groups"]]
        return Confinement(groups, tuple(str(gpu) for gpu in noted["gpus"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Confinement()


def end(folder: Path) -> OutOfMemory | None:
    """Remove what held an instance that has ended; whether it was ended for its memory."""
    groups = of(folder).groups
    memory = cgroups.out_of_memory(groups)
    cgroups.remove(groups)
    return memory


class Gpus:
    """Which instance has which GPU."""

    def __init__(self, devices: Sequence[str]) -> None:
        self._devices = tuple(devices)
        self._taken: dict[str, tuple[str, ...]] = {}

    def take(self, instance: str, count: int) -> tuple[str, ...]:
        """That many GPUs for an instance; OSError when there are too few."""
        used = {device for devices in self._taken.values() for device in devices}
        free = [device for device in self._devices if device not in used]
        if count > len(free):
            raise OSError(f"{count} GPUs are needed, {len(free)} of {len(self._devices)} are free")
        self._taken[instance] = tuple(free[:count])
        return self._taken[instance]

    def note(self, instance: str, devices: tuple[str, ...]) -> None:
        """What an instance has that somebody else started."""
        self._taken.setdefault(instance, devices)

    def give_back(self, instance: str) -> None:
        self._taken.pop(instance, None)
