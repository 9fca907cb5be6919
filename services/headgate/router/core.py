"""Decisions of the router, pure: which deployment, which instance, whether to take a request.

A decision against a request is a :class:`Refusal`, which already knows its HTTP status.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from headgate_contracts import limits
from headgate_contracts.scoring import DeploymentRoute, Route

RETRIES_PER_REQUEST_MAX = 2
RETRY_WINDOW_S = 10.0
RETRY_SHARE = 0.1
RETRY_FLOOR = 10
RETRY_AFTER_S_MAX = 30
STARTUP_S_GUESS = 5.0  # before the first instance of a deployment has been seen to start
CLIENT_CLOSED = 499  # never sent; how a request is counted whose client did not wait

# Compared with when an endpoint does not exist, so that its absence takes as long as a wrong key.
_NO_DIGESTS = (bytes(32), bytes(32))


@dataclass(frozen=True, slots=True)
class Plan:
    """The deployment that answers a request, and the one that gets a copy (or "")."""

    primary: str
    mirror: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request gets no answer of a model. ``retry_after_s`` 0: no such header."""

    status: int
    code: str
    message: str
    retry_after_s: int = 0

    @property
    def retryable(self) -> bool:
        return self.retry_after_s > 0


class Seat(Protocol):
    """What the choice of an instance looks at."""

    @property
    def in_flight(self) -> int: ...

    @property
    def others(self) -> int: ...

    @property
    def capacity(self) -> int: ...

    @property
    def held(self) -> bool: ...


S = TypeVar("S", bound=Seat)


def no_endpoint(name: str) -> Refusal:
    said = f"there is no endpoint {name[:64]!r} here; correct the URL"
    return Refusal(404, "EndpointNotFound", said)


def nothing_served(path: str) -> Refusal:
    return Refusal(
        404,
        "NotFound",
        f"nothing is served at {path[:256]!r}; requests go to /api/v1/endpoint/<endpoint>/score",
    )


def not_authorized() -> Refusal:
    return Refusal(
        401,
        "Unauthorized",
        "the key is missing or wrong: send 'Authorization: Bearer <key>' with a key of this "
        "endpoint",
    )


def bad_token(problem: str) -> Refusal:
    return Refusal(401, "Unauthorized", f"{problem}; send 'Authorization: Bearer <token>'")


def may_not_score() -> Refusal:
    return Refusal(
        403, "Forbidden", "the caller needs the role operator in the endpoint's workspace to score"
    )


def trust_unknown() -> Refusal:
    return Refusal(503, "TrustUnknown", "tokens cannot be checked yet; try again", 1)


def too_large(bytes_max: int) -> Refusal:
    return Refusal(
        413,
        "PayloadTooLarge",
        f"the body is larger than {bytes_max} bytes (setting body_bytes_max); send less at once",
    )


def bus_down() -> Refusal:
    return Refusal(503, "BusUnavailable", "the bus is down, nothing was started; try again", 1)


def not_ready(deployment: str) -> Refusal:
    return Refusal(
        503, "NoReadyInstance", f"deployment {deployment!r} has no ready instance; try again", 1
    )


def stopped(deployment: str) -> Refusal:
    return Refusal(
        503,
        "DeploymentStopped",
        f"deployment {deployment!r} is stopped; its owner can start it "
        "(headgate online-deployment start)",
    )


def held_too_many(deployment: str, held: int, startup_s: float) -> Refusal:
    return Refusal(
        429,
        "TooManyRequests",
        f"{held} requests wait for the first instance of deployment {deployment!r}, and no more "
        "are held; try again",
        max(1, min(RETRY_AFTER_S_MAX, math.ceil(startup_s))),
    )


def never_started(deployment: str) -> Refusal:
    return Refusal(
        503,
        "NoReadyInstance",
        f"deployment {deployment!r} has had no ready instance for {limits.HOLD_S:g} s; look at its "
        "state (headgate online-deployment show)",
        RETRY_AFTER_S_MAX,
    )


def expired_waiting() -> Refusal:
    return Refusal(
        503, "QueueExpired", "no instance became free in time, nothing was started; try again", 1
    )


def refused_by_instances() -> Refusal:
    return Refusal(
        503, "InstancesRefused", "the instances asked took no request, nothing was started", 1
    )


def too_slow(timeout_ms: int) -> Refusal:
    return Refusal(
        408, "RequestTimeout", f"the model did not answer within {timeout_ms} milliseconds"
    )


def client_left() -> Refusal:
    """Said to nobody; how a request is recorded whose client did not wait."""
    return Refusal(CLIENT_CLOSED, "ClientClosedRequest", "the client has closed the connection")


def broken_off(why: str) -> Refusal:
    return Refusal(424, "AnswerBrokenOff", f"the answer ended after some of its parts: {why}")


def part_too_slow(idle_s: float) -> Refusal:
    return Refusal(
        408, "PartTimeout", f"the model made no further part within {1000 * idle_s:.0f} ms"
    )


def answer_too_large(size: int, bytes_max: int) -> Refusal:
    return Refusal(
        424,
        "AnswerTooLarge",
        f"the model's answer has {size} bytes, and at most {bytes_max} are passed on; return "
        "less, or yield it in parts",
    )


def no_public_access() -> Refusal:
    return Refusal(
        403,
        "NoPublicAccess",
        "this endpoint has public_network_access: disabled; it is reached over the bus, and from "
        "the networks that the administrator lists in private_networks",
    )


def no_room() -> Refusal:
    return Refusal(503, "TooManyLargeBodies", "too many large bodies are in hand; try again", 1)


def bus_lost() -> Refusal:
    return Refusal(502, "BusLost", "the bus broke off in the middle of the answer", 1)


def worker_lost() -> Refusal:
    return Refusal(502, "WorkerLost", "the instance ended with this request in hand", 1)


def is_authorized(digest: bytes, known: Sequence[bytes] | None) -> bool:
    """Whether the digest of the presented key is among ``known`` (None: no such endpoint).

    Every digest is compared, whatever the outcome, so that time tells nothing.
    """
    found = False
    for candidate in known or _NO_DIGESTS:
        found |= hmac.compare_digest(digest, candidate)
    return found and bool(known)


def choose(route: Route, wanted: str, dice: float, mirror_dice: float) -> Plan | Refusal:
    """Which deployment gets a request; ``wanted`` is the client's header, both dice are in [0, 1).

    A named deployment is reached whatever its share, and such a request is not mirrored.
    """
    if wanted:
        name = wanted.strip().lower()
        if name in route.deployments:
            return Plan(name)
        return Refusal(
            404,
            "DeploymentNotFound",
            f"endpoint {route.endpoint!r} has no deployment {wanted[:64]!r}; "
            "correct or leave out the header azureml-model-deployment",
        )
    shares = {name: share for name, share in route.traffic.items() if name in route.deployments}
    primary = pick_by_weight(shares, dice)
    if not primary:
        return Refusal(
            404,
            "NoTraffic",
            f"no deployment of endpoint {route.endpoint!r} takes traffic; set its traffic, or name "
            "a deployment in the header azureml-model-deployment",
        )
    if not route.mirror_traffic:
        return Plan(primary)
    mirror = _pick_mirror(route, mirror_dice)
    return Plan(primary, mirror if mirror != primary else "")


def usual_plan(route: Route) -> Plan | None:
    """What ``choose`` plans without a header, where no dice decide it."""
    shares = [n for n, share in route.traffic.items() if share > 0 and n in route.deployments]
    return Plan(shares[0]) if len(shares) == 1 and not route.mirror_traffic else None


def pick_by_weight(weights: Mapping[str, int], dice: float) -> str:
    """The name whose slice of the summed weights ``dice`` falls into; "" without any weight."""
    at = dice * sum(weight for weight in weights.values() if weight > 0)
    last = ""
    for name, weight in weights.items():
        if weight > 0:
            last = name
            at -= weight
            if at < 0:
                return name
    return last


def _pick_mirror(route: Route, dice: float) -> str:
    at = 100 * dice
    for name, percent in route.mirror_traffic.items():
        if percent > 0 and name in route.deployments:
            at -= percent
            if at < 0:
                return name
    return ""


def pick_instance(ready: Sequence[S], turn: int) -> S | None:
    """The instance with the smallest share of its slots taken; None when all are full.

    All are looked at, not two at random: a deployment has at most 50, and with slots of one
    request a random pair is often full while a third is idle. Equal ones take turns. What other
    routers have in flight only breaks ties between instances with room: that figure is up to one
    heartbeat old, and an instance that is full after all says so.
    """
    best: S | None = None
    best_load = math.inf
    count = len(ready)
    for step in range(count):
        seat = ready[(turn + step) % count]
        if seat.held or seat.in_flight >= seat.capacity:
            continue
        load = (seat.in_flight + seat.others) / seat.capacity
        if load < best_load:
            best, best_load = seat, load
    return best


def admit(
    deployment: str,
    route: DeploymentRoute,
    *,
    ready: int,
    slots: int,
    waiting: int,
    held_bytes: int,
    mean_ms: float,
    startup_s: float,
) -> Refusal | None:
    """Whether a request may wait for a slot of the deployment (None), or why not.

    Azure's rule: pending requests are at most twice the slots. While a deployment that follows its
    load has no instance, or fewer than it may get, ``held_max`` may wait instead.
    """
    if not ready:
        if route.is_stopped:
            return stopped(deployment)
        if not route.hold_s:
            return not_ready(deployment)
        if waiting < route.held_max and held_bytes < limits.HELD_BYTES_MAX:
            return None
        return held_too_many(deployment, waiting, startup_s)
    if waiting < limits.PENDING_PER_SLOT * slots:
        return None
    if ready < route.instances_max and waiting < route.held_max:
        return None
    return Refusal(
        429,
        "TooManyRequests",
        f"{waiting} requests wait for {slots} slots of deployment {deployment!r}: send fewer at "
        "once, or raise max_concurrent_requests_per_instance or instance_count",
        retry_after_s(waiting, slots, mean_ms),
    )


def retry_after_s(waiting: int, slots: int, mean_ms: float) -> int:
    """Whole seconds until a queue of this length has been worked off, 1 to 30."""
    return max(1, min(RETRY_AFTER_S_MAX, math.ceil(waiting * mean_ms / (1000 * max(1, slots)))))


def deadline_ms(limit_ms: int, asked: str) -> int | Refusal:
    """The time a request gets: the deployment's limit, or less if its client asks for less.

    ``asked`` is the header ``x-request-timeout-ms``: a duration, because clients' clocks differ.
    """
    if not asked:
        return limit_ms
    if not asked.lstrip("-").isdecimal() or len(asked) > 20:
        return Refusal(
            400, "BadTimeout", "the header x-request-timeout-ms must be a whole number of ms"
        )
    wanted_ms = int(asked)
    return min(limit_ms, wanted_ms) if wanted_ms > 0 else too_slow(wanted_ms)


class RetryBudget:
    """Retries are at most a tenth of recent requests, so that they cannot feed an overload.

    The floor lets small loads have theirs.
    """

    def __init__(self) -> None:
        self._began = 0.0
        self._counts = [0, 0]  # requests in this window and the one before
        self._retries = [0, 0]

    def note_request(self, now: float) -> None:
        self._roll(now)
        self._counts[0] += 1

    def take(self, now: float) -> bool:
        """Spend one retry; False when there is none left."""
        self._roll(now)
        if sum(self._retries) >= max(RETRY_FLOOR, RETRY_SHARE * sum(self._counts)):
            return False
        self._retries[0] += 1
        return True

    def _roll(self, now: float) -> None:
        if now - self._began < RETRY_WINDOW_S:
            return
        fresh = now - self._began < 2 * RETRY_WINDOW_S
        self._counts = [0, self._counts[0] if fresh else 0]
        self._retries = [0, self._retries[0] if fresh else 0]
        self._began = now
