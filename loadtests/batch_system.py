"""Bus, registry, provisioner and batch service, each a process of its own that can be killed."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from headgate.runtime import natsd, procs
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate.runtime.settings import Settings
from headgate.runtime.store import Store
from headgate_contracts.envelope import Query
from headgate_contracts.errors import Blame, HeadgateError
from headgate_contracts.jobs import ListJobs
from headgate_contracts.nodes import ListNodes
from headgate_contracts.storage import ListComputes
from loadtests.batch_user import WORKSPACE, BatchUser, eventually

BUS = "bus"
# What each service answers as soon as it works.
READY: Mapping[str, Query] = {
    "registry": ListComputes(workspace=WORKSPACE),
    "provisioner": ListNodes(),
    "batch": ListJobs(workspace=WORKSPACE),
}
START_WITHIN_S = 60.0
STOP_GRACE_S = 15.0


class BatchSystem(BatchUser):
    """A user with services of his own in ``settings.data``."""

    def __init__(self, server: natsd.RunningServer, settings: Settings) -> None:
        self.server = server
        self.settings = settings.model_copy(update={"nats": server.url})
        self.store = Store(settings.store_url())
        self.processes: dict[str, procs.Process] = {}

    async def open(self) -> None:
        boot = await self._connect("bootstrap")
        await bootstrap(boot)
        await boot.close()
        self.probe = await self._connect("probe")
        for name in READY:
            self.start(name)
        for name in READY:
            await self.ready(name)
        await self.settle_in()

    async def close(self) -> None:
        for name in reversed(READY):
            if process := self.processes.pop(name, None):
                await process.stop(grace_s=STOP_GRACE_S)
        await self.probe.close()

    async def _connect(self, name: str) -> Bus:
        return await Bus.connect(name, self.server.url, self.server.creds(name), SystemClock())

    def start(self, name: str) -> None:
        """Start a service; it works a second or two later."""
        log = self.settings.logs_dir / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as output:
            self.processes[name] = procs.Process.start(
                [sys.executable, "-m", "headgate", "run", name],
                output=output,
                env=self.settings.to_environ(),
            )

    async def ready(self, name: str) -> None:
        """Return once a service answers."""

        async def answers() -> bool:
            try:
                await self.ask(READY[name])
            except HeadgateError as error:
                if error.error.blame is Blame.CALLER:
                    raise
                return False
            return True

        await eventually(answers, within_s=START_WITHIN_S)

    async def kill(self, name: str) -> None:
        """kill -9, and a new one at once."""
        if name == BUS:
            await self.server.kill()
            await self.server.start()
            return
        self.processes[name].send(signal.SIGKILL)
        await self.processes[name].wait()
        self.start(name)

    def workers(self) -> list[procs.Stat]:
        """Processes that have a script loaded: children of the parents of nodes."""
        parents = [
            each
            for each in procs.children(self.processes["provisioner"].pid)
            if "headgate_worker" in command_of(each.pid)
        ]
        return [process for parent in parents for process in procs.children(parent.pid)]

    def log(self, name: str) -> str:
        with suppress(OSError):
            return (self.settings.logs_dir / f"{name}.log").read_text(errors="replace")
        return ""


def command_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


@asynccontextmanager
async def running(folder: Path, **fields: Any) -> AsyncIterator[BatchSystem]:
    """Services for the time of a ``with`` block."""
    async with natsd.running(folder) as server:
        system = BatchSystem(server, Settings(data=folder, **fields))
        try:
            await system.open()
            yield system
        finally:
            await system.close()
