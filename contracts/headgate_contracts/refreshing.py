"""Environments that are made anew: new base images, packages resolved again, deployments rolled."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from headgate_contracts import limits
from headgate_contracts.envelope import Command, Query, Reply, Value
from headgate_contracts.errors import WireError
from headgate_contracts.provisioning import EnvironmentEvent
from headgate_contracts.registry import DeploymentEvent


class LookState(StrEnum):
    """How far the look at one environment has come."""

    WAITING = "waiting"
    CHECKING = "checking"
    SAME = "same"
    CHANGED = "changed"
    FAILED = "failed"  # it cannot be made any more; what runs goes on


class RollState(StrEnum):
    """How far a deployment has come with a new environment."""

    WAITING = "waiting"
    ROLLING = "rolling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # the instances of before go on
    SUPERSEDED = "superseded"  # somebody changed or deleted it meanwhile

    @property
    def is_final(self) -> bool:
        return self not in (RollState.WAITING, RollState.ROLLING)


class Roll(Value):
    """A deployment that uses an environment."""

    workspace: str
    endpoint: str
    deployment: str
    state: RollState = RollState.WAITING
    error: WireError | None = None


class EnvironmentLook(Value):
    """What an environment would be made of today, against what its deployments run on.

    ``build`` names what they run on. ``unknown`` says what could not be found out, and why.
    """

    name: str
    version: str
    build: str
    state: LookState = LookState.WAITING
    changes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    error: WireError | None = None
    deployments: tuple[Roll, ...] = ()


class Refresh(Value):
    """One round over the environments in use. Times are Unix seconds."""

    id: str
    workspace: str
    dry_run: bool
    started_at: float
    ended_at: float | None = None
    environments: tuple[EnvironmentLook, ...] = ()


class RefreshEnvironments(Command):
    """Look whether environments in use would be other ones today; roll their deployments if so.

    An empty ``name`` means all environments, an empty ``version`` all versions, an empty
    ``workspace`` the deployments of all. Answered at once: :class:`GetRefresh` tells how it goes.
    """

    TYPE: ClassVar[str] = "headgate.provisioner.command.v1.refresh_environments"

    workspace: str = ""
    name: str = ""
    version: str = ""
    dry_run: bool = False


class GetRefresh(Query):
    """How far a refresh has come; only the latest are remembered, until the next restart."""

    TYPE: ClassVar[str] = "headgate.provisioner.query.v1.get_refresh"

    workspace: str
    refresh_id: str


class RefreshReply(Reply):
    TYPE: ClassVar[str] = "headgate.provisioner.reply.v1.refresh"

    refresh: Refresh


class RefreshDeployment(Command):
    """Replace a deployment's instances by ones on a new build of its environment.

    ``changes`` are for its owner to read.
    """

    TYPE: ClassVar[str] = "headgate.registry.command.v1.refresh_deployment"

    workspace: str
    endpoint: str
    name: str
    build: str = Field(min_length=1, max_length=limits.ENVIRONMENT_BUILD_CHARS_MAX)
    changes: tuple[str, ...] = Field((), max_length=limits.ENVIRONMENT_CHANGES_MAX)


class DeploymentRefreshing(DeploymentEvent):
    """It gets a new build of its environment; that its instances are ready is told by
    ``succeeded``."""

    TYPE: ClassVar[str] = "headgate.registry.event.v1.deployment_refreshing"
    WHAT: ClassVar[str] = "refreshing"

    build: str
    changes: tuple[str, ...] = ()


class EnvironmentChanged(EnvironmentEvent):
    """It would be made of other parts today; ``dry_run``: it was only looked at."""

    TYPE: ClassVar[str] = "headgate.provisioner.event.v1.environment_changed"
    WHAT: ClassVar[str] = "changed"

    changes: tuple[str, ...]
    deployments: int
    dry_run: bool = False
