"""What other routers have waiting, so that together they keep a deployment's limit.

Each tells the load of its deployments once a second; what is known here is that old. A router that
is not heard any more counts no longer.
"""

from __future__ import annotations

from pydantic import ValidationError

from headgate.router.lane import Lane
from headgate.router.table import Deployment, Table
from headgate.runtime.clock import Clock
from headgate.runtime.log import Log
from headgate_contracts import limits, subjects
from headgate_contracts.load import LoadReported

SILENT_AFTER_S = 3 * limits.LOAD_REPORT_INTERVAL_S

_log = Log("router")


class Peers:
    """The other routers on the bus."""

    def __init__(self, lane: Lane, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._waiting: dict[str, dict[Deployment, int]] = {}
        lane.subscribe(subjects.LOAD_ALL, self._on_report)

    def _on_report(self, _subject: str, _reply: str, _head: bytes, payload: bytes) -> None:
        """Take a report in. Our own come as well."""
        try:
            report = LoadReported.model_validate_json(payload)
        except ValidationError as error:
            _log.warning("bad_load_report", error=str(error)[:200])
            return
        self._table.meters.demand.hear(report, self._table.meters.gates)
        if report.router == self._table.router_id:
            return
        if report.part == 0:
            self._drop(report.router)
        if report.is_last:
            return
        self._heard[report.router] = self._clock.monotonic()
        waiting = self._waiting.setdefault(report.router, {})
        for row in report.deployments:
            endpoint = self._table.endpoint(row.endpoint)
            deployment = endpoint.deployments.get(row.deployment) if endpoint else None
            if deployment is not None and row.waiting:
                waiting[deployment] = row.waiting
                deployment.elsewhere += row.waiting

    def forget(self, now: float) -> None:
        """Drop those that have been silent for too long."""
        for router in [r for r, heard in self._heard.items() if now - heard > SILENT_AFTER_S]:
            self._drop(router)
            self._table.meters.demand.drop(router)

    def _drop(self, router: str) -> None:
        self._heard.pop(router, None)
        for deployment, waiting in self._waiting.pop(router, {}).items():
            deployment.elsewhere -= waiting
