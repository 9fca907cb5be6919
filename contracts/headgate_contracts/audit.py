"""The audit: who has asked for which change, as the gateway saw it."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from headgate_contracts import subjects
from headgate_contracts.envelope import Event


class ChangeRequested(Event):
    """A request that changes something, or that reads a secret, whatever became of it.

    ``cause`` is the id of the request. ``path`` begins below the workspace where it names one.
    """

    TYPE: ClassVar[str] = "headgate.gateway.event.v1.change_requested"

    workspace: str
    by: str
    what: str = Field(description="what the route is for")
    verb: str
    path: str
    status: int
    address: str = Field("", description="where the request came from")

    def subject(self) -> str:
        workspace = subjects.tamed(self.workspace or "installation")
        return subjects.event("audit", workspace, self.verb.lower())
