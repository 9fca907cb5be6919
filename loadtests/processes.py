"""A server as a set of processes: what they cost, and their end.

Its processes are those that carry a mark, a path that no other server knows, in their environment
or their command line; so also those are found that a server starts in sessions of their own.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_STOP_TIMEOUT_S = 15.0
_PROC = Path("/proc")


class ServerError(Exception):
    """A server that does not start, or does not answer as it should; the text says why."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def marked(mark: str) -> Iterator[tuple[int, str]]:
    """Process id and command line of every live process with the mark."""
    needle = mark.encode()
    for folder in _PROC.iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        with suppress(OSError):
            command = (folder / "cmdline").read_bytes()
            known = needle in command or needle in (folder / "environ").read_bytes()
            if known and _fields(int(folder.name))[0] not in "ZX":
                yield int(folder.name), command.replace(b"\0", b" ").decode(errors="replace")


def _fields(pid: int) -> list[str]:
    """/proc/<pid>/stat from the state on; see proc(5)."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def cpu_s(pid: int) -> float:
    """Processor seconds so far, user and system, without those of children."""
    with suppress(OSError):
        fields = _fields(pid)
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return 0.0


def memory_mib(pid: int) -> float:
    """Proportional set size: pages that processes share are counted once in all."""
    with suppress(OSError):
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def open_files(pid: int) -> int:
    with suppress(OSError):
        return len(list((_PROC / str(pid) / "fd").iterdir()))
    return 0


@dataclass(frozen=True, slots=True)
class Tree:
    """The processes of one server."""

    mark: str

    def cpu_s(self) -> float:
        return sum(cpu_s(pid) for pid, _ in marked(self.mark))

    def memory_mib(self) -> float:
        return sum(memory_mib(pid) for pid, _ in marked(self.mark))

    def pids(self, part: str) -> list[int]:
        """Those with this text in their command line."""
        return [pid for pid, command in marked(self.mark) if part in command]

    def end(self, process: subprocess.Popen[bytes], stop: signal.Signals) -> None:
        """Ask the first process to stop, then end what is left of them."""
        if process.poll() is None:
            process.send_signal(stop)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_TIMEOUT_S)
        for _ in range(50):
            left = [pid for pid, _ in marked(self.mark)]
            if not left:
                break
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        process.wait()


def spawn(command: Sequence[str], environ: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own; what it says goes to ``log``."""
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=log.parent,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def last_words(log: Path, lines: int = 12) -> str:
    said = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(said[-lines:]) or "it said nothing"
