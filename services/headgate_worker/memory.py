"""The memory that this process may use, where a resource limit holds it and no cgroup does."""

from __future__ import annotations

import resource
from typing import Optional

CODE = "OutOfMemory"


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


def _mib(number: int) -> str:
    return f"{number / 1024**2:.0f} MiB"
