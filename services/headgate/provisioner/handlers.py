"""The provisioner's answers: instances, logs, capacity, and refreshes of environments."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from headgate.provisioner import core, logs
from headgate.provisioner.keeper import Keeper
from headgate.provisioner.preparing import Preparer
from headgate.provisioner.reconciler import Reconciler
from headgate.provisioner.refreshing import Refresher
from headgate.provisioner.shipping import Shipper
from headgate.provisioner.state import Record
from headgate.provisioner.values import State
from headgate.runtime.answers import Request
from headgate.runtime.bus import Handler
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.provisioning import (
    CapacityReply,
    CollectionCounts,
    GetCapacity,
    GetLogs,
    Instance,
    InstancesReply,
    ListInstances,
    LogsReply,
)
from headgate_contracts.refreshing import GetRefresh, RefreshEnvironments


class Handlers:
    """Answers from the reconciler's facts and the log files."""

    def __init__(
        self,
        reconciler: Reconciler,
        preparer: Preparer,
        shipper: Shipper,
        refresher: Refresher,
    ) -> None:
        self._refresher = refresher
        self._reconciler = reconciler
        self._preparer = preparer
        self._shipper = shipper

    def table(self) -> Mapping[Request, Handler]:
        """Which message is answered by which method."""
        return {
            ListInstances: self.list_instances,
            GetLogs: self.get_logs,
            GetCapacity: self.get_capacity,
            RefreshEnvironments: self._refresher.begin,
            GetRefresh: self._refresher.get,
        }

    async def get_capacity(self, query: GetCapacity) -> CapacityReply:
        """What the host has for instances, and what of it is taken."""
        return self._reconciler.capacity(query.instance_type)

    async def list_instances(self, query: ListInstances) -> InstancesReply:
        """Instances that run, and the last of each slot that does not."""
        found = [
            _instance(record, self._shipper.counts(record.id))
            for keeper in self._reconciler.keepers()
            if query.endpoint in ("", keeper.key[0]) and query.deployment in ("", keeper.key[1])
            for record in _present(keeper)
        ]
        return InstancesReply(instances=tuple(found))

    async def get_logs(self, query: GetLogs) -> LogsReply:
        """The log of one container of a deployment, of all its instances that are remembered."""
        keeper = self._reconciler.keeper((query.endpoint, query.deployment))
        if keeper is None:
            raise HeadgateError(
                ErrorCode.RESOURCE_NOT_FOUND,
                f"there is no deployment {query.deployment!r} of endpoint {query.endpoint!r} here",
                target="deployment",
            )
        if query.container == "storage-initializer":
            sources = await self._preparation(keeper)
        else:
            sources = self._instance_logs(keeper)
        content, cursor = await asyncio.to_thread(
            logs.read,
            sources,
            query.tail,
            query.cursor,
            prefixed=query.container == "inference-server" and len(sources) > 1,
            wanted=logs.of_request(query.request_id, query.contains),
        )
        return LogsReply(content=content, cursor=cursor)

    async def _preparation(self, keeper: Keeper) -> list[logs.Source]:
        version = core.version_of(keeper.desire.deployment)
        paths = await self._preparer.logs_of(keeper.key, version)
        names = ("version", "environment")
        return [
            logs.Source(name, path, began=0.0, live=True)
            for name, path in zip(names, paths, strict=False)
        ]

    def _instance_logs(self, keeper: Keeper) -> list[logs.Source]:
        records = sorted(keeper.fleet.records.values(), key=lambda r: r.observed.started_at)
        return [
            logs.Source(
                record.id,
                self._reconciler.folder(record.id) / logs.LOG,
                began=record.started_wall,
                live=record.observed.state is not State.ENDED,
            )
            for record in records
        ]


def _present(keeper: Keeper) -> list[Record]:
    """Running instances, and those whose end left a slot of the wanted version empty."""
    records = keeper.fleet.records.values()
    running = [r for r in records if r.observed.state is not State.ENDED]
    wanted = core.version_of(keeper.desire.deployment)
    crashed = {i.id for i in core.crashed(wanted, keeper.desire.since, keeper.fleet.observed())}
    return [*running, *(r for r in records if r.id in crashed)]


def _instance(record: Record, collection: CollectionCounts | None) -> Instance:
    seen = record.observed
    state = "lost" if seen.state is State.ENDED else seen.state.value
    if seen.state is State.STOPPING:
        state = "draining"
    ending = seen.ending
    return Instance(
        id=record.id,
        endpoint=record.endpoint,
        deployment=record.deployment,
        spec=seen.spec,
        state=state,
        pid=record.pid if seen.state is not State.ENDED else 0,
        restarts=seen.failures,
        liveness_failures=seen.liveness.failed,
        readiness_failures=seen.readiness.failed,
        started_at=record.started_wall,
        ready_at=record.ready_wall,
        error=ending.to_wire() if ending else None,
        collection=collection,
    )
