"""What batch jobs use: the times of their nodes, and how long their mini-batches were at work."""

from __future__ import annotations

from collections.abc import Sequence

from nats.js.api import RawStreamMsg
from pydantic import ValidationError
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.metering import core, state
from headgate.metering.intake import price_of
from headgate.metering.rows import InstanceRow
from headgate.runtime.bus import Bus
from headgate.runtime.intake import Source, Take
from headgate.runtime.log import Log
from headgate_contracts import streams, subjects
from headgate_contracts.instance_types import InstanceTypes
from headgate_contracts.jobs import MiniBatchesSettled
from headgate_contracts.nodes import NodeEnded, NodeStarted
from headgate_contracts.usage import MINUTE_S, UsageKind

NODES = Source(streams.EVENTS.name, subjects.events_of("node"), name="nodes")
MINI_BATCHES = Source(
    streams.EVENTS.name, subjects.events_about("job", MiniBatchesSettled.WHAT), name="mini_batches"
)
_US_PER_MS = 1_000

_log = Log("metering")


def node_taker(types: InstanceTypes) -> Take:
    """Notes when nodes begin and end. What an event says twice changes nothing."""

    async def take(session: AsyncSession, messages: Sequence[RawStreamMsg]) -> None:
        for message in messages:
            what = (message.subject or "").rpartition(".")[2]
            try:
                if what == NodeStarted.WHAT:
                    begun = NodeStarted.model_validate_json(message.data or b"")
                    await state.open_instance(session, _row(begun, types, begun.at))
                elif what == NodeEnded.WHAT:
                    ended = NodeEnded.model_validate_json(message.data or b"")
                    row = _row(ended, types, ended.at - ended.alive_s)
                    row.ended_at = ended.at
                    await state.close_node(session, row, ended.alive_s)
            except ValidationError as error:
                _log.error("bad_event", subject=message.subject, error=str(error)[:200])
            await session.flush()

    return take


def _row(event: NodeStarted | NodeEnded, types: InstanceTypes, began_at: float) -> InstanceRow:
    return InstanceRow(
        instance=event.node,
        began_at=began_at,
        workspace=event.workspace,
        endpoint=event.endpoint,
        deployment=event.deployment,
        instance_type=event.instance_type,
        price_per_hour=price_of(types, event.instance_type),
        job=event.job_name or event.job,
    )


def mini_batch_taker(bus: Bus) -> Take:
    """Adds settled mini-batches to the ledger, as requests that their job has made."""

    async def take(session: AsyncSession, messages: Sequence[RawStreamMsg]) -> None:
        now = bus.clock.now()
        rows = []
        for message in messages:
            try:
                event = MiniBatchesSettled.model_validate_json(message.data or b"")
            except ValidationError as error:
                _log.error("bad_event", subject=message.subject, error=str(error)[:200])
                continue
            begins = core.begins_of(int(event.at // MINUTE_S) * MINUTE_S, now)
            if begins is None:
                _log.error("usage_too_old", job=event.job, requests=len(event.mini_batches))
                continue
            about = {
                "begins": begins,
                "workspace": event.workspace,
                "endpoint": event.endpoint,
                "deployment": event.deployment,
                "caller": event.job,
                "kind": UsageKind.BATCH.value,
                "request_bytes": 0,
                "response_bytes": 0,
            }
            rows += [
                {
                    **about,
                    "status": 500 if each.failed else 200,
                    "requests": 1,
                    "compute_us": round(each.run_ms * _US_PER_MS),
                }
                for each in event.mini_batches
            ]
        await state.add_usage(session, rows)

    return take
