"""A real Headgate for the acceptance tests: ``headgate up`` as a process, used as people use it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from acceptance.load import Load, Shot, Target
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate_contracts.provisioning import Instance, InstancesReply, ListInstances

PROGRAM = Path(sysconfig.get_path("scripts")) / "headgate"
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 40.0
POLL_S = 0.05


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without anybody's Headgate settings, and without the studio."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE_")}
    return {**kept, "NO_COLOR": "1", "COLUMNS": "200", "HEADGATE_STUDIO": "false", **extra}


def wait_for(condition: Callable[[], Any], what: str, *, timeout_s: float = 20.0) -> Any:
    """The first true value of ``condition``; fails with ``what`` when it does not come in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(POLL_S)
    return value


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent: int
    command: str


def processes_of(data: Path) -> dict[int, Process]:
    """Every live process that names the data folder in its arguments, environment or cwd."""
    needle = str(data).encode()
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            command = (folder / "cmdline").read_bytes()
            told = command + b"\0" + (folder / "environ").read_bytes()
            told += b"\0" + os.readlink(folder / "cwd").encode()
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        if needle in told and fields[0] not in "ZX":
            text = command.replace(b"\0", b" ").decode(errors="replace").strip()
            found[int(folder.name)] = Process(int(folder.name), int(fields[1]), text)
    return found


class Headgate:
    """One ``headgate up`` on a data folder of its own."""

    def __init__(self, data: Path, **settings: str) -> None:
        """``settings`` are variables of its environment."""
        self.data = data
        self._settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        self.output = data.with_name(f"{data.name}-up.log")

    def start(self, *flags: str) -> float:
        """Start it and wait until it answers; the seconds that this took."""
        started = time.monotonic()
        command = [PROGRAM, "up", "--data", self.data, "--port", "0", "--scoring-port", "0"]
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [*map(str, command), *flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(**self._settings),
                start_new_session=True,
            )
        wait_for(self._is_ready, "headgate up answers", timeout_s=START_TIMEOUT_S)
        return time.monotonic() - started

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.said()
        try:
            return bool(self.running()["pid"] == self.process.pid)
        except FileNotFoundError:
            return False

    def running(self) -> dict[str, Any]:
        """What it tells local clients: addresses, CA, process."""
        return json.loads((self.data / "run" / "headgate.json").read_text())

    def said(self) -> str:
        """What ``headgate up`` has written."""
        return self.output.read_text(errors="replace")

    def stop(self, signal_number: int = signal.SIGINT) -> int:
        """Stop it as a person would, and wait for its end; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal_number)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def discard(self) -> None:
        """Stop whatever still runs and remove every file."""
        try:
            if self.process is not None and self.process.poll() is None:
                self.stop()
        finally:
            for pid in processes_of(self.data):
                with contextlib.suppress(ProcessLookupError):  # it was ending when we looked
                    os.kill(pid, signal.SIGKILL)
            shutil.rmtree(self.data, ignore_errors=True)
            self.output.unlink(missing_ok=True)

    # --- the command line ---------------------------------------------------------------------

    def try_cli(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run one command; output as text, whatever its exit code."""
        return subprocess.run(
            [str(PROGRAM), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=55,
            env=environment(HEADGATE_DATA=str(self.data)),
            check=False,
        )

    def cli(self, *arguments: str | Path) -> str:
        """Run one command that must succeed; its standard output."""
        done = self.try_cli(*arguments)
        assert done.returncode == 0, f"{arguments} -> {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def cli_json(self, *arguments: str | Path) -> Any:
        """Run one command that must succeed; the JSON document it prints."""
        return json.loads(self.cli(*arguments, "--output", "json"))

    def set_traffic(self, endpoint: str, traffic: str) -> None:
        self.cli("online-endpoint", "update", "--name", endpoint, "--traffic", traffic)

    def keys(self, endpoint: str) -> dict[str, str]:
        return self.cli_json("online-endpoint", "get-credentials", "--name", endpoint)

    # --- scoring ------------------------------------------------------------------------------

    @cached_property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.cli("ca").strip())

    def target(self, endpoint: str, key: str = "") -> Target:
        """Where the endpoint is scored, as ``show`` tells, with its primary key."""
        uri = self.cli_json("online-endpoint", "show", "--name", endpoint)["scoring_uri"]
        parts = urlsplit(uri)
        assert parts.hostname and parts.port, uri
        key = key or self.keys(endpoint)["primaryKey"]
        tls = self.tls if parts.scheme == "https" else None
        return Target(parts.hostname, parts.port, parts.path, key, tls)

    # --- the bus and the processes ------------------------------------------------------------

    async def bus(self) -> Bus:
        """A connection with the credentials of the ``probe``; close it."""
        creds = self.data / "keys" / "probe.creds"
        return await Bus.connect("probe", self.running()["nats"], creds, SystemClock())

    async def instances(self, endpoint: str, deployment: str = "") -> tuple[Instance, ...]:
        """What the provisioner knows of the instances."""
        bus = await self.bus()
        try:
            question = ListInstances(endpoint=endpoint, deployment=deployment)
            return (await bus.ask(question, InstancesReply)).instances
        finally:
            await bus.close()

    def processes(self) -> dict[int, Process]:
        return processes_of(self.data)

    def pid_of(self, part: str) -> int:
        """The process of ``nats-server``, ``run control`` or ``run router``."""
        found = [process.pid for process in self.processes().values() if part in process.command]
        assert len(found) == 1, (part, self.processes())
        return found[0]

    def kill(self, part: str) -> int:
        """``kill -9`` that part; its pid."""
        pid = self.pid_of(part)
        os.kill(pid, signal.SIGKILL)
        return pid


class EventTail:
    """``headgate events tail``, read while it runs."""

    def __init__(self, headgate: Headgate, *flags: str) -> None:
        self.events: list[dict[str, Any]] = []
        self._process = subprocess.Popen(
            [str(PROGRAM), "events", "tail", "--output", "json", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(HEADGATE_DATA=str(headgate.data)),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self.events.append(json.loads(line))

    def subjects(self) -> list[str]:
        """The subjects of all events so far, without ``hg.v1.evt.``."""
        return [event["subject"].removeprefix("hg.v1.evt.") for event in self.events]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join()


async def eventually(condition: Callable[[], Any], what: str, *, timeout_s: float = 20.0) -> Any:
    """:func:`wait_for` beside other tasks: blocking conditions run on a thread."""
    return await asyncio.to_thread(wait_for, condition, what, timeout_s=timeout_s)


def failures(load: Load | list[Shot]) -> list[Shot]:
    """The requests that were not answered with 200."""
    shots = load.shots if isinstance(load, Load) else load
    return [shot for shot in shots if shot.status != 200]
