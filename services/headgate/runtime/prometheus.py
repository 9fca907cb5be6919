"""Load reports as a page that Prometheus reads: counters of all routers that were heard.

Routers come and go, and each counts from zero; what is told here only grows. Of a router that was
there before us the first report is where counting begins, so a restart of ours looks to Prometheus
as what it is: counters that begin anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from headgate_contracts import limits
from headgate_contracts.load import Counts, DeploymentLoad, EndpointLoad, LoadReported
from headgate_contracts.routing import LATENCY_BOUNDS_MS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SILENT_S = 10.0
_BOUNDS_PER_SERIES = 4  # each bound is twice the one before: 21 series a deployment

Labels = tuple[tuple[str, str], ...]
Sees = Callable[[str], bool]
Number = int | float


@dataclass(slots=True)
class _Sum:
    """What a deployment has been counted for, by all routers."""

    statuses: Counter[int] = field(default_factory=Counter)
    mirrored: Counter[int] = field(default_factory=Counter)
    buckets: Counter[int] = field(default_factory=Counter)
    latency_s: float = 0.0
    compute_s: float = 0.0
    request_bytes: int = 0
    response_bytes: int = 0

    def add(self, now: DeploymentLoad, before: DeploymentLoad | None) -> None:
        before = before or DeploymentLoad(endpoint="", deployment="")
        self.statuses.update(_grown(now.statuses, before.statuses))
        self.mirrored.update(_grown(now.mirrored, before.mirrored))
        self.buckets.update(_grown(now.latency_buckets, before.latency_buckets))
        self.latency_s += _more(now.latency_s, before.latency_s)
        self.compute_s += _more(now.compute_s, before.compute_s)
        self.request_bytes += int(_more(now.request_bytes, before.request_bytes))
        self.response_bytes += int(_more(now.response_bytes, before.response_bytes))


def _more(now: Number, before: Number) -> Number:
    """A count that has begun anew is smaller than before."""
    return now - before if now >= before else now


def _grown(now: Counts, before: Counts) -> Counts:
    return {key: int(_more(count, before.get(key, 0))) for key, count in now.items()}


Place = tuple[str, str, str]  # workspace, endpoint, deployment


@dataclass(slots=True)
class _Router:
    """The last that was heard of one router."""

    heard: float = 0.0
    connections: int = 0
    opened: int = 0
    deployments: dict[Place, DeploymentLoad] = field(default_factory=dict)
    endpoints: dict[tuple[str, str], EndpointLoad] = field(default_factory=dict)


class LoadPage:
    """``hear`` every report; ``text`` is the page of this moment."""

    def __init__(self, began: float, version: str) -> None:
        """``began`` is Unix time: routers that are older are counted from their first report on."""
        self._began = began
        self._version = version
        self._routers: dict[str, _Router] = {}
        self._sums: dict[Place, _Sum] = {}
        self._refused: dict[tuple[str, str], Counter[int]] = {}
        self._opened = 0

    def hear(self, said: LoadReported, now: float) -> None:
        """Take a report in. ``now`` is on a monotonic clock, in seconds."""
        router = self._routers.get(said.router)
        is_known = router is not None or said.since >= self._began
        router = self._routers.setdefault(said.router, _Router())
        router.heard, router.connections = now, said.connections
        if is_known:
            self._opened += int(_more(said.connections_opened, router.opened))
        router.opened = said.connections_opened
        for each in said.deployments:
            place = (each.workspace, each.endpoint, each.deployment)
            sums = self._sum(place)
            if sums is not None and (is_known or place in router.deployments):
                sums.add(each, router.deployments.get(place))
            router.deployments[place] = each
        for endpoint in said.endpoints:
            name = (endpoint.workspace, endpoint.endpoint)
            before = router.endpoints.get(name)
            if is_known or before:
                refused = self._refused.setdefault(name, Counter())
                refused.update(_grown(endpoint.refused, before.refused if before else {}))
            router.endpoints[name] = endpoint
        if said.is_last and said.part == said.parts - 1:
            del self._routers[said.router]

    def text(self, now: float, sees: Sees = lambda _workspace: True) -> str:
        """The page; ``sees`` says whose deployments are on it."""
        for name in [n for n, r in self._routers.items() if now - r.heard > _SILENT_S]:
            del self._routers[name]
        return "".join(self._families(sees))

    def _sum(self, place: Place) -> _Sum | None:
        """The sums of a deployment; nothing for more than there are series for."""
        if place not in self._sums and len(self._sums) >= limits.PROMETHEUS_DEPLOYMENTS_MAX:
            return None
        return self._sums.setdefault(place, _Sum())

    def _families(self, sees: Sees) -> Iterator[str]:
        sums = sorted((place, each) for place, each in self._seen(sees))
        version = [((("version", self._version),), 1)]
        yield family("headgate_build_info", "gauge", "Version of Headgate.", version)
        for name, text, codes in _BY_CODE:
            samples = [sample for place, each in sums for sample in _by_code(place, codes(each))]
            yield family(f"headgate_{name}_total", "counter", text, samples)
        yield self._refusals(sees)
        yield _histogram(sums)
        for name, text, value in _COUNTERS:
            samples = [(_labels(place), value(each)) for place, each in sums]
            yield family(f"headgate_{name}_total", "counter", text, samples)
        for name, text, figure in _GAUGES:
            yield family(f"headgate_{name}", "gauge", text, self._gauges(sees, figure))
        connections = sum(router.connections for router in self._routers.values())
        yield family("headgate_connections", "gauge", "Open connections.", [((), connections)])
        opened = [((), self._opened)]
        yield family("headgate_connections_opened_total", "counter", "Connections made.", opened)
        yield family("headgate_routers", "gauge", "Routers heard.", [((), len(self._routers))])

    def _refusals(self, sees: Sees) -> str:
        samples = [
            ((("workspace", name[0]), ("endpoint", name[1]), ("code", str(code))), count)
            for name, codes in sorted(self._refused.items())
            if sees(name[0])
            for code, count in sorted(codes.items())
        ]
        text = "Requests refused before a deployment was chosen."
        return family("headgate_refused_requests_total", "counter", text, samples)

    def _seen(self, sees: Sees) -> Iterator[tuple[Place, _Sum]]:
        return ((place, each) for place, each in self._sums.items() if sees(place[0]))

    def _gauges(
        self, sees: Sees, figure: Callable[[DeploymentLoad], Number]
    ) -> list[tuple[Labels, Number]]:
        """Figures of this moment: of all routers together, but instances, which all of them see."""
        found: dict[Place, list[Number]] = {}
        for router in self._routers.values():
            for place, each in router.deployments.items():
                if place in self._sums and sees(place[0]):
                    found.setdefault(place, []).append(figure(each))
        together = max if figure in (_ready, _linked, _slots) else sum
        return [(_labels(place), together(values)) for place, values in sorted(found.items())]


def _ready(load: DeploymentLoad) -> int:
    return load.ready_instances


def _linked(load: DeploymentLoad) -> int:
    return load.linked_instances


def _slots(load: DeploymentLoad) -> int:
    return load.slots


_BY_CODE: tuple[tuple[str, str, Callable[[_Sum], Counter[int]]], ...] = (
    ("requests", "Requests answered to clients.", lambda each: each.statuses),
    ("mirrored_requests", "Mirrored copies, by the model's status.", lambda each: each.mirrored),
)
_COUNTERS: tuple[tuple[str, str, Callable[[_Sum], Number]], ...] = (
    ("request_bytes", "Bytes of requests.", lambda each: each.request_bytes),
    ("response_bytes", "Bytes of answers.", lambda each: each.response_bytes),
    ("compute_seconds", "Execution of models for clients.", lambda each: each.compute_s),
)
_GAUGES: tuple[tuple[str, str, Callable[[DeploymentLoad], Number]], ...] = (
    ("requests_in_flight", "Requests in the hands of instances.", lambda each: each.in_flight),
    ("requests_waiting", "Requests that wait for a slot.", lambda each: each.waiting),
    ("requests_held", "Requests that wait for a first instance.", lambda each: each.held),
    ("ready_instances", "Instances that take requests.", _ready),
    ("linked_instances", "Ready instances that are asked past the bus.", _linked),
    ("slots", "Requests that the ready instances take at once.", _slots),
)


def _labels(place: Place) -> Labels:
    return tuple(zip(("workspace", "endpoint", "deployment"), place, strict=True))


def _by_code(place: Place, codes: Counter[int]) -> list[tuple[Labels, Number]]:
    return [((*_labels(place), ("code", str(code))), n) for code, n in sorted(codes.items())]


def _histogram(sums: list[tuple[Place, _Sum]]) -> str:
    name = "headgate_request_duration_seconds"
    lines = [f"# HELP {name} From a whole request to its answer.", f"# TYPE {name} histogram"]
    for place, each in sums:
        below = 0
        for index, bound_ms in enumerate(LATENCY_BOUNDS_MS):
            below += each.buckets[index]
            if index % _BOUNDS_PER_SERIES == 0:
                labels = (*_labels(place), ("le", f"{bound_ms / 1000:g}"))
                lines.append(f"{name}_bucket{_written(labels)} {below}")
        count = each.buckets.total()
        labels = (*_labels(place), ("le", "+Inf"))
        lines.append(f"{name}_bucket{_written(labels)} {count}")
        lines.append(f"{name}_sum{_written(_labels(place))} {each.latency_s}")
        lines.append(f"{name}_count{_written(_labels(place))} {count}")
    return "\n".join(lines) + "\n"


def family(name: str, kind: str, text: str, samples: Iterable[tuple[Labels, Number]]) -> str:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{_written(labels)} {value}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _written(labels: Labels) -> str:
    """Names here are tokens: nothing in them needs an escape."""
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}" if labels else ""
