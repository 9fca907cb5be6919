"""What the ledger takes in: reports of usage, and the times of instances.

Usage that is in the ledger is removed from its stream: that stream refuses what it has no room for,
and routers keep what it does not take.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from nats.js.api import RawStreamMsg
from pydantic import ValidationError
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.metering import core, state
from headgate.metering.rows import InstanceRow
from headgate.runtime.bus import Bus
from headgate.runtime.intake import Source, Take
from headgate.runtime.log import Log
from headgate_contracts import streams, subjects
from headgate_contracts.instance_types import InstanceTypes
from headgate_contracts.usage import UsageReported

_BEGINS, _ENDS = ("started", "adopted"), ("stopped", "lost")

_log = Log("metering")


USAGE = Source(streams.USAGE.name, subjects.USAGE_ALL, is_ours=True)
INSTANCES = Source(streams.EVENTS.name, subjects.events_of("instance"))


def usage_taker(bus: Bus) -> Take:
    """Adds reports to the ledger; rows that are in it already are known by their keys."""

    async def take(session: AsyncSession, messages: Sequence[RawStreamMsg]) -> None:
        now = bus.clock.now()
        keys: dict[str, state.Key] = {}
        rows: list[dict[str, Any]] = []
        for message in messages:
            try:
                report = UsageReported.model_validate_json(message.data or b"")
            except ValidationError as error:
                _log.error("bad_usage", subject=message.subject, error=str(error)[:200])
                continue
            if report.reporter not in keys:
                keys[report.reporter] = await state.last_key(session, report.reporter)
            for sequence, row in enumerate(report.rows, report.first):
                key = (report.epoch, sequence)
                if key <= keys[report.reporter]:
                    continue
                keys[report.reporter] = key
                begins = core.begins_of(row.minute, now)
                if begins is None:
                    _log.error("usage_too_old", reporter=report.reporter, requests=row.requests)
                else:
                    rows.append({"begins": begins, **row.model_dump(exclude={"minute"})})
        await state.add_usage(session, rows)
        for reporter, key in keys.items():
            await state.set_last_key(session, reporter, key, now)

    return take


def instance_taker(types: InstanceTypes, began: Callable[[InstanceRow], None]) -> Take:
    """Notes when instances begin and end. What an event says twice changes nothing."""

    async def take(session: AsyncSession, messages: Sequence[RawStreamMsg]) -> None:
        for message in messages:
            what = (message.subject or "").rpartition(".")[2]
            if what not in (*_BEGINS, *_ENDS):
                continue
            try:
                event = json.loads(message.data or b"")
                instance, at = str(event["instance"]), float(event["at"])
                if what in _ENDS:
                    was_asked = what == "stopped"
                    await state.close_instance(session, instance, at, was_asked=was_asked)
                    continue
                size = str(event.get("instance_type", ""))
                row = InstanceRow(
                    instance=instance,
                    began_at=at,
                    workspace=str(event["workspace"]),
                    endpoint=str(event["endpoint"]),
                    deployment=str(event["deployment"]),
                    instance_type=size,
                    price_per_hour=price_of(types, size),
                )
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                _log.error("bad_event", subject=message.subject, error=repr(error))
                continue
            await state.open_instance(session, row)
            await session.flush()
            began(InstanceRow(**row.model_dump()))

    return take


def price_of(types: InstanceTypes, size: str) -> str:
    """What an hour costs, as a decimal number; a size that is not in the catalogue is free."""
    found = types.get(size)
    return str(found.price_per_hour) if found else "0"
