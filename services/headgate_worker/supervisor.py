"""Watches the process whose end the worker shall not survive: ``HEADGATE_SUPERVISOR_PID``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Optional

POLL_S = 1.0


def watch(
    identity: str, loop: asyncio.AbstractEventLoop, gone: Callable[[], None]
) -> Callable[[], None]:
    """Calls ``gone`` on the loop when the process ``pid:start`` has ended.

    Returns what ends the watch. Nothing is watched when there is no identity.
    """
    pid_text, _, start = identity.partition(":")
    if not pid_text.isdecimal():
        return lambda: None
    pid = int(pid_text)
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return loop.call_soon(gone).cancel
    except (OSError, AttributeError):  # a kernel or a Python without it
        return _poll(pid, start, loop, gone)
    # Now that the descriptor holds the pid: is it still who is meant?
    if _start(pid) != start:
        os.close(descriptor)
        return loop.call_soon(gone).cancel

    def unwatch() -> None:
        nonlocal descriptor
        if descriptor >= 0:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            descriptor = -1

    def ended() -> None:
        unwatch()
        gone()

    loop.add_reader(descriptor, ended)
    return unwatch


def _poll(
    pid: int, start: str, loop: asyncio.AbstractEventLoop, gone: Callable[[], None]
) -> Callable[[], None]:
    timer: Optional[asyncio.TimerHandle] = None

    def look() -> None:
        nonlocal timer
        if _start(pid) == start:
            timer = loop.call_later(POLL_S, look)
        else:
            gone()

    look()
    return lambda: timer.cancel() if timer is not None else None


def _start(pid: int) -> str:
    """When the process started, in the kernel's ticks; empty when it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()  # the name before it may hold anything
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
