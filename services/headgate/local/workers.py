"""Workers of local deployments as processes: started, found again by their environment, ended."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
from collections.abc import Mapping
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
    python: Path
    code: Path
    port: int
    variables: Mapping[str, str]
    debug_port: int = 0
    wait_for_debugger: bool = False
    packages: Path | None = None


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that runs; ``start`` tells it from a later process with its pid."""

    pid: int
    start: int
    port: int


def start(launch: Launch, archives: Path) -> subprocess.Popen[bytes]:
    """Start a worker that outlives this command."""
    for name in ("home", "tmp"):
        private_dir(launch.folder / name)
    (launch.folder / LAST_WORDS).unlink(missing_ok=True)
    with (launch.folder / logs.LOG).open("wb") as log:
        return subprocess.Popen(
            _command(launch, worker_archive.build(archives)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=launch.code,
            env=_environment(launch),
            start_new_session=True,
            umask=0o077,
        )


def _command(launch: Launch, archive: Path) -> list[str]:
    python = [str(launch.python), "-u", "-X", "faulthandler"]
    return [*python, *_debugger(launch), str(archive)]


def _debugger(launch: Launch) -> list[str]:
    if not launch.debug_port:
        return []
    # Frozen modules of the standard library have no lines that a debugger could stop at.
    found = ["-X", "frozen_modules=off", "-m", "debugpy"]
    found += ["--listen", f"{HOST}:{launch.debug_port}"]
    return [*found, "--wait-for-client"] if launch.wait_for_debugger else found


def _environment(launch: Launch) -> dict[str, str]:
    """As a deployed worker has it: nothing is inherited, so nothing works here alone."""
    said = {
        "PATH": f"{launch.python.parent}:{_PATH}",
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
    launch: Launch, child: subprocess.Popen[bytes], budget_s: float | None
) -> None:
    """Return when the worker answers. Raises HeadgateError with its last words when it cannot.

    ``budget_s`` None: it may take as long as it takes, for a debugger holds it perhaps.
    """
    loop = asyncio.get_running_loop()
    deadline = None if budget_s is None else loop.time() + budget_s
    while not await asyncio.to_thread(answers, launch.port):
        if child.poll() is not None:
            raise _failure(launch, child.returncode)
        if deadline is not None and loop.time() > deadline:
            child.kill()
            raise HeadgateError(
                ErrorCode.RESOURCE_NOT_READY,
                f"init() of the scoring script has not returned within {budget_s:g} s "
                "(initial_delay + period x failure_threshold of the readiness probe)",
                details=_last_lines(launch.folder),
            )
        await asyncio.sleep(POLL_S)


def answers(port: int) -> bool:
    """Whether a worker that listens there is ready for requests."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _failure(launch: Launch, status: int) -> HeadgateError:
    words = None
    with contextlib.suppress(OSError, ValueError, KeyError):
        said = json.loads((launch.folder / LAST_WORDS).read_text())
        words = (str(said["code"]), str(said["message"]))
    ending = ending_of(status, words, procs.describe_exit(status), launch.deployment)
    return HeadgateError(ending.code, ending.message, details=_last_lines(launch.folder))


def _last_lines(folder: Path) -> tuple[ErrorDetail, ...]:
    tail = logs.tail(folder, LOG_LINES)
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
