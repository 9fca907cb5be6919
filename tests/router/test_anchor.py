"""A busy router stays on one processor while it gets its time there."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

import pytest

from headgate.router import anchor
from headgate.router.anchor import FREE_S, LOOK_S, Anchor, Look


class Thread:
    """A thread that runs and waits for shares of the time, seen at each look."""

    def __init__(self) -> None:
        self.anchor = Anchor()
        self.at = self.ran_s = self.waited_s = 0.0

    def live(self, looks: int, *, runs: float, waits: float = 0.0, cpu: int = 3) -> int | None:
        for _ in range(looks):
            self.at += LOOK_S
            self.ran_s += runs * LOOK_S
            self.waited_s += waits * LOOK_S
            self.anchor.look(Look(self.at, self.ran_s, self.waited_s, cpu))
        return self.anchor.cpu


def test_who_is_busy_stays_where_it_is() -> None:
    thread = Thread()
    assert thread.live(10, runs=0.05) is None
    assert thread.live(1, runs=0.9) is None  # an accident
    assert thread.live(10, runs=0.05) is None
    assert thread.live(2, runs=0.5, cpu=1) == 1
    assert thread.live(5, runs=0.2, cpu=1) == 1
    assert thread.live(1, runs=0.05) is None


def test_to_wait_for_those_that_it_wakes_is_usual() -> None:
    thread = Thread()
    assert thread.live(20, runs=0.6, waits=0.3) == 3


def test_who_gets_less_than_it_waits_for_leaves_and_does_not_come_back_at_once() -> None:
    thread = Thread()
    assert thread.live(3, runs=0.5) == 3
    assert thread.live(1, runs=0.4, waits=0.5) is None
    assert thread.live(int(FREE_S / LOOK_S) - 1, runs=0.9) is None
    assert thread.live(3, runs=0.9, cpu=2) == 2


def test_little_that_is_not_got_is_no_crowd() -> None:
    thread = Thread()
    assert thread.live(3, runs=0.5) == 3
    assert thread.live(3, runs=0.15, waits=0.2) == 3


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor only")
async def test_the_kernel_is_told() -> None:
    everywhere = os.sched_getaffinity(0)

    async def until(condition: Callable[[], bool], work_s: float) -> None:
        async with asyncio.timeout(20):
            while not condition():
                busy_until = time.thread_time() + work_s
                while time.thread_time() < busy_until:
                    pass
                await asyncio.sleep(0.001)

    keeping = asyncio.create_task(anchor.keep())
    await until(lambda: len(os.sched_getaffinity(0)) == 1, work_s=0.02)
    helper = await asyncio.to_thread(os.sched_getaffinity, 0)
    assert helper == everywhere
    await until(lambda: os.sched_getaffinity(0) == everywhere, work_s=0.0)
    await until(lambda: len(os.sched_getaffinity(0)) == 1, work_s=0.02)
    keeping.cancel()
    await asyncio.wait([keeping])
    assert os.sched_getaffinity(0) == everywhere
