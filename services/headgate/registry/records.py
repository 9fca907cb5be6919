"""The values that the registry's decisions read and return.

An endpoint with its deployments is one :class:`Group`: traffic, deletion and routes are decisions
about all of them at once, and they are few. A decision turns a group into an :class:`Outcome`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from headgate_contracts.envelope import Event
from headgate_contracts.resources import Deployment, Endpoint, Operation, ProvisioningState


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as it is kept: routers get id and digest; ``sealed`` opens with the master key."""

    id: str
    sha256: str
    sealed: str


@dataclass(frozen=True, slots=True)
class Keys:
    primary: StoredKey
    secondary: StoredKey


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """An endpoint with what only the registry knows of it: its keys, its latest operation.

    Scoring tokens issued before ``tokens_not_before`` count no longer.
    """

    value: Endpoint
    keys: Keys
    operation: Operation
    tokens_not_before: float = 0.0

    @property
    def is_deleting(self) -> bool:
        return self.value.provisioning_state is ProvisioningState.DELETING


@dataclass(frozen=True, slots=True)
class DeploymentRecord:
    """A deployment, its latest operation, and whether it has ever been ready."""

    value: Deployment
    operation: Operation
    was_ready: bool = False
    scoring_path: str = "/score"

    @property
    def state(self) -> ProvisioningState:
        return self.value.provisioning_state

    @property
    def is_deleting(self) -> bool:
        return self.state is ProvisioningState.DELETING


@dataclass(frozen=True, slots=True)
class Group:
    """An endpoint and its deployments by name."""

    endpoint: EndpointRecord
    deployments: Mapping[str, DeploymentRecord] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.endpoint.value.spec.name

    @property
    def workspace(self) -> str:
        return self.endpoint.value.workspace

    def having(self, record: DeploymentRecord) -> Group:
        """The same group with this deployment added or replaced."""
        name = record.value.spec.name
        return replace(self, deployments={**self.deployments, name: record})

    def without(self, name: str) -> Group:
        """The same group without this deployment."""
        left = {key: value for key, value in self.deployments.items() if key != name}
        return replace(self, deployments=left)


@dataclass(frozen=True, slots=True)
class Moment:
    """What a decision may not fetch for itself.

    ``revision`` is larger than every revision ever given out, so that a resource made again under
    an old name never repeats one. ``dice`` are random, for ids. ``endpoints`` is how many exist,
    online and batch; ``is_taken``: the name at hand belongs to an endpoint of the other kind.
    ``by`` is who gave the command.
    """

    now: float
    revision: int
    dice: str
    endpoints: int = 0
    is_taken: bool = False
    by: str = ""

    @property
    def touched(self) -> dict[str, Any]:
        """The fields of a resource that say when and by whom it was changed."""
        return {
            "revision": self.revision,
            "updated_at": self.now,
            **({"updated_by": self.by} if self.by else {}),
        }

    @property
    def made(self) -> dict[str, Any]:
        """The fields of a new resource that say when and by whom it was made."""
        return {**self.touched, "created_at": self.now, "created_by": self.by}

    def id_for(self, what: str) -> str:
        """A random id, another one for each ``what``."""
        return hashlib.sha256(f"{self.dice}/{what}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is stored from now on (``group`` None: the endpoint is gone), and what is told.

    The first of ``operations`` is that of the command itself.
    """

    group: Group | None
    operations: tuple[Operation, ...] = ()
    events: tuple[Event, ...] = ()
    created: bool = False
