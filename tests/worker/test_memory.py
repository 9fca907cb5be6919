"""What the allocator of an instance's process does with memory that is freed."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from headgate.router import allocator
from headgate_worker import memory

SERVICES = Path(memory.__file__).parents[1]
# Bodies come and go as in a worker: several are held at once, and all are freed. Each page of one
# that comes from the system anew is a fault.
CHURN = """
import resource
{first}
def churn(times):
    for _ in range(times):
        held = [b"x" * (1024 * 1024 + n) for n in range(4)]
        del held
churn(3)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
churn(50)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(first: str) -> int:
    told = subprocess.run(
        [sys.executable, "-c", CHURN.format(first=first)],
        capture_output=True, text=True, check=True, cwd=SERVICES,
    )  # fmt: skip
    return int(told.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
@pytest.mark.parametrize("module", [memory, allocator], ids=["worker", "router"])
def test_freed_memory_is_used_again(module: object) -> None:
    name = module.__name__  # type: ignore[attr-defined]
    told = faults(f"from {name} import keep_freed; keep_freed()")
    untold = faults("")
    assert untold > 10_000
    assert told < untold / 100
