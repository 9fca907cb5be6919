"""Keeps the relay of this installation running: found again, started, replaced when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from headgate.provisioner.drivers.containers import SOCKET
from headgate.runtime import procs
from headgate.runtime.files import write_atomic
from headgate.runtime.log import Log
from headgate.runtime.settings import inherited
from headgate_contracts.errors import ErrorCode, HeadgateError

RECORD = "relay.json"
LOG = "relay.log"
READY_TIMEOUT_S = 15.0
_POLL_S = 0.02
_RETRY_S = 0.5
_log = Log("provisioner")


class Relaying:
    """The relay process of one data folder. ``folder`` is what containers see."""

    def __init__(self, run: Path, bus_url: str, installation: str, supervisor: str) -> None:
        self.folder = run / "bus"
        self._run = run
        self._bus_url = bus_url
        self._argv = (bus_url, installation, supervisor)
        self._starting = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None

    async def ensure(self) -> None:
        """Return when it relays. Raises HeadgateError when it cannot be started."""
        async with self._starting:
            identity = await asyncio.to_thread(self._found)
            if not identity:
                identity = await self._start()
            if self._watch is None or self._watch.done():
                self._watch = asyncio.create_task(self._keep(identity))

    async def close(self, *, end: bool) -> None:
        """Look no more; with ``end`` there is also nobody left who needs it."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        identity = await asyncio.to_thread(self._found) if end else ""
        if identity:
            _kill(identity)
            await _await_end(identity)

    async def _keep(self, identity: str) -> None:
        """Start it again whenever it ends: containers cannot answer without it."""
        while True:
            await _await_end(identity)
            _log.warning("relay_ended", relay=identity)
            try:
                async with self._starting:
                    identity = await self._start()
            except HeadgateError as error:
                _log.error("relay_failed", error=str(error))
                await asyncio.sleep(_RETRY_S)

    def _found(self) -> str:
        """The identity of a relay that runs and leads to our bus; empty without one."""
        try:
            said = json.loads((self._run / RECORD).read_text())
            identity = str(said["identity"])
            if not procs.is_running(identity):
                return ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        if said.get("argv") == list(self._argv):
            return identity
        _kill(identity)  # it leads elsewhere
        return ""

    async def _start(self) -> str:
        identity = await asyncio.to_thread(self._spawn)
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while not await asyncio.to_thread(self._listens):
                    if not procs.is_running(identity):
                        break
                    await asyncio.sleep(_POLL_S)
                else:
                    return identity
        except TimeoutError:
            pass
        raise HeadgateError(
            ErrorCode.UNAVAILABLE,
            f"the relay between containers and the bus does not start; see {self._run / LOG}",
        )

    def _spawn(self) -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._run.chmod(0o700)
        self.folder.chmod(0o755)  # containers have another user; only they get into it
        (self.folder / SOCKET).unlink(missing_ok=True)
        module = f"{__package__}.relay"
        with (self._run / LOG).open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", module, str(self.folder), *self._argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=inherited(),
                start_new_session=True,
            )
        child.returncode = 0  # it outlives us; whoever is its parent then reaps it by its pid
        identity = procs.identity(child.pid)
        record = {"identity": identity, "argv": list(self._argv)}
        write_atomic(self._run / RECORD, json.dumps(record))
        return identity

    def _listens(self) -> bool:
        return (self.folder / SOCKET).exists()


def _pid(identity: str) -> int:
    return int(identity.partition(":")[0])


def _kill(identity: str) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(_pid(identity), signal.SIGKILL)


async def _await_end(identity: str) -> None:
    if procs.is_running(identity):
        await procs.wait_ended(_pid(identity))
    procs.reap(_pid(identity))
