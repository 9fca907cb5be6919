"""Tells the load of deployments, once a second: counters that exist already, off the scoring path.

What is counted grows only, so a report that cannot leave is simply not said.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from nats.errors import Error as NatsError

from headgate.router.ingress import Ingress
from headgate.router.table import Deployment, Endpoint, Table
from headgate.runtime.bus import Bus
from headgate.runtime.clock import new_id
from headgate_contracts import limits
from headgate_contracts.load import DeploymentLoad, EndpointLoad, LoadReported

Listener = Callable[[LoadReported, float], None]
"""Hears a report, at a time of the monotonic clock."""


class LoadReporter:
    """The reports of one router. ``soon`` asks for one now instead of at its time."""

    def __init__(self, bus: Bus, table: Table, ingress: Ingress, since: float) -> None:
        self._bus = bus
        self._table = table
        self._ingress = ingress
        self._since = since
        self._seq = 0
        self._listeners: list[Listener] = []
        self._soon = asyncio.Event()

    def tell(self, listener: Listener) -> None:
        """Also tell somebody in this process."""
        self._listeners.append(listener)

    def soon(self) -> None:
        """Something has happened that should be known at once."""
        self._soon.set()

    async def run(self) -> None:
        """Report for ever."""
        while True:
            await self.say()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limits.LOAD_REPORT_INTERVAL_S):
                    await self._soon.wait()
            self._soon.clear()

    async def say(self, *, is_last: bool = False) -> None:
        """Report now."""
        now = self._bus.clock.monotonic()
        self._seq += 1
        endpoints = list(self._table.endpoints())
        rows = [(e, d) for e in endpoints for d in e.deployments.values()]
        size = limits.LOAD_ROWS_PER_REPORT_MAX
        parts = max(1, -(-max(len(rows), len(endpoints)) // size))
        for part in range(parts):
            at = slice(part * size, (part + 1) * size)
            report = LoadReported.model_construct(
                id=new_id(),
                at=self._bus.clock.now(),
                router=self._table.router_id,
                seq=self._seq,
                part=part,
                parts=parts,
                since=self._since,
                mono_s=now,
                is_last=is_last,
                connections=self._ingress.connections,
                connections_opened=self._ingress.opened,
                endpoints=tuple(map(_endpoint, endpoints[at])),
                deployments=tuple(_deployment(e, d, now) for e, d in rows[at]),
            )
            for listener in self._listeners:
                listener(report, now)
            with contextlib.suppress(NatsError):  # the next one says it all
                await self._bus.publish(report.subject(), report.model_dump_json().encode())


def _endpoint(endpoint: Endpoint) -> EndpointLoad:
    return EndpointLoad.model_construct(
        workspace=endpoint.workspace, endpoint=endpoint.name, refused=dict(endpoint.refused)
    )


def _deployment(endpoint: Endpoint, deployment: Deployment, now: float) -> DeploymentLoad:
    traffic, waiting = deployment.traffic, len(deployment.waiting)
    is_held = not deployment.ready
    open_s = sum(now - request.began for request in deployment.requests())
    return DeploymentLoad.model_construct(
        workspace=endpoint.workspace,
        endpoint=endpoint.name,
        deployment=deployment.name,
        in_flight=deployment.in_flight,
        waiting=0 if is_held else waiting,
        held=waiting if is_held else 0,
        ready_instances=len(deployment.ready),
        linked_instances=sum(each.outbox.link is not None for each in deployment.ready),
        slots=deployment.slots,
        busy_s=traffic.ended_s + open_s,
        statuses=dict(traffic.statuses),
        model_statuses=dict(traffic.model_statuses),
        mirrored=dict(traffic.mirrored),
        latency_s=traffic.latency_s,
        latency_buckets=traffic.latency_buckets(),
        served=traffic.served,
        service_s=traffic.service_s,
        compute_s=traffic.compute_s,
        mirrored_compute_s=traffic.mirrored_compute_s,
        request_bytes=traffic.request_bytes,
        response_bytes=traffic.response_bytes,
    )
