"""The memory that this process uses, and may use where a resource limit and no cgroup holds it."""

from __future__ import annotations

import ctypes
import os
import resource
from contextlib import suppress
from typing import Optional

CODE = "OutOfMemory"
FREED_BYTES_KEPT = 32 * 1024 * 1024
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def keep_freed() -> None:
    """What is freed is used again: up to a bound it does not go back to the system each time.

    Bodies of a megabyte, and the arrays that models make of them, otherwise cost a page fault for
    every 4 KiB, more than all else that is done with them. Other C libraries than glibc are left
    as they are.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, FREED_BYTES_KEPT)
        libc.mallopt(_M_MMAP_THRESHOLD, FREED_BYTES_KEPT)


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
