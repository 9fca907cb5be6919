"""Workers of local deployments as processes: started, found again by their environment, ended."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from headgate.provisioner import logs
from headgate.provisioner.core import ending_of
from headgate.provisioner.drivers import worker_archive
from headgate.runtime import procs
from headgate.runtime.files import private_dir
from headgate_contracts.errors import ErrorCode, ErrorDetail, HeadgateError

HOST = "127.0.0.1"
LAST_WORDS = "last_words.json"
SHARED = "shared"  # of a container, with its last words
LOG_LINES = 30
POLL_S = 0.05
STOP_GRACE_S = 5.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start. ``debug_port`` 0: no debugger; ``packages`` go before the environment's."""

    endpoint: str
    deployment: str
    folder: Path
    code: Path | None
    port: int
    variables: Mapping[str, str]
    model_mount_path: str = ""
    debug_port: int = 0
    wait_for_debugger: bool = False
    packages: Path | None = None


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that runs: a process, told from a later one by ``start``, or a container."""

    pid: int
    start: int
    port: int
    path: str = "/score"
    ready_path: str = "/"
    container: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """The exit status, and what an engine says besides."""

    status: int
    said: str = ""


def start(launch: Launch, python: Path, archives: Path) -> int:
    """Start a worker that outlives this command; its pid."""
    for name in ("home", "tmp"):
        private_dir(launch.folder / name)
    (launch.folder / LAST_WORDS).unlink(missing_ok=True)
    with (launch.folder / logs.LOG).open("wb") as log:
        child = subprocess.Popen(
            _command(launch, python, worker_archive.build_here(archives)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=launch.code,
            env=_environment(launch, python),
            start_new_session=True,
            umask=0o077,
        )
    child.returncode = 0  # whoever looks after it does so by its pid
    return child.pid


def _command(launch: Launch, python: Path, archive: Path) -> list[str]:
    return [str(python), "-u", "-X", "faulthandler", *_debugger(launch), str(archive)]


def _debugger(launch: Launch) -> list[str]:
    if not launch.debug_port:
        return []
    # Frozen modules of the standard library have no lines that a debugger could stop at.
    found = ["-X", "frozen_modules=off", "-m", "debugpy"]
    found += ["--listen", f"{HOST}:{launch.debug_port}"]
    return [*found, "--wait-for-client"] if launch.wait_for_debugger else found


def _environment(launch: Launch, python: Path) -> dict[str, str]:
    """As a deployed worker has it: nothing is inherited, so nothing works here alone."""
    said = {
        "PATH": f"{python.parent}:{_PATH}",
        "HOME": str(launch.folder / "home"),
        "LANG": "C.UTF-8",
        "TMPDIR": str(launch.folder / "tmp"),
        **launch.variables,
        "HEADGATE_LISTEN": f"{HOST}:{launch.port}",
        "HEADGATE_ENDPOINT": launch.endpoint,
        "HEADGATE_DEPLOYMENT": launch.deployment,
        "HEADGATE_INSTANCE": "local",
        "HEADGATE_LAST_WORDS": str(launch.folder / LAST_WORDS),
        "HEADGATE_DRAIN_TIMEOUT_S": f"{STOP_GRACE_S:g}",
    }
    if launch.packages is not None:
        said["PYTHONPATH"] = os.pathsep.join(
            part for part in (str(launch.packages), said.get("PYTHONPATH", "")) if part
        )
    return said


def find(folder: Path) -> Worker | None:
    """The worker whose folder this is, read back from the processes of this machine."""
    label = str(folder / LAST_WORDS)
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError, ValueError):
            said = _said(entry)
            pid = int(entry.name)
            if said.get("HEADGATE_LAST_WORDS") != label or os.getsid(pid) != pid:
                continue
            process = procs.stat(pid)
            if process is not None and not process.ended:
                port = int(said["HEADGATE_LISTEN"].rpartition(":")[2])
                return Worker(pid, process.start, port)
    return None


def _said(entry: Path) -> dict[str, str]:
    items = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
    return {name: value for name, _, value in (item.partition("=") for item in items)}


async def until_ready(
    worker: Worker, ended: Callable[[], Awaitable[Ended | None]], budget_s: float | None
) -> Ended | None:
    """Return None when the worker answers, else how it has ended.

    ``budget_s`` None: it may take as long as it takes, for a debugger holds it perhaps. Raises
    TimeoutError when it neither answers nor ends.
    """
    async with asyncio.timeout(budget_s):
        while not await asyncio.to_thread(answers, worker):
            if (found := await ended()) is not None:
                return found
            await asyncio.sleep(POLL_S)
    return None


def answers(worker: Worker) -> bool:
    """Whether a worker is ready for requests."""
    connection = http.client.HTTPConnection(HOST, worker.port, timeout=5)
    try:
        connection.request("GET", worker.ready_path or "/")
        return connection.getresponse().status == 200 or not worker.ready_path
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def failure(folder: Path, name: str, ended: Ended) -> HeadgateError:
    """Why a worker could not start, with the last lines of its log."""
    words = None
    for place in (folder / LAST_WORDS, folder / SHARED / LAST_WORDS):
        with contextlib.suppress(OSError, ValueError, KeyError):
            said = json.loads(place.read_text())
            words = (str(said["code"]), str(said["message"]))
    described = procs.describe_exit(ended.status)
    ending = ending_of(ended.status, words, described, name, ended.said)
    return HeadgateError(ending.code, ending.message, details=_last_lines(folder, ending.message))


def too_slow(folder: Path, budget_s: float) -> HeadgateError:
    """The same when it has not ended either."""
    return HeadgateError(
        ErrorCode.RESOURCE_NOT_READY,
        f"init() of the scoring script has not returned within {budget_s:g} s "
        "(initial_delay + period x failure_threshold of the readiness probe)",
        details=_last_lines(folder),
    )


def _last_lines(folder: Path, said: str = "") -> tuple[ErrorDetail, ...]:
    """The end of the log, without lines that say what the error says already."""
    lines = logs.tail(folder, LOG_LINES).splitlines()
    tail = "\n".join(line for line in lines if not said or said not in line)
    return (ErrorDetail(code="LastLogLines", message=tail, target="log"),) if tail else ()


async def stop(worker: Worker) -> None:
    """Let it finish its requests; then end it with everything that it started."""
    process = procs.stat(worker.pid)
    if process is None or process.start != worker.start:
        return
    procs.send(process, signal.SIGTERM)
    if not await procs.wait_ended(worker.pid, timeout_s=2 * STOP_GRACE_S):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        await procs.wait_ended(worker.pid)
