"""What routers tell about the traffic they carry."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from headgate_contracts.envelope import Query, Reply, Value
from headgate_contracts.provisioning import InstanceEvent

SERVICE = "router"

# Upper bounds in milliseconds of the latency histogram, each about 19 % above the one before
# (2 ** 0.25), from 0.1 ms to 200 s; a last bucket takes the rest. Quantiles read from it are
# within 10 % of the true value.
LATENCY_BOUNDS_MS: tuple[float, ...] = tuple(0.1 * 2 ** (i / 4) for i in range(84))


class DeploymentTraffic(Value):
    """What one deployment answered since the router started.

    ``statuses`` counts answers to clients by HTTP status; ``mirrored`` counts mirrored copies by
    the status the model gave (0 = not answered). ``latency_buckets`` are counts per bound of
    :data:`LATENCY_BOUNDS_MS` plus one, of answered client requests.
    """

    requests: int = 0
    statuses: dict[int, int] = {}
    mirrored: dict[int, int] = {}
    latency_buckets: tuple[int, ...] = ()
    mirror_latency_buckets: tuple[int, ...] = ()
    in_flight: int = 0
    ready_instances: int = 0
    quarantined: dict[str, float] = Field({}, description="instance -> seconds until it is back")


class GetTraffic(Query):
    """Answered by every router for itself; the asker adds the answers up."""

    TYPE: ClassVar[str] = "headgate.router.query.v1.get_traffic"

    endpoint: str


class TrafficReply(Reply):
    TYPE: ClassVar[str] = "headgate.router.reply.v1.traffic"

    router: str
    since: float
    deployments: dict[str, DeploymentTraffic]
    refused: dict[int, int] = {}


class InstanceQuarantined(InstanceEvent):
    """A router leaves out an instance that fails while its sisters answer well.

    Each router decides for itself; the process goes on and comes back by itself.
    """

    TYPE: ClassVar[str] = "headgate.router.event.v1.instance_quarantined"
    WHAT: ClassVar[str] = "quarantined"

    router: str
    seconds: float
    failures: int = Field(description="in a row")


class InstanceReleased(InstanceEvent):
    """A router asks the instance again."""

    TYPE: ClassVar[str] = "headgate.router.event.v1.instance_released"
    WHAT: ClassVar[str] = "released"

    router: str
