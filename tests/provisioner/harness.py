"""A provisioner among its real neighbours: bus, registry, worker processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from headgate.provisioner import app
from headgate.provisioner.drivers.process import ProcessDriver
from headgate.registry import app as registry_app
from headgate.runtime import procs
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate.runtime.natsd import RunningServer
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate.runtime.store import Store
from headgate_contracts import registry, rpc, subjects
from headgate_contracts.envelope import Command, Query
from headgate_contracts.power import StartDeployment, StopDeployment
from headgate_contracts.provisioning import GetLogs, Instance, ListInstances
from headgate_contracts.resources import (
    CodeConfiguration,
    CodeSpec,
    Deployment,
    DeploymentSpec,
    EndpointSpec,
    EnvironmentSpec,
    ModelSpec,
    Probe,
)
from headgate_contracts.scoring import Heartbeat, encode_frame
from headgate_worker import frames

WORKSPACE = "local"
T = TypeVar("T")

GOOD = """
def init():
    print("the model is loaded")


def run(data):
    return data
"""


async def eventually(look: Callable[[], Awaitable[T]], *, within_s: float = 30.0) -> T:
    """The first result of ``look`` that is true."""
    async with asyncio.timeout(within_s):
        while not (found := await look()):
            await asyncio.sleep(0.05)
    return found


class World:
    """One machine with a bus, a registry and a provisioner, each of which can be restarted."""

    def __init__(self, server: RunningServer, settings: Settings, endpoint: str) -> None:
        self.server = server
        self.settings = settings
        self.endpoint = endpoint
        self.beats: list[Heartbeat] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.provisioner: Service | None = None
        self._registry: Service | None = None
        self._store = Store(settings.store_url())
        self._versions = 0

    async def open(self) -> None:
        boot = await self.connect("bootstrap")
        await bootstrap(boot)
        await boot.close()
        self.probe = await self.connect("probe")
        self.router = await self.connect("router")
        await self.probe.subscribe(subjects.HEARTBEAT_ALL, self._note_beat)
        await self.probe.subscribe(subjects.events_of("instance"), self._note_event)
        await self.start_registry()
        spec = EndpointSpec(name=self.endpoint)
        await self.ask(registry.PutEndpoint(workspace=WORKSPACE, spec=spec))

    async def close(self) -> None:
        await self.stop_provisioner(stop_instances=True)
        await self.stop_registry()
        await self.router.close()
        await self.probe.close()

    async def connect(self, name: str) -> Bus:
        return await Bus.connect(name, self.server.url, self.server.creds(name), SystemClock())

    async def start_registry(self) -> None:
        bus = await self.connect("registry")
        self._registry = await registry_app.build(self.settings, bus, SystemClock())
        await self._registry.start()

    async def stop_registry(self) -> None:
        if self._registry is not None:
            await self._registry.stop()
            self._registry = None

    async def start_provisioner(self, *, stop_instances: bool = False) -> None:
        bus = await self.connect("provisioner")
        self.provisioner = await app.build(
            self.settings, bus, SystemClock(), stop_instances=stop_instances
        )
        await self.provisioner.start()

    async def stop_provisioner(self, *, stop_instances: bool = False) -> None:
        """With ``stop_instances`` whatever runs is ended, whoever started it."""
        if self.provisioner is not None:
            await self.provisioner.stop()
            self.provisioner = None
        if stop_instances:
            driver = ProcessDriver(self.settings.data, "", drain_timeout_s=0)
            for running in await driver.found():
                await driver.stop(running, drain_s=0)
                await driver.ended(running)
            for folder in self.settings.instances_dir.glob("*"):
                driver.remove(folder.name)

    async def ask(self, request: Command | Query) -> Any:
        return await self.probe.ask(request, rpc.reply_of(type(request)), timeout_s=10)

    # --- what users do ---

    async def code(self, files: Mapping[str, str] | str) -> str:
        """A code folder in the store, and its reference."""
        self._versions += 1
        files = {"score.py": files} if isinstance(files, str) else files
        prefix = f"uploads/{self._versions:064x}/code"
        for name, text in files.items():
            await self._store.put(f"{prefix}/{name}", text.encode())
        spec = CodeSpec(name="code", version=str(self._versions), path=prefix)
        await self.ask(registry.PutCode(workspace=WORKSPACE, spec=spec))
        return f"azureml:code:{self._versions}"

    async def model(self, path: str, files: Mapping[str, bytes], **fields: Any) -> str:
        self._versions += 1
        prefix = f"uploads/{self._versions:064x}"
        for name, data in files.items():
            await self._store.put(f"{prefix}/{name}", data)
        version = str(self._versions)
        spec = ModelSpec(name="model", version=version, path=f"{prefix}/{path}", **fields)
        await self.ask(registry.PutModel(workspace=WORKSPACE, spec=spec))
        return f"azureml:model:{self._versions}"

    async def environment(self, **fields: Any) -> str:
        self._versions += 1
        spec = EnvironmentSpec(name="env", version=str(self._versions), **fields)
        await self.ask(registry.PutEnvironment(workspace=WORKSPACE, spec=spec))
        return f"azureml:env:{self._versions}"

    async def put(self, name: str = "blue", code: str = "", **fields: Any) -> Deployment:
        """Create or change a deployment; probes give 20 seconds unless the test says otherwise."""
        if code:
            configuration = CodeConfiguration(code=code, scoring_script="score.py")
            fields.setdefault("code_configuration", configuration)
        fields.setdefault(
            "readiness_probe", Probe(initial_delay=10, period=1, failure_threshold=10)
        )
        spec = DeploymentSpec(name=name, endpoint_name=self.endpoint, **fields)
        reply = await self.ask(registry.PutDeployment(workspace=WORKSPACE, spec=spec))
        return reply.deployment

    async def change(self, name: str = "blue", **fields: Any) -> Deployment:
        spec = (await self.deployment(name)).spec.model_copy(update=fields)
        reply = await self.ask(registry.PutDeployment(workspace=WORKSPACE, spec=spec))
        return reply.deployment

    async def delete(self, name: str = "blue") -> None:
        await self.ask(
            registry.DeleteDeployment(workspace=WORKSPACE, endpoint=self.endpoint, name=name)
        )

    async def set_power(
        self, kind: type[StopDeployment | StartDeployment], name: str = "blue"
    ) -> None:
        await self.ask(kind(workspace=WORKSPACE, endpoint=self.endpoint, name=name))

    # --- what there is ---

    async def deployment(self, name: str = "blue") -> Deployment:
        query = registry.GetDeployment(workspace=WORKSPACE, endpoint=self.endpoint, name=name)
        return (await self.ask(query)).deployment

    async def outcome(self, name: str = "blue", *, within_s: float = 40.0) -> Deployment:
        """The deployment once its provisioning has come to an end."""

        async def look() -> Deployment | None:
            found = await self.deployment(name)
            return found if found.provisioning_state.is_final else None

        found = await eventually(look, within_s=within_s)
        assert found is not None
        return found

    async def instances(self, name: str = "blue") -> list[Instance]:
        query = ListInstances(endpoint=self.endpoint, deployment=name)
        return list((await self.ask(query)).instances)

    async def ready(self, count: int, name: str = "blue", **fields: Any) -> list[Instance]:
        """The instances once exactly ``count`` of them run and all are ready."""

        async def look() -> list[Instance] | None:
            found = await self.instances(name)
            running = [i for i in found if i.state != "lost"]
            fits = len(running) == count and all(i.state == "ready" for i in running)
            fits = fits and all(getattr(i, k) == v for i in running for k, v in fields.items())
            return running if fits else None

        found = await eventually(look)
        return found or []

    async def logs(self, name: str = "blue", **fields: Any) -> Any:
        return await self.ask(GetLogs(endpoint=self.endpoint, deployment=name, **fields))

    def processes(self) -> list[int]:
        """Every process that carries this world's label, children of workers included."""
        label = f"HEADGATE_LAST_WORDS={self.settings.instances_dir}/".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    labelled = label in (entry / "environ").read_bytes()
                except OSError:
                    continue
                if labelled:
                    found.append(int(entry.name))
        return found

    async def lost(self, instance: str) -> Heartbeat:
        """The word that an instance is lost."""

        async def look() -> Heartbeat | None:
            said = (b for b in self.beats if b.instance == instance and b.state == "lost")
            return next(said, None)

        found = await eventually(look)
        assert found is not None
        return found

    async def lost_because(self, instance: str) -> str:
        """Why the provisioner says that an instance ended."""

        async def look() -> str:
            said = (
                data["reason"]
                for kind, data in self.events
                if kind == "instance_lost" and data["instance"] == instance
            )
            return next(said, "")

        return await eventually(look)

    def event_types(self, instance: str) -> list[str]:
        """What has been told of an instance, in order."""
        return [kind for kind, data in self.events if data["instance"] == instance]

    async def score(self, body: Any, name: str = "blue") -> tuple[int, Any]:
        """Status and document of an answer of the deployment."""
        meta = {"id": "1", "m": "POST", "p": "/score", "h": [["content-type", "application/json"]]}
        subject = subjects.deployment(self.endpoint, name)
        asked = frames.encode(meta, json.dumps(body).encode())
        message = await self.router.nc.request(subject, asked, timeout=20)
        (said, answer), *_ = frames.decode(message.data)
        return said["s"], json.loads(answer)

    async def send(self, instance: Instance, body: bytes, *, time_limit_ms: int) -> None:
        """A request such as a router's, whose answer nobody waits for."""
        subject = subjects.instance(instance.endpoint, instance.deployment, instance.id)
        meta = {"id": 1, "ttl": time_limit_ms, "m": "POST", "p": "/score", "q": "", "h": []}
        reply = subjects.answers("test", instance.id)
        await self.router.nc.publish(subject, encode_frame(meta, body), reply=reply)
        await asyncio.sleep(0)  # a flush alone may overtake what was sent
        await self.router.nc.flush()

    async def _note_event(self, message: Any) -> None:
        kind = message.headers["ce-type"].rsplit(".", 1)[-1]
        self.events.append((kind, json.loads(message.data)))

    async def _note_beat(self, message: Any) -> None:
        self.beats.append(Heartbeat.model_validate_json(message.data))


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


async def ended(pid: int) -> None:
    """Returns when a process is gone, reaped or not."""

    async def look() -> bool:
        found = procs.stat(pid)
        return found is None or found.ended

    await eventually(look)
