"""All drivers of this machine as one: the base of an instance says which of them starts it."""

from __future__ import annotations

from pathlib import Path

from headgate.provisioner.drivers import Base, Driver, Exit, Image, Launch, Running
from headgate.provisioner.drivers.containers import SHARED
from headgate.provisioner.drivers.docker import DOCKER, DockerDriver
from headgate.runtime.files import private_dir

WORK = "work"


class Drivers:
    """Images go to Docker, interpreters to processes."""

    def __init__(self, process: Driver, docker: DockerDriver) -> None:
        self._process = process
        self._docker = docker

    async def start(self, launch: Launch) -> Running:
        return await self._for(isinstance(launch.base, Image)).start(launch)

    async def found(self) -> list[Running]:
        return [*await self._process.found(), *await self._docker.found()]

    async def ended(self, running: Running) -> Exit:
        return await self._for(running.driver == DOCKER).ended(running)

    async def stop(self, running: Running, *, drain_s: float) -> None:
        await self._for(running.driver == DOCKER).stop(running, drain_s=drain_s)

    def renew_token(self, instance: str, token: str) -> None:
        self._for(self._docker.owns(instance)).renew_token(instance, token)

    def token_age_s(self, instance: str, now: float) -> float:
        return self._for(self._docker.owns(instance)).token_age_s(instance, now)

    def folder(self, instance: str) -> Path:
        return self._process.folder(instance)

    def work_folder(self, instance: str, base: Base) -> tuple[Path, str]:
        """The folder that a node of a batch job shares with us, and how it sees it."""
        is_image = isinstance(base, Image)
        folder = self._docker.work_folder(instance) if is_image else self.folder(instance) / WORK
        private_dir(folder)
        return folder, str(SHARED / WORK) if is_image else str(folder)

    def remove(self, instance: str) -> None:
        self._process.remove(instance)

    async def close(self, *, all_ended: bool) -> None:
        await self._process.close(all_ended=all_ended)
        await self._docker.close(all_ended=all_ended)

    def _for(self, container: bool) -> Driver:
        return self._docker if container else self._process
