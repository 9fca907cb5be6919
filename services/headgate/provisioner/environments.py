"""Which kind of environment a deployment gets: one of processes, or one of containers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from headgate.provisioner.building import Based, Kept, Say
from headgate.provisioner.made import Look, Made, Renewed
from headgate_contracts.resources import EnvironmentSpec

Driver = Literal["auto", "process", "docker"]


class Builder(Protocol):
    """Makes the environments of one driver, each definition once."""

    async def base_for(
        self, environment: EnvironmentSpec | None, made: Made | None, say: Say
    ) -> Based:
        """What an instance runs on, built if it is not there: the build that its version has run
        on, ``made``, as long as that is here, else the latest of its definition.

        Raises HeadgateError(ImageBuildFailure) with the end of the build log.
        """

    async def renew(self, environment: EnvironmentSpec | None, made: Made, say: Say) -> Renewed:
        """Make an environment of what its parts are today; when none has changed, this is
        ``made`` again. New versions of deployments get it from now on.

        Raises HeadgateError(ImageBuildFailure) when it cannot be made any more.
        """

    async def look(self, environment: EnvironmentSpec | None, made: Made, say: Say) -> Look:
        """What :meth:`renew` would find; nothing is pulled, and nothing built."""

    def log_of(self, environment: EnvironmentSpec | None) -> Path | None:
        """Where the build of this environment is written down; None when nothing is built."""

    async def sweep(self, kept: Sequence[Kept]) -> None:
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

    async def base_for(
        self, environment: EnvironmentSpec | None, made: Made | None, egress: bool, say: Say
    ) -> Based:
        """What an instance runs on; ``egress``: it may reach more than the bus."""
        if self._setting == "docker":
            return await self._images.base_for(environment, made, say)
        reason = reason_for_container(environment, egress)
        if self._setting == "auto" and reason:
            if await self._docker_answers():
                say(f"instances are containers, because {reason}")
                return await self._images.base_for(environment, made, say)
            say(f"no Docker engine answers, although {reason}")
        if not egress:
            say("warning: instances are processes, which egress_public_network_access cannot bind")
        return await self._venvs.base_for(environment, made, say)

    async def renew(self, environment: EnvironmentSpec | None, made: Made, say: Say) -> Renewed:
        """Make it of what its parts are today, as what it was made as."""
        return await self._builder(made).renew(environment, made, say)

    async def look(self, environment: EnvironmentSpec | None, made: Made, say: Say) -> Look:
        """How it would be other today."""
        return await self._builder(made).look(environment, made, say)

    def _builder(self, made: Made) -> Builder:
        return self._images if made.is_image else self._venvs

    def logs_of(self, environment: EnvironmentSpec | None) -> list[Path]:
        """Where builds of this environment were written down."""
        found = [builder.log_of(environment) for builder in (self._venvs, self._images)]
        return [path for path in found if path is not None and path.exists()]

    async def sweep(self, kept: Sequence[Kept]) -> None:
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
