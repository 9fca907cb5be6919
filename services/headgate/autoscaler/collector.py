"""What routers and instances have reported since the last look. No I/O; times are arguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from headgate.autoscaler.metrics import FIGURES, KEY, SILENT_AFTER_S, InstanceUse, Sums
from headgate_contracts.load import Counts, DeploymentLoad, LoadReported
from headgate_contracts.scoring import Heartbeat, InstanceState

N = TypeVar("N", int, float)
GONE_AFTER_S = 15.0  # a router without a word for so long has ended without one
_FORGET_INSTANCE_S = 60.0


@dataclass(slots=True)
class _Router:
    """What one router said last."""

    since: float
    heard_at: float = 0.0
    seq: int = 0
    mono_s: float = 0.0
    span_s: float = 0.0
    connections: int = 0
    opened: int = 0
    opened_before: int = 0
    loads: dict[KEY, DeploymentLoad] = field(default_factory=dict)
    refused: dict[str, Counts] = field(default_factory=dict)


@dataclass(slots=True)
class _Instance:
    at_s: float
    cpu_s: float
    gpu_joules: float
    collected: int
    dropped: int
    heard_at: float


@dataclass(slots=True)
class Step:
    """What has come in. ``heard``: every router that there is has told its load lately."""

    heard: bool
    sums: dict[KEY, Sums]


class Collector:
    """Turns counts that grow into what happened since the last :meth:`step`."""

    def __init__(self, started_at: float) -> None:
        """``started_at`` (Unix time): what was counted before is not ours to tell."""
        self._started_at = started_at
        self._routers: dict[str, _Router] = {}
        self._instances: dict[tuple[str, str, str], _Instance] = {}
        self._sums: dict[KEY, Sums] = {}

    def take(self, report: LoadReported, now: float) -> set[KEY]:
        """Take a report in; the deployments that have requests and no instance."""
        router = self._routers.get(report.router)
        is_known = router is not None
        if router is None:
            router = self._routers[report.router] = _Router(report.since)
            is_known = report.since >= self._started_at  # then all that it counts is new
            router.mono_s = report.mono_s - max(0.0, report.at - report.since)
        if report.seq != router.seq:
            router.seq, router.heard_at = report.seq, now
            router.span_s = max(0.0, report.mono_s - router.mono_s) if is_known else 0.0
            router.mono_s = report.mono_s
            router.opened_before = router.opened
            router.connections, router.opened = report.connections, report.connections_opened
        starving = set()
        for load in report.deployments:
            key = (load.endpoint, load.deployment)
            if is_known:
                before = router.loads.get(key) or DeploymentLoad(endpoint=key[0], deployment=key[1])
                _add(self._sums.setdefault(key, Sums()), before, load, router.span_s)
            router.loads[key] = load
            if load.held:
                starving.add(key)
        for endpoint in report.endpoints:
            sums = self._sums.setdefault((endpoint.endpoint, ""), Sums())
            if is_known:
                sums.span_s += router.span_s
                sums.opened += router.opened - router.opened_before
                refused = router.refused.get(endpoint.endpoint, {})
                for status, count in endpoint.refused.items():
                    sums.statuses[status] += _grown(refused.get(status, 0), count)
            router.refused[endpoint.endpoint] = endpoint.refused
        if report.is_last and report.part == report.parts - 1:
            del self._routers[report.router]
        elif report.part == report.parts - 1:
            self._prune(router, report)
        return starving

    def _prune(self, router: _Router, report: LoadReported) -> None:
        """What a whole report in one part does not name is gone."""
        if report.parts == 1:
            named = {(load.endpoint, load.deployment) for load in report.deployments}
            router.loads = {key: router.loads[key] for key in named}
            endpoints = {each.endpoint for each in report.endpoints}
            router.refused = {name: router.refused[name] for name in endpoints}

    def beat(self, beat: Heartbeat, now: float) -> None:
        """Take an instance's word in: processor time, memory, collected data."""
        place = (beat.endpoint, beat.deployment, beat.instance)
        if beat.state is not InstanceState.READY:
            self._instances.pop(place, None)
            return
        at_s = beat.mono_ms / 1000
        known = self._instances.get(place)
        if known is not None and beat.cpu_s >= known.cpu_s and at_s > known.at_s:
            sums = self._sums.setdefault(place[:2], Sums())
            use = sums.instances.setdefault(beat.instance, InstanceUse())
            use.cpu_s += beat.cpu_s - known.cpu_s
            use.span_s += at_s - known.at_s
            use.memory_bytes += beat.rss_bytes
            use.readings += 1
            for name in FIGURES:
                use.look(name, getattr(beat, name))
            if beat.gpu_joules is not None:
                use.look("gpu_joules", _grown(known.gpu_joules, beat.gpu_joules))
            sums.collected += _grown(known.collected, beat.collected)
            sums.collect_dropped += _grown(known.dropped, beat.collect_dropped)
        self._instances[place] = _Instance(
            at_s,
            beat.cpu_s,
            beat.gpu_joules or 0.0,
            beat.collected,
            beat.collect_dropped,
            now,
        )

    def step(self, now: float) -> Step:
        """What has come in since the last step; to be asked about once a second."""
        for name in [n for n, r in self._routers.items() if now - r.heard_at > GONE_AFTER_S]:
            del self._routers[name]
        for place in [
            p for p, i in self._instances.items() if now - i.heard_at > _FORGET_INSTANCE_S
        ]:
            del self._instances[place]
        routers = list(self._routers.values())
        heard = bool(routers) and all(now - r.heard_at <= SILENT_AFTER_S for r in routers)
        sums, self._sums = self._sums, {}
        for each in sums.values():
            each.span_s /= max(1, len(routers))
        for router in routers:
            for endpoint in router.refused:
                at = sums.setdefault((endpoint, ""), Sums())
                at.connections += router.connections
                at.connection_looks = 1
            for key, load in router.loads.items():
                at = sums.setdefault(key, Sums())
                at.looks = 1
                at.in_hand += load.in_flight + load.waiting + load.held
                at.waiting += load.waiting
                at.held += load.held
                at.ready = max(at.ready, load.ready_instances)
        return Step(heard, sums)


def _add(sums: Sums, before: DeploymentLoad, load: DeploymentLoad, span_s: float) -> None:
    """What one router has counted between two reports. A count that fell has begun anew."""
    if load.busy_s < before.busy_s or load.served < before.served:
        before = DeploymentLoad(endpoint=load.endpoint, deployment=load.deployment)
    sums.span_s += span_s
    sums.busy_s += load.busy_s - before.busy_s
    ended = 0
    for kept, was, counts in (
        (sums.statuses, before.statuses, load.statuses),
        (sums.model_statuses, before.model_statuses, load.model_statuses),
        (sums.latencies, before.latency_buckets, load.latency_buckets),
    ):
        for name, count in counts.items():
            kept[name] += _grown(was.get(name, 0), count)
    ended = sum(load.statuses.values()) - sum(before.statuses.values())
    ended += sum(load.mirrored.values()) - sum(before.mirrored.values())
    now_in_hand = load.in_flight + load.waiting + load.held
    sums.arrivals += max(0, ended + now_in_hand - before.in_flight - before.waiting - before.held)
    sums.served += load.served - before.served
    sums.service_s += max(0.0, load.service_s - before.service_s)
    sums.latency_s += max(0.0, load.latency_s - before.latency_s)
    sums.traffic_bytes += max(0, load.request_bytes - before.request_bytes)
    sums.traffic_bytes += max(0, load.response_bytes - before.response_bytes)


def _grown(before: N, now: N) -> N:
    return now - before if now >= before else now
