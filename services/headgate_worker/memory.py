"""The memory that this process uses, and may use where a resource limit and no cgroup holds it."""

from __future__ import annotations

import os
import resource
from typing import Optional

CODE = "OutOfMemory"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def explain(error: BaseException) -> Optional[str]:
    """Why an allocation failed, with the figures; None when no limit of ours was the reason."""
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if not isinstance(error, MemoryError) or limit == resource.RLIM_INFINITY:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return (
        f"the limit of {_mib(limit)} of memory does not suffice (at most {_mib(peak)} were in "
        "use). Choose an instance_type with more memory, or a smaller model"
    )


def rss_bytes() -> int:
    """Memory that the process occupies; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0


def _mib(number: int) -> str:
    return f"{number / 1024**2:.0f} MiB"
