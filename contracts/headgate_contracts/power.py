"""Deployments that are stopped, without instances and cost, and others that are resized."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from headgate_contracts import limits
from headgate_contracts.envelope import Command
from headgate_contracts.registry import DeploymentEvent


class StopDeployment(Command):
    """Take a deployment's instances away; requests to it are refused until it is started."""

    TYPE: ClassVar[str] = "headgate.registry.command.v1.stop_deployment"

    workspace: str
    endpoint: str
    name: str
    if_revision: int | None = Field(None, description="refuse unless this is the stored revision")


class StartDeployment(Command):
    """Bring a stopped deployment back as it is stored now."""

    TYPE: ClassVar[str] = "headgate.registry.command.v1.start_deployment"

    workspace: str
    endpoint: str
    name: str
    if_revision: int | None = Field(None, description="refuse unless this is the stored revision")


class ScaleDeployment(Command):
    """Set the number of a deployment's instances, and nothing else of it; no instance is replaced.

    Possible whatever goes on with the deployment, unless it is stopped or being deleted.
    """

    TYPE: ClassVar[str] = "headgate.registry.command.v1.scale_deployment"

    workspace: str
    endpoint: str
    name: str
    instance_count: int = Field(ge=0, le=limits.INSTANCES_PER_DEPLOYMENT_MAX)
    if_count: int | None = Field(None, description="refuse unless this is the present count")


class DeploymentStopping(DeploymentEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.deployment_stopping"
    WHAT: ClassVar[str] = "stopping"


class DeploymentStopped(DeploymentEvent):
    """The last instance of a stopped deployment has ended."""

    TYPE: ClassVar[str] = "headgate.registry.event.v1.deployment_stopped"
    WHAT: ClassVar[str] = "stopped"


class DeploymentStarting(DeploymentEvent):
    """It is wanted again; that its instances are ready is told by ``succeeded``."""

    TYPE: ClassVar[str] = "headgate.registry.event.v1.deployment_starting"
    WHAT: ClassVar[str] = "starting"
