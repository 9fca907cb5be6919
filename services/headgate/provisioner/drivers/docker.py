"""Instances as containers of a Docker engine, found again by their labels.

Containers outlive this service, as processes do. Nothing of them is published: they reach the bus
through a UNIX socket (see ``relay``), and by default nobody reaches them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate.provisioner.drivers import (
    Exit,
    Image,
    LastWords,
    Launch,
    Running,
    agents,
    calls,
    containers,
    ends,
    worker_archive,
)
from headgate.provisioner.drivers.attendant import Attendant, Ended
from headgate.provisioner.drivers.containers import LABEL_PREFIX, LAST_WORDS, TOKEN, Host
from headgate.provisioner.drivers.engine import Engine
from headgate.provisioner.drivers.relaying import Relaying
from headgate.provisioner.logs import LOG
from headgate.runtime import procs
from headgate.runtime.copies import remove_tree
from headgate.runtime.files import private_dir, write_atomic
from headgate_contracts.errors import HeadgateError
from headgate_contracts.resources import InferenceConfig

if TYPE_CHECKING:
    from docker import DockerClient

DOCKER = "docker"
LABEL = "container.json"
SHARED = "shared"
LAST_WORDS_BYTES_MAX = 64 * 1024
ENGINE_TIMEOUT_S = 20.0
ABORT_GRACE_S = 1.0
STOP_GRACE_S = 2.0
STOPPED_TOGETHER_S = 2.0
STOPPED_TOGETHER_LOOKS = 10
USER_IF_ROOT = 65_532  # nobody's: not even a user of this machine


class DockerDriver:
    """Starts workers as containers; watches and ends them whoever started them."""

    def __init__(
        self,
        data: Path,
        bus_url: str,
        engine: Engine,
        *,
        drain_timeout_s: float,
        supervisor: str = "",
    ) -> None:
        """``supervisor`` (``pid:start``) is the process whose end containers shall not survive."""
        self._instances = data / "instances"
        self._archives = data / "worker"
        self._run = data / "run" / "containers"
        self._bus_url = bus_url
        self._supervisor = supervisor
        self._engine = engine
        self._drain_timeout_s = drain_timeout_s
        self.installation = hashlib.sha256(str(data.absolute()).encode()).hexdigest()[:12]
        self._relaying = Relaying(self._run, bus_url, self.installation, supervisor)
        self._attendants: dict[str, Attendant] = {}
        self._starting: set[asyncio.Future[Running]] = set()
        self._networks = asyncio.Lock()

    def folder(self, instance: str) -> Path:
        return self._instances / instance

    def work_folder(self, instance: str) -> Path:
        """A folder in the one that a container shares with us, before it is started."""
        return private_dir(private_dir(self.folder(instance)) / SHARED) / "work"

    def owns(self, instance: str) -> bool:
        """Whether this instance is one of ours, by the folder that its container shares."""
        return (self.folder(instance) / SHARED).is_dir()

    def remove(self, instance: str) -> None:
        remove_tree(self.folder(instance))

    async def close(self, *, all_ended: bool) -> None:
        """Let go of everything; the relay goes on as long as there are containers."""
        await self._relaying.close(end=all_ended)
        self._engine.close()

    # --- starting ------------------------------------------------------------------------------

    async def start(self, launch: Launch) -> Running:
        # Shielded: a start that is called off halfway would leave a container nobody knows.
        starting = asyncio.ensure_future(self._start(launch))
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)
        return await asyncio.shield(starting)

    async def _start(self, launch: Launch) -> Running:
        assert isinstance(launch.base, Image)
        await self._engine.wait_answers(ENGINE_TIMEOUT_S)
        await self._relaying.ensure()
        shared = await asyncio.to_thread(self._lay_out, launch)
        host = Host(
            installation=self.installation,
            user=_user(),
            drain_timeout_s=self._drain_timeout_s,
            worker=await asyncio.to_thread(worker_archive.build, self._archives),
            bus=self._relaying.folder,
        )
        image = launch.base
        if image.server is not None:
            options = containers.server_options(launch, image, host)
        else:
            options = containers.worker_options(launch, image, host, shared)
        if launch.egress or image.server is not None:  # a server must be reached from here
            options["network"] = await self._network(internal=not launch.egress)
        else:
            options["network_mode"] = "none"
        started = await self._engine.call(lambda client: calls.run(client, options))
        if image.server is not None:
            work = functools.partial(self._start_agent, launch, image.server, started.address)
            await asyncio.to_thread(work, host.worker)
        pid = started.pid
        process = procs.stat(pid) if pid else None
        running = Running(
            launch.instance,
            launch.endpoint,
            launch.deployment,
            launch.spec,
            pid,
            process.start if process else 0,
            DOCKER,
        )
        label = self.folder(launch.instance) / LABEL
        await asyncio.to_thread(write_atomic, label, json.dumps(asdict(running)))
        return running

    def _lay_out(self, launch: Launch) -> Path:
        """The folder that the container shares with us."""
        folder = private_dir(self.folder(launch.instance))
        shared = private_dir(folder / SHARED)
        directory = launch.variables.get("AZUREML_MODEL_DIR")
        if os.geteuid() == 0:
            os.chown(shared, USER_IF_ROOT, USER_IF_ROOT)
            if launch.batch:
                work = self.work_folder(launch.instance)
                work.chmod(0o755)  # in a folder that only the container's user may enter
                os.chown(work, USER_IF_ROOT, USER_IF_ROOT)
            if launch.collect_folder is not None:
                os.chown(launch.collect_folder, USER_IF_ROOT, USER_IF_ROOT)
            if directory:
                Path(directory).chmod(0o755)
        self.renew_token(launch.instance, launch.token)
        return shared

    def _start_agent(
        self, launch: Launch, server: InferenceConfig, address: str, archive: Path
    ) -> None:
        folder = self.folder(launch.instance)
        said = {
            "HEADGATE_BUS_URL": self._bus_url,
            "HEADGATE_BUS_TOKEN_FILE": str(folder / SHARED / TOKEN),
            "HEADGATE_DRAIN_TIMEOUT_S": f"{self._drain_timeout_s:g}",
        }
        if self._supervisor:
            said["HEADGATE_SUPERVISOR_PID"] = self._supervisor
        agents.start(launch, server, address, folder, archive=archive, said=said)

    async def _network(self, *, internal: bool) -> str:
        """The network of instances that may reach out, or of servers that may not."""
        name = f"headgate-{self.installation}{'-internal' if internal else ''}"
        ensure = functools.partial(
            calls.ensure_network, name=name, installation=self.installation, internal=internal
        )
        async with self._networks:
            await self._engine.call(ensure)
        return name

    # --- looking -------------------------------------------------------------------------------

    async def found(self) -> list[Running]:
        """Containers by their labels, also ended ones whose end nobody has heard of yet."""
        await asyncio.gather(*self._starting, return_exceptions=True)
        if not self._run.exists():  # there was never one, so no engine is asked
            return []
        label = f"{LABEL_PREFIX}installation={self.installation}"

        def listed(client: DockerClient) -> list[dict[str, Any]]:
            found = client.containers.list(all=True, sparse=True, filters={"label": label})
            return [dict(container.attrs) for container in found]

        try:
            attrs = await self._engine.call(listed)
        except HeadgateError:  # then what we wrote down, as far as it still runs
            return await asyncio.to_thread(lambda: list(self._labelled()))
        if attrs:
            await self._relaying.ensure()
        return [self._recognised(one["Labels"]) for one in attrs]

    def _recognised(self, labels: dict[str, str]) -> Running:
        names = ("instance", "endpoint", "deployment", "spec")
        said = {name: labels.get(LABEL_PREFIX + name, "") for name in names}
        with contextlib.suppress(OSError, ValueError, TypeError):
            return Running(**json.loads((self.folder(said["instance"]) / LABEL).read_text()))
        return Running(**said, pid=0, start=0, driver=DOCKER)

    def _labelled(self) -> Iterator[Running]:
        for label in self._instances.glob(f"*/{LABEL}"):
            with contextlib.suppress(OSError, ValueError, TypeError):
                running = Running(**json.loads(label.read_text()))
                if procs.is_running(f"{running.pid}:{running.start}"):
                    yield running

    async def ended(self, running: Running) -> Exit:
        attendant = self._attendant(running.instance)
        try:
            ended, because = await self._until_end(running, attendant)
        finally:
            attendant.close()
            self._attendants.pop(running.instance, None)
        because = because or ends.describe(ended) or await self._stopped_together(ended)
        with contextlib.suppress(HeadgateError):  # what is left is tidied up later
            await self._engine.call(functools.partial(calls.remove, name=self._name(running)))
        words = await asyncio.to_thread(self._last_words, running.instance)
        return Exit(ends.status_of(ended), words, because, ends.out_of_memory(ended))

    async def _until_end(self, running: Running, attendant: Attendant) -> tuple[Ended, str]:
        """The end of a container, and its cause if that was its agent: neither outlives the
        other."""
        agent = agents.identity(self.folder(running.instance))
        if not agent:
            return await attendant.ended(), ""
        container = asyncio.ensure_future(attendant.ended())
        beside = asyncio.ensure_future(agents.ended(agent))
        because = ""
        try:
            await asyncio.wait((container, beside), return_when=asyncio.FIRST_COMPLETED)
            if not container.done():
                if beside.result():  # neither drained nor somebody else's child
                    said = procs.describe_exit(beside.result() or 0)
                    because = f"was ended because the agent beside it ended with {said}"
                await self._signal(running, "SIGTERM")
                if not await self._ends_within(running, STOP_GRACE_S):
                    await self._signal(running, "SIGKILL")
            agents.send(agent, signal.SIGKILL)
            return await container, because
        finally:
            container.cancel()
            beside.cancel()

    async def _stopped_together(self, ended: Ended) -> str:
        """The engine stops its containers before it ends itself."""
        if not ends.was_told_to_stop(ended):
            return ""
        for _ in range(STOPPED_TOGETHER_LOOKS):
            if not await self._engine.answers():
                return ends.ENGINE_ENDED
            await asyncio.sleep(STOPPED_TOGETHER_S / STOPPED_TOGETHER_LOOKS)
        return ""

    # --- ending --------------------------------------------------------------------------------

    async def stop(self, running: Running, *, drain_s: float) -> None:
        agent = agents.identity(self.folder(running.instance))
        if drain_s > 0:
            if agent:  # it finishes the requests, and then its container is ended
                agents.send(agent, signal.SIGTERM)
            else:
                await self._signal(running, "SIGTERM")
            if await self._ends_within(running, drain_s + STOP_GRACE_S):
                return
        await self._signal(running, "SIGABRT")  # its last act is to log where every thread was
        if not await self._ends_within(running, ABORT_GRACE_S):
            await self._signal(running, "SIGKILL")

    async def _signal(self, running: Running, name: str) -> None:
        def send(client: DockerClient) -> None:
            container = client.containers.get(self._name(running))
            if container.status == "created":  # we were killed between making and starting it
                container.remove(force=True)
            elif container.status in ("running", "paused"):
                container.kill(name)

        with contextlib.suppress(HeadgateError):  # it ended meanwhile, or the engine did
            await self._engine.call(send)

    async def _ends_within(self, running: Running, timeout_s: float) -> bool:
        attendant = self._attendant(running.instance)
        try:
            async with asyncio.timeout(timeout_s):
                await attendant.ended()
                return True
        except TimeoutError:
            return False

    # --- credentials ---------------------------------------------------------------------------

    def renew_token(self, instance: str, token: str) -> None:
        # Readable in a folder that only the container's user may enter.
        write_atomic(self.folder(instance) / SHARED / TOKEN, token, mode=0o644)

    def token_age_s(self, instance: str, now: float) -> float:
        try:
            return now - (self.folder(instance) / SHARED / TOKEN).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    # --- small things --------------------------------------------------------------------------

    def _attendant(self, instance: str) -> Attendant:
        found = self._attendants.get(instance)
        if found is None:
            folder = private_dir(self.folder(instance))
            name = containers.name_of(self.installation, instance)
            found = self._attendants[instance] = Attendant(self._engine, name, folder / LOG)
        return found

    def _name(self, running: Running) -> str:
        return containers.name_of(self.installation, running.instance)

    def _last_words(self, instance: str) -> LastWords | None:
        # The container may have put anything there, also a link to a file that only we may read.
        path = self.folder(instance) / SHARED / LAST_WORDS
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                said = json.loads(file.read(LAST_WORDS_BYTES_MAX))
            return LastWords(str(said["code"]), str(said["message"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _user() -> str:
    """Who containers run as: never root, and ourselves when we are not, so that files fit."""
    if os.geteuid() == 0:
        return f"{USER_IF_ROOT}:{USER_IF_ROOT}"
    return f"{os.geteuid()}:{os.getegid()}"
