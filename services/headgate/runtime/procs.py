"""Processes on Linux: children that cannot outlive us, waiting without signals, whole trees.

A pid alone names nobody (pids are reused); a process is told by its pid and its start time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Self

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)
_PROC = Path("/proc")
_KILL_ROUNDS_MAX = 100
_KILL_ROUND_S = 0.02


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")


def become_subreaper() -> None:
    """From now on orphans among our descendants become our children instead of init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signal_number: int = signal.SIGKILL) -> Callable[[], None]:
    """A ``preexec_fn``: the kernel sends the child ``signal_number`` when we end, however we end.

    The kernel watches the *thread* that forked, so start such children on a thread that stays.
    """
    parent = os.getpid()

    def before_exec() -> None:
        _prctl(_PR_SET_PDEATHSIG, signal_number)
        if os.getppid() != parent:  # it ended between fork and prctl: no signal would ever come
            os._exit(1)

    return before_exec


@dataclass(frozen=True, slots=True)
class Stat:
    """What ``/proc/<pid>/stat`` says of a process; ``start`` is in clock ticks since boot."""

    pid: int
    parent: int
    state: str
    start: int

    @property
    def ended(self) -> bool:
        """True for what is left of a process that nobody has waited for yet."""
        return self.state in "ZX"


def stat(pid: int) -> Stat | None:
    """The process with this pid, or None."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold anything
    return Stat(pid=pid, parent=int(fields[1]), state=fields[0], start=int(fields[19]))


def identity(pid: int) -> str:
    """``pid:start``, which no later process will ever share; ``pid:0`` if it has ended."""
    found = stat(pid)
    return f"{pid}:{found.start if found else 0}"


def is_running(process_identity: str) -> bool:
    """Whether exactly this process still runs (a zombie does not)."""
    pid, _, start = process_identity.partition(":")
    found = stat(int(pid))
    return found is not None and not found.ended and found.start == int(start)


def _all() -> list[Stat]:
    pids = (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())
    return [found for found in map(stat, pids) if found is not None]


def children(pid: int) -> list[Stat]:
    """Direct children, zombies included."""
    return [found for found in _all() if found.parent == pid]


def descendants(pid: int) -> list[Stat]:
    """Children, their children and so on, zombies included; parents before children."""
    by_parent: dict[int, list[Stat]] = {}
    for found in _all():
        by_parent.setdefault(found.parent, []).append(found)
    tree: list[Stat] = []
    front = [pid]
    while front:
        generation = [child for parent in front for child in by_parent.get(parent, ())]
        tree += generation
        front = [child.pid for child in generation]
    return tree


def send(found: Stat, signal_number: int) -> None:
    """Signals exactly this process; nothing happens if it has ended meanwhile."""
    try:
        descriptor = os.pidfd_open(found.pid)
    except ProcessLookupError:
        return
    try:
        # The descriptor is fixed to one process: checked after opening, it cannot be another.
        now = stat(found.pid)
        if now is not None and now.start == found.start:
            signal.pidfd_send_signal(descriptor, signal_number)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)


async def wait_ended(pid: int, *, timeout_s: float | None = None) -> bool:
    """Waits until the process ends, child of ours or not; False after ``timeout_s``."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(timeout_s):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return True


def reap(pid: int) -> int | None:
    """The exit status of a child that has ended, negative for a signal; its zombie goes.

    None while it runs, and for a process that is not our child: its own parent knows.
    """
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if reaped else None


def reap_adopted(own: Iterable[int]) -> None:
    """Collects the zombies that a subreaper inherited; never a child in ``own``.

    (``waitpid(-1)`` would take the exit status of our own children away from who waits for it.)
    """
    kept = set(own)
    for child in children(os.getpid()):
        if child.ended and child.pid not in kept:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, os.WNOHANG)


async def end_descendants(*, grace_s: float, spare: Iterable[int] = ()) -> int:
    """SIGTERM for every descendant, SIGKILL for those that are left after ``grace_s``.

    Repeats until nobody is left, because a process may fork while it is being killed. Returns how
    many had to be killed. ``spare`` are children that stay for now.
    """
    spared = set(spare)

    def living() -> list[Stat]:
        reap_adopted(spared)
        return [p for p in descendants(os.getpid()) if not p.ended and p.pid not in spared]

    for found in living():
        send(found, signal.SIGTERM)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace_s
    while (left := living()) and (remaining_s := deadline - loop.time()) > 0:
        await wait_ended(left[0].pid, timeout_s=remaining_s)
    killed: set[Stat] = set()
    for _ in range(_KILL_ROUNDS_MAX):
        if not (left := living()):
            break
        for found in left:
            send(found, signal.SIGKILL)
        killed |= {replace(found, parent=0, state="") for found in left}
        await asyncio.sleep(_KILL_ROUND_S)
    return len(killed)


class Process:
    """A child process that dies with us, awaited through a pidfd.

    Not asyncio's subprocess: before Python 3.12 that waits in a thread per child, and it may lose
    the exit status to whoever else collects children.
    """

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.identity = identity(popen.pid)

    @classmethod
    def start(
        cls,
        argv: Sequence[str | Path],
        *,
        output: IO[bytes] | int = subprocess.DEVNULL,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        fds: Sequence[int] = (),
    ) -> Self:
        """Starts it in a process group of its own, so that Ctrl-C reaches only us.

        ``fds`` are descriptors of ours that it gets under the same numbers.
        """
        return cls(
            subprocess.Popen(
                [str(part) for part in argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=None if env is None else dict(env),
                cwd=cwd,
                pass_fds=fds,
                process_group=0,
                preexec_fn=die_with_parent(),
            )
        )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._popen.poll()

    def send(self, signal_number: int) -> None:
        """Nothing happens if it has ended."""
        self._popen.send_signal(signal_number)

    async def wait(self) -> int:
        """Waits for the end; any number of tasks may."""
        while (status := self._popen.poll()) is None:
            await wait_ended(self.pid)
        return status

    async def stop(self, *, grace_s: float) -> int:
        """SIGTERM, and SIGKILL after ``grace_s``."""
        self.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                return await self.wait()
        except TimeoutError:
            self.send(signal.SIGKILL)
            return await self.wait()


def describe_exit(status: int) -> str:
    """An exit status in words: ``"exit status 3"``, ``"signal SIGKILL"``."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
