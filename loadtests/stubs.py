"""Instances that are only said to run: a machine has room for hundreds of those.

``python -m loadtests.stubs up ...`` is ``headgate up`` with a driver that writes down what it
should start; ``python -m loadtests.stubs instances FOLDER`` is the one process that speaks for all
of them, each on a connection of its own with its own credentials. All else is the real thing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import urlsplit

from headgate import cli, up
from headgate.provisioner import app
from headgate.provisioner.drivers import Exit, Launch, Running
from headgate.provisioner.drivers.process import ProcessDriver
from headgate.runtime.files import private_dir, write_atomic
from headgate_contracts import limits, subjects
from headgate_contracts.scoring import InstanceState

FOLDER = "stubs"
LOOK_S = 0.1
RETRY_S = 0.2


class StubDriver(ProcessDriver):
    """An instance is a file; it has ended when that is gone."""

    def __init__(self, data: Path, bus_url: str, **options: object) -> None:
        super().__init__(data, bus_url, drain_timeout_s=limits.DRAIN_TIMEOUT_S)
        self._files = private_dir(data / FOLDER)
        self._url = bus_url
        self._ends: dict[str, asyncio.Event] = {}

    async def start(self, launch: Launch) -> Running:
        private_dir(self.folder(launch.instance))
        self.renew_token(launch.instance, launch.token)
        running = Running(
            launch.instance, launch.endpoint, launch.deployment, launch.spec, os.getpid(), 1
        )
        said = {
            **asdict(running), "url": self._url, "token": launch.token, "capacity": launch.capacity
        }  # fmt: skip
        write_atomic(self._files / f"{launch.instance}.json", json.dumps(said))
        return running

    async def found(self) -> list[Running]:
        names = Running.__dataclass_fields__
        said = [json.loads(file.read_text()) for file in self._files.glob("*.json")]
        return [Running(**{name: each[name] for name in names}) for each in said]

    async def ended(self, running: Running) -> Exit:
        await self._ends.setdefault(running.instance, asyncio.Event()).wait()
        return Exit(0)

    async def stop(self, running: Running, *, drain_s: float) -> None:
        (self._files / f"{running.instance}.json").unlink(missing_ok=True)
        self._ends.setdefault(running.instance, asyncio.Event()).set()


class Stub:
    """One instance on the bus: beats, answers pings, and never gets a request."""

    def __init__(self, said: dict[str, object]) -> None:
        self._said = said
        names = str(said["endpoint"]), str(said["deployment"]), str(said["instance"])
        self._subject = subjects.instance(*names)
        self._beat = subjects.heartbeat(*names)

    async def run(self) -> None:
        """Live until cancelled, and say so at the end."""
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._live()
            await asyncio.sleep(RETRY_S)

    async def _live(self) -> None:
        at = urlsplit(str(self._said["url"]))
        reader, writer = await asyncio.open_connection(at.hostname, at.port)
        try:
            await reader.readline()
            hello = {"verbose": False, "pedantic": False, "jwt": self._said["token"]}
            hello |= {"name": self._said["instance"], "headers": True, "no_responders": True}
            writer.write(f"CONNECT {json.dumps(hello)}\r\nSUB {self._subject} w 1\r\n".encode())
            beating = asyncio.create_task(self._pulse(writer))
            try:
                await self._hear(reader, writer)
            finally:
                beating.cancel()
                self._say(writer, InstanceState.STOPPED)
        finally:
            writer.close()

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            fields = line.split()
            if fields[0] == b"PING":
                writer.write(b"PONG\r\n")
            elif fields[0] == b"MSG":
                await reader.readexactly(int(fields[-1]) + 2)
                if len(fields) == 5 and fields[-1] == b"0":
                    writer.write(b"PUB %s 0\r\n\r\n" % fields[3])

    async def _pulse(self, writer: asyncio.StreamWriter) -> None:
        while True:
            self._say(writer, InstanceState.READY)
            await asyncio.sleep(limits.HEARTBEAT_INTERVAL_S)

    def _say(self, writer: asyncio.StreamWriter, state: InstanceState) -> None:
        said, now = self._said, time.time()
        beat = {name: said[name] for name in ("endpoint", "deployment", "instance", "spec")}
        beat |= {"id": f"{said['instance']}.{now}", "at": now, "state": state, "pid": os.getpid()}
        beat |= {"capacity": said["capacity"], "wall_ms": 1000 * now}
        payload = json.dumps({**beat, "mono_ms": 1000 * time.monotonic()}).encode()
        writer.write(b"PUB %s %d\r\n%s\r\n" % (self._beat.encode(), len(payload), payload))


async def speak_for(folder: Path) -> None:
    """Follow the files of a folder for ever."""
    tasks: dict[Path, asyncio.Task[None]] = {}
    while True:
        files = set(folder.glob("*.json"))
        for file in files - set(tasks):
            with contextlib.suppress(FileNotFoundError):
                tasks[file] = asyncio.create_task(Stub(json.loads(file.read_text())).run())
        for file in set(tasks) - files:
            tasks.pop(file).cancel()
        await asyncio.sleep(LOOK_S)


def main(arguments: Sequence[str]) -> None:
    if arguments[0] == "instances":
        asyncio.run(speak_for(Path(arguments[1])))
    if arguments[0] == "up":
        plain = up._service

        def service(name: str, *about: object) -> up.Child:
            child = plain(name, *about)
            argv = tuple(part.replace("headgate", "loadtests.stubs") for part in child.argv[1:])
            return replace(child, argv=(sys.executable, *argv)) if name == "control" else child

        up._service = service
    app.ProcessDriver = StubDriver
    cli.main()


if __name__ == "__main__":
    main(sys.argv[1:])
