"""Shared access signatures: what opens one container of a workspace for a while.

The form is Azure's, so that its clients send it along; what counts is ``sig``: a token of the
identity service with the scope in it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlencode

from headgate.gateway import access
from headgate.gateway.backend import Backend
from headgate.runtime.tokens import Principal
from headgate_contracts.identity import (
    STORAGE_AUDIENCE,
    IssuedTokenReply,
    IssueToken,
    StorageScope,
)

_VERSION = "2023-11-03"


async def container_sas(
    backend: Backend,
    principal: Principal,
    workspace: str,
    container: str,
    permissions: str,
    lifetime_s: float,
) -> str:
    """A signature for a container, which lives no longer than what the caller showed."""
    command = IssueToken(
        subject=principal.subject,
        audiences=(STORAGE_AUDIENCE,),
        storage=StorageScope(workspace=workspace, container=container, permissions=permissions),
        via=access.root_token(principal),
        lifetime_s=access.lifetime_s(principal, lifetime_s, backend.clock.now()),
    )
    issued = await backend.ask(command, IssuedTokenReply)
    ends = datetime.fromtimestamp(issued.expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return urlencode(
        {"sv": _VERSION, "sr": "c", "sp": permissions, "se": ends, "sig": issued.token}
    )
