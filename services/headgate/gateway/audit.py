"""Who has asked for which change: an event for each, whatever became of it.

It is said once, and lost where the bus is away in that moment: no request waits for it. Nothing is
said in a workspace in which the caller has no role: nobody writes into the audit of others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web
from nats.errors import Error as NatsError

from headgate.runtime.log import Log
from headgate_contracts.audit import ChangeRequested
from headgate_contracts.envelope import Event
from headgate_contracts.errors import HeadgateError, http_status_of

if TYPE_CHECKING:
    from headgate.gateway.http import Call

Tell = Callable[[Event], Awaitable[None]]
_PATH_CHARS_MAX = 300
_log = Log("gateway")


async def audited(
    call: Call, answering: Awaitable[web.StreamResponse], tell: Tell
) -> web.StreamResponse:
    """The answer, after who asked for it has been told."""
    status = 500
    try:
        response = await answering
        status = response.status
        return response
    except HeadgateError as error:
        status = http_status_of(error.error.code)
        raise
    finally:
        if _is_at_home(call):
            try:
                await tell(record(call, status))
            except NatsError as error:
                _log.warning("audit_lost", request_id=call.id, error=str(error))


def _is_at_home(call: Call) -> bool:
    workspace = call.params.get("workspace", "").lower()
    return not workspace or call.principal.role_in(workspace) is not None


def record(call: Call, status: int) -> ChangeRequested:
    """What is kept. A workspace that is not in the path counts when its owner let it happen."""
    path, workspace = call.request.path, call.params.get("workspace", "")
    if not workspace and status < 400:
        workspace = call.query.get("workspace", "")
    _, _, below = path.lower().partition(f"/workspaces/{workspace.lower()}/")
    return ChangeRequested(
        workspace=workspace.lower(),
        by=call.principal.subject,
        what=call.match.route.summary,
        verb=call.request.method,
        path=(path[-len(below) :] if below else path)[:_PATH_CHARS_MAX],
        status=status,
        address=call.address,
        cause=call.id,
    )
