"""What an instance uses of its machine besides processors and memory: its disk and its GPUs.

GPUs are asked about with ``nvidia-smi``, where the machine (or the container) has it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

LOOK_INTERVAL_S = 10.0
ANSWER_TIMEOUT_S = 5.0
PROGRAM = "nvidia-smi"
FIELDS = ("utilization.gpu", "memory.used", "memory.total", "power.draw")
_NO_GPU = ("", "-1", "none", "void", "NoDevFiles")


class Gpus(NamedTuple):
    """All GPUs of an instance together; None is what at least one of them does not tell."""

    busy_percent: Optional[float] = None
    memory_percent: Optional[float] = None
    power_w: Optional[float] = None


def gpu_command(environ: Mapping[str, str]) -> Optional[list[str]]:
    """What to ask about the GPUs that the environment leaves visible; None without any."""
    program = shutil.which(PROGRAM, path=environ.get("PATH"))
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if program is None or (visible is not None and visible.strip() in _NO_GPU):
        return None
    query = [f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    return [program, *query, *(["-i", visible] if visible else [])]


def parse_gpus(text: str) -> Gpus:
    """One line for each GPU, with ``FIELDS``: percent, MiB, MiB, watt.

    A figure that a GPU does not have is a word in brackets: ``[N/A]``, ``[Not Supported]``.
    """
    rows = [[_number(word) for word in line.split(",")] for line in text.splitlines() if line]
    if not rows or any(len(row) != len(FIELDS) for row in rows):
        return Gpus()
    busy, used, total, power = (_sum(column) for column in zip(*rows))
    return Gpus(
        busy_percent=None if busy is None else busy / len(rows),
        memory_percent=100 * used / total if used is not None and total else None,
        power_w=power,
    )


def _number(word: str) -> Optional[float]:
    try:
        return float(word)
    except ValueError:
        return None


def _sum(values: Sequence[Optional[float]]) -> Optional[float]:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def disk_percent(blocks: int, free: int, available: int) -> Optional[float]:
    """How full a file system is for who may not use the system's reserve, as ``df`` tells it."""
    used = blocks - free
    return 100 * used / (used + available) if used + available > 0 else None


class Energy:
    """Joules since the first look: between two looks power is taken to change evenly."""

    def __init__(self) -> None:
        self.joules: Optional[float] = None
        self._before: Optional[tuple[float, float]] = None

    def look(self, at_s: float, power_w: Optional[float]) -> None:
        """A look at the power; over a gap where it was not told nothing is counted."""
        if power_w is None:
            self._before = None
            return
        self.joules = self.joules or 0.0
        if self._before is not None:
            before_s, before_w = self._before
            self.joules += (at_s - before_s) * (before_w + power_w) / 2
        self._before = (at_s, power_w)


class Machine:
    """Looks now and then, on a thread of its own: a file system or a driver may not answer.

    ``figures`` is what heartbeats tell of it, under their fields' names; what is not known is
    not in it.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.figures: dict[str, float] = {}
        self._folder = environ.get("TMPDIR") or "/"
        self._command = gpu_command(environ)
        self._energy = Energy()

    def start(self) -> None:
        """Begin to look, until the process ends."""
        threading.Thread(target=self._run, name="headgate-machine", daemon=True).start()

    def _run(self) -> None:
        while True:
            self.look()
            time.sleep(LOOK_INTERVAL_S)

    def look(self) -> None:
        """Look once."""
        gpus = self._gpus() if self._command else Gpus()
        self._energy.look(time.monotonic(), gpus.power_w)
        found = {
            "disk_percent": self._disk(),
            "gpu_percent": gpus.busy_percent,
            "gpu_memory_percent": gpus.memory_percent,
            "gpu_joules": self._energy.joules,
        }
        self.figures = {name: value for name, value in found.items() if value is not None}

    def _disk(self) -> Optional[float]:
        try:
            found = os.statvfs(self._folder)
        except OSError:
            return None
        return disk_percent(found.f_blocks, found.f_bfree, found.f_bavail)

    def _gpus(self) -> Gpus:
        assert self._command is not None
        try:
            said = subprocess.run(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=ANSWER_TIMEOUT_S,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return Gpus()
        return parse_gpus(said.stdout.decode("ascii", "replace"))
