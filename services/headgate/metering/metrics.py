"""Hears loads and heartbeats, stores what each minute adds, and answers questions about it."""

from __future__ import annotations

import asyncio
import difflib
import json
from collections.abc import Sequence

from pydantic import ValidationError

from headgate.metering import metric_values, state
from headgate.metering.metric_values import Stored
from headgate.metering.minutes import Minutes, Place, Size
from headgate.metering.rows import InstanceRow, MetricRow
from headgate.metering.sla import Sla
from headgate.runtime.bus import Bus, Msg
from headgate.runtime.log import Log
from headgate.runtime.tables import Database
from headgate_contracts import limits, subjects
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.instance_types import InstanceTypes
from headgate_contracts.load import LoadReported
from headgate_contracts.metrics import Metric, MetricSeries, MetricsReply, QueryMetrics

BEAT_GRAIN_S = 5.0
"""Counts of processor time only grow, so minutes are told from a beat now and then."""
_MINUTE_S = 60
_UNREADY = "unready"  # said by the provisioner about an instance that goes on beating itself
_log = Log("metering")


class Metrics:
    """Figures of the running minute in memory, those before in the database."""

    def __init__(self, bus: Bus, database: Database, types: InstanceTypes, sla: Sla) -> None:
        self._bus = bus
        self._database = database
        self._types = types
        self._sla = sla
        self._minutes = Minutes(bus.clock.now())
        self._instances: dict[str, InstanceRow] = {}
        self._heard_at: dict[str, float] = {}

    async def start(self) -> None:
        await self._bus.subscribe(subjects.LOAD_ALL, self._hear_load)
        await self._bus.subscribe(subjects.HEARTBEAT_ALL, self._hear_beat)

    async def run(self) -> None:
        """Store each minute as it ends, for ever."""
        await self._look_at_instances()
        while True:
            now = self._bus.clock.now()
            minute = int(now // _MINUTE_S) * _MINUTE_S
            await asyncio.sleep(minute + _MINUTE_S - now)
            await self.store(minute)
            await self._look_at_instances()

    async def store(self, minute: int) -> None:
        """Store what has come as that minute's; what cannot be stored is lost, and told."""
        found = self._minutes.take(self._bus.clock.monotonic())
        rows = [
            MetricRow(minute=minute, **place._asdict(), value=json.dumps(value))
            for place, value in found.items()
        ]
        try:
            async with self._database.transaction() as session:
                for row in rows:
                    await session.merge(row)
                await self._sla.note(session, minute, found)
                seen = [place.instance for place in found if place.instance]
                await state.note_seen(session, seen, self._bus.clock.now())
        except HeadgateError as error:
            _log.warning("metrics_lost", minute=minute, rows=len(rows), error=str(error))

    async def query(self, query: QueryMetrics) -> MetricsReply:
        known = {metric.name.lower(): metric for metric in metric_values.metrics_of(query)}
        wanted = [_metric(known, name) for name in query.names]
        if (query.until - query.since) / query.interval_s > limits.METRIC_POINTS_MAX:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"at most {limits.METRIC_POINTS_MAX} points a series; choose a longer interval",
                target="interval",
            )
        async with self._database.reading() as session:
            rows = await state.metric_rows(session, query)
        stored = [
            Stored(row.minute, row.deployment, row.instance, json.loads(row.value)) for row in rows
        ]
        return MetricsReply(
            metrics=tuple(
                MetricSeries(
                    metric=metric,
                    series=tuple(metric_values.series(query, metric, stored)),
                )
                for metric in wanted
            )
        )

    async def _hear_load(self, message: Msg) -> None:
        try:
            said = LoadReported.model_validate_json(message.data)
        except ValidationError as error:
            _log.warning("bad_load_report", subject=message.subject, error=str(error)[:200])
            return
        self._minutes.hear_load(said, self._bus.clock.monotonic())

    async def _hear_beat(self, message: Msg) -> None:
        lane, now = message.subject.rpartition(".")[2], self._bus.clock.monotonic()
        if now - self._heard_at.get(lane, -BEAT_GRAIN_S) < BEAT_GRAIN_S:
            return
        try:
            beat = json.loads(message.data)
            instance = self._instances.get(lane) or self._instances.get(lane.rpartition("-")[0])
            if instance is None or beat.get("state") == _UNREADY:
                return
            place = Place(
                instance.workspace, instance.endpoint, instance.deployment, instance.instance
            )
            self._heard_at[lane] = now
            self._minutes.hear_instance(place, lane, beat, self._size(instance), now)
        except (ValueError, TypeError, AttributeError) as error:
            _log.warning("bad_heartbeat", subject=message.subject, error=repr(error))

    async def _look_at_instances(self) -> None:
        async with self._database.reading() as session:
            rows: Sequence[InstanceRow] = await state.running(session)
        self._instances = {row.instance: row for row in rows}
        since = self._bus.clock.monotonic() - BEAT_GRAIN_S
        self._heard_at = {lane: at for lane, at in self._heard_at.items() if at > since}

    def note_started(self, row: InstanceRow) -> None:
        """An instance that has just begun; its heartbeats count at once."""
        self._instances[row.instance] = row

    def _size(self, instance: InstanceRow) -> Size | None:
        found = self._types.get(instance.instance_type)
        return Size(found.cores, found.memory_bytes) if found else None


def _metric(known: dict[str, Metric], name: str) -> Metric:
    found = known.get(name.lower())
    if found is None:
        near = difflib.get_close_matches(name.lower(), known, n=1)
        names = ", ".join(metric.name for metric in known.values())
        hint = f"did you mean {known[near[0]].name}?" if near else f"there are {names}"
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT, f"no metric {name[:60]!r} here; {hint}", target="metricnames"
        )
    return found
