"""The provisioner's world with a Docker engine in it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import docker
from docker.models.containers import Container

from containers.engine import IMAGE
from headgate.provisioner.drivers.docker import DockerDriver
from headgate.provisioner.drivers.engine import Engine
from headgate.runtime import procs
from headgate.runtime.bus import Msg
from headgate.runtime.natsd import RunningServer
from headgate.runtime.settings import Settings
from headgate_contracts import subjects
from headgate_contracts.provisioning import Instance
from headgate_contracts.resources import Deployment, EnvironmentBuild
from provisioner.harness import World, eventually, kill


class ContainerWorld(World):
    """One machine whose instances are containers."""

    def __init__(
        self,
        server: RunningServer,
        settings: Settings,
        endpoint: str,
        engine: docker.DockerClient,
    ) -> None:
        super().__init__(server, settings, endpoint)
        self.engine = engine

    async def open(self) -> None:
        await super().open()
        self.events: list[Msg] = []
        await self.probe.subscribe(subjects.EVENT_ALL, self._note_event)

    async def _note_event(self, message: Msg) -> None:
        self.events.append(message)

    async def stop_provisioner(self, *, stop_instances: bool = False) -> None:
        agents = self.processes()  # while it is on record who they are
        await super().stop_provisioner(stop_instances=stop_instances)
        if stop_instances:
            driver = self.driver()
            for container in self.containers():
                container.remove(force=True)
            for agent in agents:
                with contextlib.suppress(ProcessLookupError):
                    kill(agent)
            for name in ("", "-internal"):
                for network in self.engine.networks.list(
                    names=[f"headgate-{driver.installation}{name}$"]
                ):
                    network.remove()
            await driver.close(all_ended=True)

    def driver(self) -> DockerDriver:
        """A driver beside the provisioner's, to look at the same instances."""
        return DockerDriver(self.settings.data, self.server.url, Engine(), drain_timeout_s=0)

    async def deploy(self, script: str, name: str = "blue", **fields: Any) -> Deployment:
        """Deploy a script on the image of the tests; its outcome."""
        if "environment" not in fields:
            fields["environment"] = await self.environment(image=IMAGE)
        await self.put(name, await self.code(script), **fields)
        return await self.outcome(name)

    async def context(self, files: Mapping[str, str], dockerfile: str) -> EnvironmentBuild:
        """A build context in the store."""
        self._versions += 1
        prefix = f"uploads/{self._versions:064x}/context"
        for name, text in files.items():
            await self._store.put(f"{prefix}/{name}", text.encode())
        return EnvironmentBuild(path=prefix, dockerfile_path=dockerfile)

    def containers(self, name: str = "") -> list[Container]:
        """The containers of this world, of one deployment or of all."""
        labels = [f"io.headgate.installation={self.driver().installation}"]
        labels += [f"io.headgate.deployment={name}"] if name else []
        return list(self.engine.containers.list(all=True, filters={"label": labels}))

    async def replaced(self, before: Instance, name: str = "blue") -> Instance:
        """The one ready instance, once it is another than ``before``."""

        async def look() -> Instance | None:
            found = await self.instances(name)
            others = [i for i in found if i.id != before.id and i.state == "ready"]
            return others[0] if others else None

        found = await eventually(look)
        assert found is not None
        return found

    async def reason_of_end(self, instance: Instance) -> str:
        """What the events say of the end of an instance."""

        async def look() -> str:
            said = [json.loads(message.data) for message in self.events]
            ends = [one for one in said if one.get("instance") == instance.id]
            return next((str(one["reason"]) for one in ends if "reason" in one), "")

        return await eventually(look)

    def relay(self) -> int:
        """The pid of the relay between containers and the bus."""
        record = self.settings.data / "run" / "containers" / "relay.json"
        return int(json.loads(record.read_text())["identity"].partition(":")[0])

    def processes(self) -> list[int]:
        """The agents of this world that run."""
        found = []
        for record in self.settings.instances_dir.glob("*/agent.json"):
            identity = json.loads(record.read_text())
            if procs.is_running(identity):
                found.append(int(identity.partition(":")[0]))
        return found
