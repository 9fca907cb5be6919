"""What this machine has for instances, as far as we may use it.

In a container that is what its cgroup allows, not what the hardware has.
"""

from __future__ import annotations

import os
from pathlib import Path

from headgate.provisioner.drivers import Limits, cgroups
from headgate.runtime.settings import Settings

# The control services, the bus and the system need memory too.
MEMORY_SHARE = 0.9
_DEVICES = Path("/dev")


def capacity(settings: Settings) -> Limits:
    """What all instances together may use: what the settings say, else what is found."""
    cores, memory_gib, gpus = settings.host_cores, settings.host_memory_gib, settings.host_gpus
    memory_bytes = int(MEMORY_SHARE * memory()) if memory_gib is None else int(memory_gib * 1024**3)
    return Limits(
        cores=found_cores() if cores is None else cores,
        memory_bytes=memory_bytes,
        gpus=len(found_gpus()) if gpus is None else gpus,
    )


def found_cores() -> float:
    """Cores that this process may run on."""
    return min(float(len(os.sched_getaffinity(0))), cgroups.cores_allowed())


def memory() -> int:
    """Memory of the machine, or of the cgroup that we are in."""
    text = Path("/proc/meminfo").read_text()
    total = next(line for line in text.splitlines() if line.startswith("MemTotal:"))
    return min(int(total.split()[1]) * 1024, cgroups.memory_allowed())


def found_gpus() -> list[str]:
    """NVIDIA GPUs by the number of their device."""
    names = (path.name.removeprefix("nvidia") for path in _DEVICES.glob("nvidia[0-9]*"))
    return sorted((name for name in names if name.isdecimal()), key=int)


def gpus(count: int) -> list[str]:
    """The devices of that many GPUs: those found, and beyond them what the settings promise."""
    found = found_gpus()
    return [*found, *(str(number) for number in range(len(found), count))][:count]
