"""The load of deployments, as every router tells it once a second and once more at its end.

All counts are those since the router started and only grow, so a lost report costs nothing: who
wants a rate subtracts two reports of one router. A router that starts again has another id. Of one
deployment, a count that is smaller than before has begun anew (its endpoint was deleted and made
again). Reports are not kept in a stream: who was not there reads the next one.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from headgate_contracts import limits, subjects
from headgate_contracts.envelope import Event, Value

# Buckets of latencies are those of headgate_contracts.routing.LATENCY_BOUNDS_MS.
Counts = dict[int, int]


class DeploymentLoad(Value):
    """One deployment at one router. Clients' requests, unless a field says ``mirrored``.

    Six figures are of this moment: ``in_flight`` (in the hands of instances), ``waiting`` (for a
    slot), ``held`` (for the first instance to be ready; not among ``waiting``),
    ``ready_instances``, ``linked_instances`` among them, and their ``slots``. All others count.
    """

    workspace: str = ""
    endpoint: str
    deployment: str
    in_flight: int = 0
    waiting: int = 0
    held: int = 0
    ready_instances: int = 0
    linked_instances: int = Field(0, description="ready ones that are asked past the bus")
    slots: int = Field(0, description="requests that the ready instances take at once")
    busy_s: float = Field(
        0.0,
        description=(
            "request-seconds: the time integral of in_flight + waiting + held, copies included; "
            "its growth divided by the time between two reports is the mean concurrency"
        ),
    )
    statuses: Counts = Field({}, description="HTTP status told to clients (499: left) -> requests")
    model_statuses: Counts = Field({}, description="status given by the model -> requests")
    mirrored: Counts = Field({}, description="status given to copies (0: no answer) -> copies")
    latency_s: float = Field(0.0, description="sum over the requests in latency_buckets")
    latency_buckets: Counts = Field(
        {},
        description=(
            "index in LATENCY_BOUNDS_MS (its length: above the last) -> requests; without those "
            "that were refused at once"
        ),
    )
    served: int = Field(0, description="requests that instances have answered, copies included")
    service_s: float = Field(
        0.0, description="how long these took, from the router to the instance and back"
    )
    compute_s: float = Field(0.0, description="time that instances report for run()")
    mirrored_compute_s: float = 0.0
    request_bytes: int = Field(0, description="bodies received")
    response_bytes: int = Field(0, description="bodies sent")


class EndpointLoad(Value):
    """What a router counts before a deployment has been chosen."""

    workspace: str = ""
    endpoint: str
    refused: Counts = Field({}, description="HTTP status -> requests (401, 404, 413, ...)")


class LoadReported(Event):
    """One router's report. A large one comes in ``parts`` messages with the same ``seq``."""

    TYPE: ClassVar[str] = "headgate.router.event.v1.load_reported"

    router: str = Field(description="random, another one at each start")
    seq: int = Field(description="1, 2, 3, ...")
    part: int = 0
    parts: int = 1
    since: float = Field(description="Unix time of the router's start")
    mono_s: float = Field(description="the router's monotonic clock; for rates")
    is_last: bool = Field(False, description="the router stops; these are its final counts")
    connections: int = Field(0, description="open connections of clients, all endpoints")
    connections_opened: int = Field(0, description="connections of clients since the start")
    endpoints: tuple[EndpointLoad, ...] = Field((), max_length=limits.LOAD_ROWS_PER_REPORT_MAX)
    deployments: tuple[DeploymentLoad, ...] = Field((), max_length=limits.LOAD_ROWS_PER_REPORT_MAX)

    def subject(self) -> str:
        return subjects.load(self.router)
