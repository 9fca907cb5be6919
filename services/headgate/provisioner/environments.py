"""Which kind of environment a deployment gets: one of processes, or one of containers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from headgate.provisioner.building import Say
from headgate.provisioner.drivers import Base
from headgate_contracts.resources import EnvironmentSpec

Driver = Literal["auto", "process", "docker"]


class Builder(Protocol):
    """Makes the environments of one driver, each definition once."""

    async def base_for(self, environment: EnvironmentSpec | None, say: Say) -> Base:
        """What an instance runs on, built if it is not there.

        Raises HeadgateError(ImageBuildFailure) with the end of the build log.
        """

    def log_of(self, environment: EnvironmentSpec | None) -> Path | None:
        """Where the build of this environment is written down; None when nothing is built."""

    async def sweep(self, kept: Sequence[EnvironmentSpec | None]) -> None:
        """Remove environments that no version names and nobody has used for long."""


class Environments:
    """The environments of all drivers."""

    def __init__(
        self,
        setting: Driver,
        venvs: Builder,
        images: Builder,
        docker_answers: Callable[[], Awaitable[bool]],
    ) -> None:
        self._setting = setting
        self._venvs = venvs
        self._images = images
        self._docker_answers = docker_answers

    async def base_for(self, environment: EnvironmentSpec | None, egress: bool, say: Say) -> Base:
        """What an instance runs on; ``egress``: it may reach more than the bus."""
        if self._setting == "docker":
            return await self._images.base_for(environment, say)
        reason = reason_for_container(environment, egress)
        if self._setting == "auto" and reason:
            if await self._docker_answers():
                say(f"instances are containers, because {reason}")
                return await self._images.base_for(environment, say)
            say(f"no Docker engine answers, although {reason}")
        if not egress:
            say("warning: instances are processes, which egress_public_network_access cannot bind")
        return await self._venvs.base_for(environment, say)

    def logs_of(self, environment: EnvironmentSpec | None) -> list[Path]:
        """Where builds of this environment were written down."""
        found = [builder.log_of(environment) for builder in (self._venvs, self._images)]
        return [path for path in found if path is not None and path.exists()]

    async def sweep(self, kept: Sequence[EnvironmentSpec | None]) -> None:
        """Remove environments that no version names and nobody has used for long."""
        await self._venvs.sweep(kept)
        await self._images.sweep(kept)


def reason_for_container(environment: EnvironmentSpec | None, egress: bool) -> str:
    """Why a process of this machine would not do; empty when it does."""
    if environment is not None:
        if environment.inference_config is not None:
            return "the environment has inference_config: its image has a server of its own"
        if environment.build is not None:
            return "the environment is built from a Dockerfile"
        if environment.image and environment.conda_file is None:
            return f"the environment is the image {environment.image}"
    return "" if egress else "egress_public_network_access is disabled"
