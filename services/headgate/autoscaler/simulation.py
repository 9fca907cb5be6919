"""A deployment under a given load, on simulated time, scaled by the real core. Pure.

The model is a queue: instances take ``slots`` requests at once and ``service_s`` for each, an
instance that is wanted is ready ``startup_s`` later, requests are a flow unless dice are given.
Beyond the queue's bound requests are refused. An instance's processor is as busy as its slots.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import NamedTuple

from headgate.autoscaler import core, schedule, target
from headgate.autoscaler.load_window import LoadWindow
from headgate.autoscaler.metrics import InstanceUse, Size, Sums, Track
from headgate.autoscaler.values import Decision, Reading, Reason, Unread
from headgate_contracts import limits
from headgate_contracts.autoscale import AutoscaleSpec, Profile
from headgate_contracts.routing import LATENCY_BOUNDS_MS

Rate = Callable[[float], float]
"""Requests per second at a number of seconds from the beginning."""
STEP_S = 2.0
RULES_STEP_S = 10.0  # where nothing but rules decides: their grains are longer
SAMPLES_MAX = 2_000
IDLE_SHARE = 0.001  # of a core, for heartbeats; exactly none would mean that it is not measured
_POISSON_AS_NORMAL = 30.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """What to simulate. ``starts_at`` is Unix time, for schedules.

    With ``clients`` there are that many at a time, each of which sends its next request when it has
    its answer, beside the requests of ``rate``.
    """

    rate: Rate
    duration_s: float
    policy: target.Policy | None = None
    spec: AutoscaleSpec | None = None
    count: int = 1
    service_s: float = 0.1
    slots: int = 1
    startup_s: float = 5.0
    starts_at: float = 0.0
    held_max: int = 0
    clients: Rate | None = None

    @property
    def step_s(self) -> float:
        grains = [place[2] for place in core.windows(self.spec)] if self.spec else []
        slow = self.policy is None and min(grains, default=0) >= RULES_STEP_S
        return RULES_STEP_S if slow else STEP_S


class Sample(NamedTuple):
    """The state at a moment."""

    at_s: float
    rate: float
    instances: int
    ready: int
    in_hand: float
    latency_s: float


@dataclass(slots=True)
class Trace:
    """What happened. ``decisions`` are those that changed the count, or held a change back."""

    samples: list[Sample] = field(default_factory=list)
    decisions: list[tuple[float, int, Decision]] = field(default_factory=list)
    requests: float = 0.0
    refused: float = 0.0
    instance_s: float = 0.0

    @property
    def changes(self) -> list[tuple[float, int, int]]:
        """Moment, count before, count after."""
        return [(at, was, d.count) for at, was, d in self.decisions if d.count != was]

    def reversals(self, from_s: float = 0.0, until_s: float = math.inf) -> int:
        """How often the direction of the changes turned within a span."""
        ways = [after > before for at, before, after in self.changes if from_s <= at < until_s]
        return sum(one is not other for one, other in pairwise(ways))


class _Queue:
    """The deployment: its instances and what waits for them."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._step_s = scenario.step_s
        self.count = self.ready = scenario.count
        self._starting: list[float] = []
        self.backlog = self.in_hand = 0.0
        self.latency_s = scenario.service_s

    def resize(self, count: int, now: float) -> None:
        grown = count - self.count
        if grown > 0:
            self._starting += [now + self._scenario.startup_s] * grown
        else:
            starting = len(self._starting)
            del self._starting[max(0, starting + grown) :]
            self.ready -= max(0, -grown - starting)
        self.count = count

    def note_started(self, now: float) -> None:
        """Who is ready by now."""
        if self._starting:
            waiting = [at for at in self._starting if at > now]
            self.ready += len(self._starting) - len(waiting)
            self._starting = waiting

    def sent_by(self, clients: float) -> float:
        """What clients send in a step that always have one request each in hand."""
        slots = max(1, self.ready * self._scenario.slots)
        served = min(clients, slots) * self._step_s / self._scenario.service_s
        return max(0.0, served + max(0.0, clients - slots) - self.backlog)

    def step(self, arrivals: float) -> tuple[float, float]:
        """Let the time of one step pass; how many were served, and refused."""
        scenario = self._scenario
        slots = self.ready * scenario.slots
        capacity = slots * self._step_s / scenario.service_s
        offered = self.backlog + arrivals
        served = min(capacity, offered)
        bound = limits.PENDING_PER_SLOT * slots
        if self.ready < self.count or not self.ready or scenario.held_max:
            bound = max(bound, scenario.held_max)
        refused = max(0.0, offered - served - bound)
        self.backlog = offered - served - refused
        self.in_hand = served / self._step_s * scenario.service_s + self.backlog
        rate = capacity / self._step_s
        self.latency_s = scenario.service_s + (self.backlog / rate if rate else 0.0)
        return served, refused


class _Meter:
    """The metrics that the rules look at."""

    def __init__(self, scenario: Scenario, spec: AutoscaleSpec) -> None:
        self._spec = spec
        self._slots = scenario.slots
        self._tracks = {
            place: Track(place[2], window_s) for place, window_s in core.windows(spec).items()
        }

    def feed(self, now: float, step_s: float, queue: _Queue, served: float, refused: float) -> None:
        if not self._tracks:
            return
        sums = Sums(span_s=step_s, busy_s=queue.in_hand * step_s, looks=1, ready=queue.ready)
        count = round(served)
        sums.statuses = Counter({200: count, 429: round(refused)})
        sums.latency_s = count * queue.latency_s
        bucket = bisect_left(LATENCY_BOUNDS_MS, 1000 * queue.latency_s)
        sums.latencies = Counter({bucket: count}) if count else Counter()
        sums.waiting = round(queue.backlog)
        busy = (queue.in_hand - queue.backlog) / max(1, queue.ready * self._slots)
        for number in range(queue.ready):
            use = sums.instances[f"i{number}"] = InstanceUse()
            use.cpu_s, use.span_s = max(busy, IDLE_SHARE) * step_s, step_s
        for track in self._tracks.values():
            track.feed(now, {self._spec.deployment: sums}, heard=True)

    def read(self, profile: Profile | None, ready: int) -> tuple[Reading, ...]:
        sizes = {self._spec.deployment: Size(cores=1.0)}
        found: list[Reading] = []
        for rule in profile.rules if profile else ():
            place = core.resource_of(rule.trigger.resource, self._spec)
            value = self._tracks[*place, rule.trigger.time_grain].read(rule.trigger, sizes)
            if rule.trigger.divide_per_instance and not isinstance(value, Unread):
                value /= max(1, ready)
            found.append(value)
        return tuple(found)


def simulate(scenario: Scenario, dice: Random | None = None) -> Trace:
    """Run the scenario. With dice, arrivals are those of a Poisson process."""
    policy, spec, step_s = scenario.policy, scenario.spec, scenario.step_s
    queue, trace = _Queue(scenario), Trace()
    window = LoadWindow(policy.stable_s, policy.panic_s) if policy else None
    meter = _Meter(scenario, spec) if spec and spec.enabled else None
    in_force, memory = schedule.InForce(None, -math.inf), target.Memory()
    cooldown_until, held = 0.0, Reason.STEADY
    readings: tuple[Reading, ...] = ()
    steps = int(scenario.duration_s / step_s)
    sample_every = max(1, steps // SAMPLES_MAX)
    for number in range(steps):
        at_s = (number + 1) * step_s
        now = scenario.starts_at + at_s
        rate = max(0.0, scenario.rate(at_s))
        arrivals = rate * step_s if dice is None else _poisson(rate * step_s, dice)
        queue.note_started(now)
        if scenario.clients is not None:
            arrivals += queue.sent_by(scenario.clients(at_s))
        served, refused = queue.step(arrivals)
        trace.requests += arrivals
        trace.refused += refused
        trace.instance_s += queue.count * step_s
        if window is not None:
            in_hand = math.ceil(queue.in_hand - 1e-6)
            window.feed(
                now,
                step_s,
                queue.in_hand * step_s,
                round(arrivals),
                in_hand,
                round(served),
                served * scenario.service_s,
            )
        if meter is not None and spec is not None:
            meter.feed(now, step_s, queue, served, refused)
            if now >= in_force.until or not number:
                in_force = schedule.in_force(spec.profiles, now)
            readings = meter.read(in_force.profile, queue.ready)
        seen = core.Situation(
            now,
            queue.count,
            queue.ready,
            policy,
            window.read(now) if window else None,
            memory,
            in_force.profile,
            readings,
            cooldown_until,
        )
        decision, memory = core.decide(seen)
        if decision.count != queue.count or decision.reason is not held:
            is_told = decision.count != queue.count or decision.reason is not Reason.STEADY
            if is_told and decision.message:
                trace.decisions.append((at_s, queue.count, decision))
            held = decision.reason if decision.count == queue.count else Reason.STEADY
        if decision.count != queue.count:
            queue.resize(decision.count, now)
            if decision.cooldown_s:
                cooldown_until = now + decision.cooldown_s
        if number % sample_every == 0:
            trace.samples.append(
                Sample(at_s, rate, queue.count, queue.ready, queue.in_hand, queue.latency_s)
            )
    return trace


def _poisson(mean: float, dice: Random) -> float:
    """Knuth's method, and the normal distribution where that is near enough."""
    if mean <= 0:
        return 0.0
    if mean > _POISSON_AS_NORMAL:
        return float(max(0, round(dice.gauss(mean, math.sqrt(mean)))))
    limit, product, count = math.exp(-mean), dice.random(), 0
    while product > limit:
        product *= dice.random()
        count += 1
    return float(count)
