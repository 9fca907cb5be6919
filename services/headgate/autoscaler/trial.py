"""A setting tried on a load: from what is asked to a scenario, and from its trace to the answer.

Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from headgate.autoscaler import schedule, target
from headgate.autoscaler.simulation import Rate, Scenario, Trace
from headgate_contracts import limits
from headgate_contracts.autoscale import Profile
from headgate_contracts.resources import DeploymentSpec
from headgate_contracts.simulations import (
    LoadPoint,
    SimulateAutoscale,
    SimulatedChange,
    SimulatedMoment,
    SimulationReply,
)

T = TypeVar("T")


def rate_of(points: Sequence[LoadPoint]) -> Rate:
    """Requests per second at any moment; before the first point as at it."""
    ordered = sorted(points, key=lambda point: point.at_s)
    times = [point.at_s for point in ordered]
    return lambda at_s: ordered[max(0, bisect_right(times, at_s) - 1)].requests_per_s


def scenario(query: SimulateAutoscale, deployment: DeploymentSpec) -> Scenario:
    """The deployment as it is, with the setting that is tried."""
    follows = deployment.scale_settings.follows_load
    return Scenario(
        rate_of(query.load),
        query.duration_s,
        target.policy_of(deployment) if follows else None,
        query.spec,
        deployment.instance_count,
        query.service_s,
        deployment.request_settings.max_concurrent_requests_per_instance,
        query.startup_s,
        query.starts_at,
        held_max=limits.HELD_REQUESTS_DEFAULT if follows else 0,
    )


def week_of(profiles: Sequence[Profile], at: float) -> tuple[str, ...]:
    """The profile in force at each hour of the week around ``at``, from Monday on in UTC."""
    day = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    monday = (day - timedelta(days=day.weekday())).timestamp()
    found = (schedule.in_force(profiles, monday + 3_600 * hour).profile for hour in range(168))
    return tuple(profile.name if profile else "" for profile in found)


def told(trace: Trace, query: SimulateAutoscale) -> SimulationReply:
    """The outcome, thinned out to what a page can show."""
    return SimulationReply(
        requests=trace.requests,
        refused=trace.refused,
        instance_s=trace.instance_s,
        instances_max=max((sample.instances for sample in trace.samples), default=0),
        changes_count=len(trace.changes),
        moments=tuple(
            SimulatedMoment(
                at_s=sample.at_s,
                requests_per_s=sample.rate,
                instances=sample.instances,
                ready=sample.ready,
                latency_ms=1000 * sample.latency_s,
            )
            for sample in thinned(trace.samples, limits.SIMULATION_MOMENTS_MAX)
        ),
        changes=tuple(
            SimulatedChange(
                at_s=at, from_count=before, to_count=decision.count, message=decision.message
            )
            for at, before, decision in trace.decisions[: limits.SIMULATION_CHANGES_MAX]
        ),
        week=week_of(query.spec.profiles, query.starts_at),
    )


def thinned(items: Sequence[T], most: int) -> Sequence[T]:
    """Every n-th, so that there are no more than ``most``."""
    return items[:: max(1, -(-len(items) // most))]
