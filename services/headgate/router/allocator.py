"""The C library's allocator, told that bodies come and go."""

from __future__ import annotations

import ctypes
from contextlib import suppress

FREED_BYTES_KEPT = 32 * 1024 * 1024
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def keep_freed() -> None:
    """Freed memory is used again: up to a bound it does not go back to the system each time.

    Bodies of a megabyte otherwise cost a page fault for every 4 KiB, more than all else that is
    done with them. The instance's process says the same to its own. Other C libraries than glibc
    are left as they are.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, FREED_BYTES_KEPT)
        libc.mallopt(_M_MMAP_THRESHOLD, FREED_BYTES_KEPT)
