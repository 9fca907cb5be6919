"""A busy router stays on one processor, as long as it gets that processor's time there.

Each answer that leaves on loopback wakes its reader, and the kernel likes to run whoever is woken
where the waker runs. So a router is pushed around, waits for those that it woke, and lets another
processor idle meanwhile. To stay costs it nothing but the choice, so it stays only while it is
busy, and leaves when it has to wait for more time than it gets.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LOOK_S = 0.25
BUSY = 0.25  # of a processor: from here on it stays
RELAXED = 0.1  # below, it may be anywhere
CROWDED = 0.25  # of the time is waited for the processor, and less is got
FREE_S = 10.0  # it does not stay again so soon where others want to be

_THREAD = Path("/proc/thread-self")
_CPU_FIELD = 36  # of its stat, counted behind the name


@dataclass(frozen=True, slots=True)
class Look:
    """How a thread has fared until now: seconds that it ran, and waited to run; where it is."""

    at: float
    ran_s: float
    waited_s: float
    cpu: int


class Anchor:
    """Decides where a thread may run. ``cpu`` is where it stays; None: anywhere."""

    def __init__(self) -> None:
        self.cpu: int | None = None
        self._last: Look | None = None
        self._was_busy = False
        self._free_until = 0.0

    def look(self, now: Look) -> None:
        """Decide anew; two busy looks in a row are no accident."""
        last, self._last = self._last, now
        if last is None or now.at <= last.at:
            return
        ran = (now.ran_s - last.ran_s) / (now.at - last.at)
        waited = (now.waited_s - last.waited_s) / (now.at - last.at)
        was_busy, self._was_busy = self._was_busy, ran >= BUSY
        if self.cpu is None:
            if ran >= BUSY and was_busy and now.at >= self._free_until:
                self.cpu = now.cpu
        elif waited > max(ran, CROWDED):
            self.cpu, self._free_until = None, now.at + FREE_S
        elif ran < RELAXED:
            self.cpu = None


async def keep() -> None:
    """Look after the calling thread, for ever; where the kernel tells nothing, not at all."""
    anchor, loop = Anchor(), asyncio.get_running_loop()
    with _free() as everywhere:
        if len(everywhere) < 2:
            return
        # Helpers would inherit the place, and be in the way there.
        loop.set_default_executor(
            ThreadPoolExecutor(initializer=os.sched_setaffinity, initargs=(0, everywhere))
        )
        while True:
            await asyncio.sleep(LOOK_S)
            before = anchor.cpu
            anchor.look(_look(loop.time()))
            if anchor.cpu != before:
                os.sched_setaffinity(0, everywhere if anchor.cpu is None else {anchor.cpu})


@contextmanager
def _free() -> Iterator[set[int]]:
    """Where the thread may run, and may again afterwards; nowhere if that cannot be known."""
    everywhere: set[int] = set()
    with suppress(OSError, AttributeError, ValueError, IndexError):
        _look(0.0)
        os.sched_setaffinity(0, os.sched_getaffinity(0))  # where this is forbidden, it is now
        everywhere = os.sched_getaffinity(0)
    try:
        yield everywhere
    finally:
        if everywhere:
            os.sched_setaffinity(0, everywhere)


def _look(now: float) -> Look:
    ran_ns, waited_ns, _ = (_THREAD / "schedstat").read_text().split()
    fields = (_THREAD / "stat").read_text().rpartition(")")[2].split()
    return Look(now, int(ran_ns) / 1e9, int(waited_ns) / 1e9, int(fields[_CPU_FIELD]))
