"""Instances that follow the requests in hand, after Knative's pod autoscaler. Pure.

Constants and rules are those of knative/serving:pkg/autoscaler/scaling/autoscaler.go and
config/core/configmaps/autoscaler.yaml. Four things are ours:

- A queue is not mistaken for demand. Where the time that an instance takes for a request is known,
  what is wanted is what serves the arrivals (Little's law) and works the queue off within the panic
  window, and never more than Knative's figure. Its own counts every waiting request as one to be
  served at once, and so goes far beyond (knative/serving issue 10275).
- A queue that stands, neither growing nor shrinking while as many are answered as come, is that of
  clients that wait for their answers and would send more to more instances. There Knative's figure
  counts; the count at most doubles at a look, in case it is a queue that passes its peak.
- The count falls only when the smaller one would do for 10 % more, the tolerance of Kubernetes'
  horizontal autoscaler: an average near the edge of two counts does not swing between them.
- In panic the count never falls, not even below one that is still being started (issues 3153 and
  9121).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from headgate.autoscaler.values import Reason
from headgate_contracts.resources import DeploymentSpec

TICK_S = 2.0
STABLE_S = 60.0
PANIC_SHARE = 0.1
PANIC_THRESHOLD = 2.0
UTILIZATION = 0.7
UP_RATE_MAX = 1_000.0
DOWN_RATE_MAX = 2.0
DOWN_DELAY_S = 0.0
GRACE_S = 30.0
SHRINK_MARGIN = 0.1
STANDING_GROWTH_MAX = 2


@dataclass(frozen=True, slots=True)
class Policy:
    """What an operator wants. ``target``: requests in hand per instance."""

    target: float
    least: int
    most: int
    stable_s: float = STABLE_S
    panic_s: float = STABLE_S * PANIC_SHARE
    panic_threshold: float = PANIC_THRESHOLD
    down_delay_s: float = DOWN_DELAY_S
    grace_s: float = GRACE_S
    tick_s: float = TICK_S


class Load(NamedTuple):
    """What is known of the load.

    ``stable`` and ``panic`` are the mean requests in hand over the two windows; the ``demand``
    figures are mean arrivals per second times ``service_s``, the time that an instance takes for
    one (None: no request has been served lately). ``in_hand`` is now. ``idle_s``: how long nothing
    has been in hand. ``standing``: the least that was in hand in the last seconds, if that did not
    change and as many were answered as came.
    """

    stable: float
    panic: float
    stable_demand: float | None
    panic_demand: float | None
    service_s: float | None
    in_hand: int
    idle_s: float
    standing: float | None = None


class Memory(NamedTuple):
    """What the next decision must know. ``wishes`` are (when, count), newest last."""

    panic_since: float | None = None
    wishes: tuple[tuple[float, int], ...] = ()


class Outcome(NamedTuple):
    """``wanted`` is the count before the bounds; ``concurrency`` what it was derived from."""

    instances: int
    reason: Reason
    memory: Memory
    wanted: int
    concurrency: float


def policy_of(spec: DeploymentSpec) -> Policy:
    """The policy that a deployment asks for."""
    scale = spec.scale_settings
    share = (scale.target_utilization_percentage or 100 * UTILIZATION) / 100
    concurrency = spec.request_settings.max_concurrent_requests_per_instance
    stable_s = float(scale.stable_window or STABLE_S)
    panic_share = (scale.panic_window_percentage or 100 * PANIC_SHARE) / 100
    threshold = scale.panic_threshold_percentage
    grace = scale.scale_to_zero_grace
    return Policy(
        target=scale.target_concurrency or share * concurrency,
        least=scale.least,
        most=scale.most,
        stable_s=stable_s,
        panic_s=max(2.0, stable_s * panic_share),
        panic_threshold=threshold / 100 if threshold else PANIC_THRESHOLD,
        down_delay_s=float(scale.scale_down_delay or DOWN_DELAY_S),
        grace_s=GRACE_S if grace is None else float(grace),
        tick_s=float(scale.polling_interval or TICK_S),
    )


def first_memory(count: int, now: float) -> Memory:
    """Without a history, more than one instance are kept for one stable window, as in panic."""
    return Memory(panic_since=now) if count > 1 else Memory()


def decide(
    policy: Policy, load: Load | None, memory: Memory, count: int, ready: int, now: float
) -> Outcome:
    """The next count. ``load`` None: nobody knows, and nothing changes but into the bounds."""
    least, most = policy.least, policy.most
    if load is None:
        kept = max(least, min(most, count))
        return Outcome(kept, Reason.NO_DATA, memory, count, math.nan)
    serving = max(ready, 1)
    target = policy.target
    stable = _relieved(load.stable, load.stable_demand, load, policy.panic_s)
    now_or_panic = max(load.panic, float(load.in_hand)) if ready == 0 else load.panic
    panic = _relieved(now_or_panic, load.panic_demand, load, policy.panic_s)
    floor, ceiling = int(serving / DOWN_RATE_MAX), math.ceil(UP_RATE_MAX * serving)
    want_stable = _whole(stable / target)
    if want_stable < count:
        want_stable = min(count, _whole(stable * (1 + SHRINK_MARGIN) / target))
    if load.standing is not None:
        doubled = STANDING_GROWTH_MAX * max(count, serving) * target
        panic = max(panic, min(load.standing, doubled))
    raw_panic = _whole(panic / target)
    since = memory.panic_since
    if raw_panic / serving >= policy.panic_threshold:
        since = now
    elif since is not None and now - since >= policy.stable_s:
        since = None
    if since is not None:
        wanted = max(count, min(ceiling, max(raw_panic, want_stable)))
        reason, concurrency = Reason.PANIC, max(panic, stable)
    else:
        wanted = max(floor, min(ceiling, want_stable))
        reason, concurrency = Reason.STEADY, stable
    wishes = memory.wishes
    if policy.down_delay_s:
        kept_from = now - policy.down_delay_s
        wishes = (*(wish for wish in wishes if wish[0] > kept_from), (now, wanted))
        wanted = max(wish[1] for wish in wishes)
    if load.in_hand and wanted < 1:
        wanted = 1
    if wanted == 0 and count > 0 and load.idle_s < policy.stable_s + policy.grace_s:
        wanted, reason = 1, Reason.GRACE
    after = max(least, min(most, wanted))
    if after > count:
        reason = Reason.FROM_ZERO if count == 0 else reason
        reason = Reason.SCALE_OUT if reason is Reason.STEADY else reason
    elif after < count:
        reason = Reason.TO_ZERO if after == 0 else Reason.SCALE_IN
    return Outcome(after, reason, Memory(since, wishes), wanted, concurrency)


def _relieved(concurrency: float, demand: float | None, load: Load, drain_s: float) -> float:
    """Concurrency without what is only a queue, as far as that can be told."""
    if demand is None or load.service_s is None:
        return concurrency
    return min(concurrency, demand + load.in_hand * load.service_s / drain_s)


def _whole(instances: float) -> int:
    """Rounded up, forgiving what adding fractions has lost."""
    return math.ceil(instances - 1e-9)
