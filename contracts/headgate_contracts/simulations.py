"""What an autoscale setting would make of a load, tried on simulated time by the autoscaler."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from headgate_contracts import limits
from headgate_contracts.autoscale import AutoscaleSpec
from headgate_contracts.envelope import Query, Reply, Value

Seconds = Annotated[float, Field(ge=0, le=limits.SIMULATION_S_MAX, allow_inf_nan=False)]


class LoadPoint(Value):
    """From ``at_s`` after the beginning on, until the next point."""

    at_s: Seconds
    requests_per_s: float = Field(ge=0, le=limits.SIMULATION_RATE_MAX, allow_inf_nan=False)


class SimulateAutoscale(Query):
    """Nothing is changed. ``starts_at`` is Unix time, for schedules; ``service_s`` the time that
    one request takes of one of an instance's slots.
    """

    TYPE: ClassVar[str] = "headgate.autoscaler.query.v1.simulate_autoscale"

    workspace: str
    spec: AutoscaleSpec
    load: tuple[LoadPoint, ...] = Field(min_length=1, max_length=limits.SIMULATION_POINTS_MAX)
    duration_s: Seconds = Field(gt=0)
    starts_at: float = 0.0
    service_s: float = Field(0.1, gt=0, le=3_600, allow_inf_nan=False)
    startup_s: Seconds = 5.0


class SimulatedMoment(Value):
    """``instances`` are wanted, ``ready`` serve."""

    at_s: float
    requests_per_s: float
    instances: int
    ready: int
    latency_ms: float


class SimulatedChange(Value):
    """A decision that changed the count, or (``from_count`` is ``to_count``) held a change back."""

    at_s: float
    from_count: int
    to_count: int
    message: str


class SimulationReply(Reply):
    """``moments`` and ``changes`` are thinned out, and cut off, to what a page can show.

    ``week``: the name of the profile in force at each hour of the week that ``starts_at`` is in,
    from Monday on in UTC; empty where there is none.
    """

    TYPE: ClassVar[str] = "headgate.autoscaler.reply.v1.simulation"

    requests: float
    refused: float
    instance_s: float
    instances_max: int
    changes_count: int
    moments: tuple[SimulatedMoment, ...] = ()
    changes: tuple[SimulatedChange, ...] = ()
    week: tuple[str, ...] = ()
