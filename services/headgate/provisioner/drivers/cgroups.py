"""Limits that the kernel keeps: one cgroup per instance, below our own or beside it.

Version 2 where memory can be delegated there, else version 1, each controller by itself; nothing
where we may not make one. A group is made for an instance, written down by the driver, read once
the instance has ended, and removed.

Version 2 wants processes in leaves only. So where our own group is ours to divide, all that is in
it moves into a leaf, ``headgate.self``, before groups of instances are made beside that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from headgate.provisioner.drivers import Limits, OutOfMemory

SELF = "headgate.self"
PREFIX = "headgate-"
PERIOD_US = 100_000
_QUOTA_US_MIN = 1_000  # the kernel's
_UNLIMITED_V1 = 1 << 60  # what version 1 says where there is no limit is near 2**63
_MOVE_ROUNDS_MAX = 20
_REMOVE_ROUNDS_MAX = 100
_REMOVE_ROUND_S = 0.02
_LEFT_BEHIND_S = 60.0
_PROC = Path("/proc")
_SWAP_V1 = "memory.memsw.limit_in_bytes"


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a hierarchy is mounted; ``root`` is the group that its top shows."""

    path: Path
    root: str
    version: int
    controllers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Base:
    """A group below which groups of instances can be made, and the controllers that they have."""

    path: Path
    version: int
    controllers: frozenset[str]


# --- where we are ------------------------------------------------------------------------------


def mounts(mountinfo: str) -> list[Mount]:
    """The hierarchies that ``/proc/self/mountinfo`` shows."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if len(fields) < 5 or len(rest) < 3 or rest[0] not in ("cgroup", "cgroup2"):
            continue
        version = 2 if rest[0] == "cgroup2" else 1
        options = frozenset(rest[2].split(",")) if version == 1 else frozenset[str]()
        found.append(Mount(Path(fields[4]), fields[3], version, options))
    return found


def own_groups(pid: int | str = "self") -> list[tuple[Mount, Path]]:
    """Each hierarchy with the folder of the group that the process is in."""
    try:
        lines = (_PROC / str(pid) / "cgroup").read_text().splitlines()
        table = mounts((_PROC / "self" / "mountinfo").read_text())
    except OSError:
        return []
    found = []
    for line in lines:
        number, names, path = line.split(":", 2)
        for mount in table:
            is_here = number == "0"
            if mount.version == 1:
                is_here = number != "0" and bool(set(names.split(",")) & mount.controllers)
            if is_here:
                inside = os.path.relpath(path, mount.root) if path.startswith(mount.root) else "."
                found.append((mount, mount.path / inside))
                break
    return found


def _upwards(mount: Mount, group: Path) -> Iterator[Path]:
    """The group and all above it that can be seen: each of them limits us."""
    while True:
        yield group
        if group == mount.path or group == group.parent:
            return
        group = group.parent


def cores_allowed() -> float:
    """Cores that our groups let us use together; infinite without a limit."""
    allowed = float("inf")
    for mount, own in own_groups():
        for group in _upwards(mount, own):
            if mount.version == 2:
                quota, _, period = _read(group / "cpu.max").partition(" ")
            else:
                quota, period = (
                    _read(group / "cpu.cfs_quota_us"),
                    _read(group / "cpu.cfs_period_us"),
                )
            if quota.isdecimal() and period.isdecimal():  # else "max", "-1" or nothing
                allowed = min(allowed, int(quota) / int(period))
    return allowed


def memory_allowed() -> int:
    """Bytes that our groups let us use; a very large number without a limit."""
    allowed = _UNLIMITED_V1
    for mount, own in own_groups():
        for group in _upwards(mount, own):
            name = "memory.max" if mount.version == 2 else "memory.limit_in_bytes"
            text = _read(group / name)
            if text.isdecimal():
                allowed = min(allowed, int(text))
    return allowed


# --- where groups can be made ------------------------------------------------------------------


def bases() -> list[Base]:
    """Where groups of instances can be made here. May move our own processes into a leaf."""
    found: list[Base] = []
    covered: set[str] = set()
    for mount, own in sorted(own_groups(), key=lambda each: -each[0].version):
        base = _base_v2(mount, own) if mount.version == 2 else _base_v1(mount, own)
        if base is not None and (useful := base.controllers - covered):
            found.append(Base(base.path, base.version, useful))
            covered |= useful
    return found


def _base_v1(mount: Mount, own: Path) -> Base | None:
    controllers = mount.controllers & {"memory", "cpu"}
    return Base(own, 1, controllers) if controllers and _is_ours(own) else None


def _base_v2(mount: Mount, own: Path) -> Base | None:
    if own.name == SELF:
        own = own.parent
    controllers = _enabled(own)
    can_divide = "memory" in _read(own / "cgroup.controllers").split() and _is_ours(own)
    if "memory" not in controllers and can_divide and _is_delegated(mount, own):
        with contextlib.suppress(OSError):
            _divide(own)
        controllers = _enabled(own)
    if "memory" not in controllers and own != mount.path and _is_unlimited(own):
        own = own.parent
        controllers = _enabled(own)
    return Base(own, 2, controllers) if "memory" in controllers and _is_ours(own) else None


def _enabled(group: Path) -> frozenset[str]:
    """Controllers that groups directly below have."""
    return frozenset(_read(group / "cgroup.subtree_control").split()) & {"memory", "cpu"}


def _is_delegated(mount: Mount, own: Path) -> bool:
    """Whether the group is ours to divide: a container's own top, or systemd says so.

    The top of the machine, the only group without a type, is everybody's.
    """
    if own == mount.path:
        return (own / "cgroup.type").exists()
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            return os.getxattr(own, name) == b"1"
    return False


def _divide(own: Path) -> None:
    leaf = own / SELF
    leaf.mkdir(exist_ok=True)
    for _ in range(_MOVE_ROUNDS_MAX):  # a process may fork while it is moved
        pids = _read(own / "cgroup.procs").split()
        if not pids:
            break
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(pid)
    for controller in ("memory", "cpu"):
        with contextlib.suppress(OSError):
            (own / "cgroup.subtree_control").write_text(f"+{controller}")


def _is_unlimited(group: Path) -> bool:
    """Whether an instance beside the group escapes no limit that was set for it."""
    return _read(group / "memory.max") == "max" and _read(group / "cpu.max")[:3] in ("", "max")


def _is_ours(group: Path) -> bool:
    return os.access(group, os.W_OK) and os.access(group / "cgroup.procs", os.W_OK)


# --- the groups of one instance ----------------------------------------------------------------


def make(
    found: Sequence[Base], instance: str, limits: Limits, *, is_low_priority: bool = False
) -> list[Path]:
    """Groups with the limits; OSError when they cannot be made, and then there is none."""
    made: list[Path] = []
    try:
        for base in found:
            group = base.path / f"{PREFIX}{instance}"
            group.mkdir()
            made.append(group)
            if "memory" in base.controllers:
                _limit_memory(group, base.version, limits.memory_bytes)
            if "cpu" in base.controllers:
                _limit_cores(group, base.version, limits.cores)
                if is_low_priority:
                    _weigh_least(group, base.version)
    except OSError:
        remove(made)
        raise
    return made


def _limit_memory(group: Path, version: int, memory_bytes: int) -> None:
    """Memory without swap: an instance that swaps is neither alive nor dead."""
    if version == 2:
        (group / "memory.max").write_text(str(memory_bytes))
        settings = {"memory.swap.max": "0", "memory.oom.group": "1"}
    else:
        (group / "memory.limit_in_bytes").write_text(str(memory_bytes))
        settings = {_SWAP_V1: str(memory_bytes)}
    for name, text in settings.items():
        with contextlib.suppress(OSError):  # a kernel without swap accounting
            (group / name).write_text(text)


def _limit_cores(group: Path, version: int, cores: float) -> None:
    quota_us = max(_QUOTA_US_MIN, int(cores * PERIOD_US))
    if version == 2:
        (group / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
    else:
        (group / "cpu.cfs_quota_us").write_text(str(quota_us))


def _weigh_least(group: Path, version: int) -> None:
    """Groups beside it weigh 100 in version 2, 1,024 in version 1."""
    name, least = ("cpu.weight", "1") if version == 2 else ("cpu.shares", "2")
    (group / name).write_text(least)


def enter(groups: Sequence[Path], pid: int) -> None:
    for group in groups:
        (group / "cgroup.procs").write_text(str(pid))


def out_of_memory(groups: Sequence[Path]) -> OutOfMemory | None:
    """The figures, when the kernel killed something in one of the groups for its memory."""
    for group in groups:
        events = _counts(group / "memory.events") or _counts(group / "memory.oom_control")
        if not events.get("oom_kill"):
            continue
        limit = _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")
        peak = _number(group / "memory.peak") or _number(group / "memory.max_usage_in_bytes")
        return OutOfMemory(limit or 0, peak)
    return None


def remove(groups: Sequence[Path]) -> None:
    """End what is left in the groups of an instance, and remove them. Blocks for a moment."""
    for group in groups:
        for _ in range(_REMOVE_ROUNDS_MAX):
            for pid in _read(group / "cgroup.procs").split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            try:
                group.rmdir()
                break
            except FileNotFoundError:
                break
            except OSError:  # a process has not quite ended
                time.sleep(_REMOVE_ROUND_S)


def sweep(found: Sequence[Base], now: float) -> None:
    """Remove groups that were left behind when everything was killed at once. ``now``: Unix time.

    Those of other installations are among them, so none that may just be about to be entered.
    """
    for base in found:
        for group in base.path.glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError):  # it is in use, or somebody else was faster
                if now - group.stat().st_mtime > _LEFT_BEHIND_S:
                    group.rmdir()


def _counts(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _read(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _number(path: Path) -> int | None:
    text = _read(path)
    return int(text) if text.isdecimal() else None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
