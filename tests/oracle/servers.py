"""The two servers under comparison, started once per script: the reference, and our worker."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from headgate.runtime import natsd, ports
from headgate_contracts.scoring import InstanceState
from oracle.cases import Case
from worker.harness import Router, Worker, worker

SCRIPTS = Path(__file__).parent / "scripts"
START_S = 50.0
HOST = "model.example.com"
# What belongs to the connection and not to the answer, or differs with every call.
IGNORED = {"server", "date", "connection", "content-length", "transfer-encoding"}
# A router says these itself, and takes none from a worker.
IDS = frozenset(("x-request-id", "x-ms-request-id", "x-ms-client-request-id"))
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MILLISECONDS = re.compile(r"\d+\.\d{3}")


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer, without what cannot be the same."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def seen(status: int, headers: list[tuple[str, str]], body: bytes) -> Seen:
    kept: list[tuple[str, str]] = []
    for name, value in headers:
        lower = name.lower()
        if lower == "x-ms-run-fn-exec-ms" and _MILLISECONDS.fullmatch(value):
            value = "<ms>"
        if lower == "allow":
            value = ", ".join(sorted(value.split(", ")))
        if lower == "x-ms-server-version":
            value = value and "<program/version>"
        if lower not in IGNORED:
            kept.append((lower, _UUID.sub("<uuid>", value)))
    return Seen(status, tuple(sorted(kept)), body)


class OnPort:
    """A server on a port: ``azmlinfsrv``, or our worker without a router."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, case: Case) -> Seen:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(
                case.method, case.target, skip_host=True, skip_accept_encoding=True
            )
            sent = (("Host", HOST), ("Content-Length", str(len(case.body))), *case.headers)
            for name, value in sent:
                connection.putheader(name, value)
            connection.endheaders(case.body)
            response = connection.getresponse()
            return seen(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def is_up(self) -> bool:
        try:
            return self.ask(Case("", "health", "GET", "/")).status == 200
        except OSError:
            return False


class Ours:
    """Our worker, asked as a router asks it."""

    def __init__(self, router: Router, process: Worker) -> None:
        self.router = router
        self.process = process

    async def ask(self, case: Case) -> Seen:
        target = urlsplit(case.target)
        answer = await self.router.post(
            self.process,
            case.body,
            m=case.method,
            p=target.path,
            q=target.query,
            h=[("Host", HOST), *case.headers],
        )
        assert answer.status is not None, answer
        body = b"" if case.method == "HEAD" else answer.body
        return seen(answer.status, [(n, v) for n, v in answer.meta["h"]], body)


def reference_argv(python: Path, port: int) -> list[str]:
    program = python.parent / "azmlinfsrv"
    return [str(python), str(program), "--entry_script", "score.py", "--port", str(port)]


def reference_environment(python: Path, variables: Mapping[str, str], code: Path) -> dict[str, str]:
    return {
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "HOME": str(code),
        "AML_APP_ROOT": str(code),
        "SERVER_VERSION_LOG_RESPONSE_ENABLED": "false",
        **variables,
    }


def code_folder(folder: Path, script: str) -> Path:
    """A code folder with this script as score.py, and the files beside it."""
    folder.mkdir(parents=True)
    shutil.copy(SCRIPTS / f"{script}.py", folder / "score.py")
    for file in SCRIPTS.glob(f"{script}.*.json"):
        shutil.copy(file, folder / file.name.partition(".")[2])
    return folder


@asynccontextmanager
async def reference(
    python: Path, folder: Path, script: str, variables: Mapping[str, str]
) -> AsyncIterator[OnPort]:
    code = code_folder(folder, script)
    server = OnPort(ports.choose("127.0.0.1", 0, setting="reference"))
    log = folder / "reference.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            reference_argv(python, server.port),
            cwd=code,
            env=reference_environment(python, variables, code),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + START_S
        while not await asyncio.to_thread(server.is_up):
            assert process.poll() is None and time.monotonic() < until, log.read_text()[-3000:]
            await asyncio.sleep(0.1)
        yield server
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@asynccontextmanager
async def ours(
    python: Path,
    folder: Path,
    script: str,
    variables: Mapping[str, str],
    bus: natsd.RunningServer,
    router: Router,
) -> AsyncIterator[Ours]:
    source = (SCRIPTS / f"{script}.py").read_text()
    files = {
        file.name.partition(".")[2]: file.read_text() for file in SCRIPTS.glob(f"{script}.*.json")
    }
    async with worker(
        bus, folder, source, files=files, python=str(python), variables=variables
    ) as process:
        await router.until(process, InstanceState.READY)
        yield Ours(router, process)


@asynccontextmanager
async def ours_on_port(
    python: Path, folder: Path, script: str, bus: natsd.RunningServer
) -> AsyncIterator[OnPort]:
    """Our worker as clients see it that ask it without a router."""
    server = OnPort(ports.choose("127.0.0.1", 0, setting="ours"))
    source = (SCRIPTS / f"{script}.py").read_text()
    variables = {"HEADGATE_LISTEN": f"127.0.0.1:{server.port}"}
    async with worker(bus, folder, source, python=str(python), variables=variables) as process:
        until = time.monotonic() + START_S
        while not await asyncio.to_thread(server.is_up):
            assert time.monotonic() < until, process.log()[-3000:]
            await asyncio.sleep(0.1)
        yield server
