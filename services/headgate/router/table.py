"""The routing table in memory: endpoints and deployments from routes, instances from heartbeats.

No I/O here; times are arguments. Deployments outlive changes of their route, so that queues and
counts go on.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator

from headgate.router import core, quarantine
from headgate.router.clock_offset import ClockOffset
from headgate.router.core import STARTUP_S_GUESS, Plan, Refusal, usual_plan
from headgate.router.gates import Gate, Meters
from headgate.router.requests import Flight, Request
from headgate.router.traffic import Traffic
from headgate.router.wire import Outbox
from headgate_contracts import limits, subjects
from headgate_contracts.scoring import DeploymentRoute, Heartbeat, InstanceState, Route

SILENT_AFTER_S = limits.HEARTBEAT_INTERVAL_S * limits.HEARTBEAT_MISSED_MAX
FORGOTTEN_AFTER_S = 60.0
GONE = (InstanceState.LOST, InstanceState.STOPPED, InstanceState.FAILED)


class Instance:
    """One instance as this router sees it."""

    __slots__ = (
        "bus_outbox",
        "capacity",
        "deployment",
        "doubtful",
        "failing_since",
        "failures",
        "flights",
        "heard",
        "held",
        "id",
        "left_out",
        "offset",
        "others",
        "out",
        "out_until",
        "outbox",
        "parts_subject",
        "quarantines",
        "reply",
        "silent",
        "state",
        "subject",
        "well_at",
        "withheld",
        "withheld_until",
    )

    def __init__(self, deployment: Deployment, instance_id: str, router_id: str) -> None:
        self.deployment = deployment
        self.id = instance_id
        self.subject = subjects.instance(deployment.endpoint.name, deployment.name, instance_id)
        self.reply = subjects.answers(router_id, instance_id)
        self.bus_outbox = Outbox(self.subject, self.reply)
        self.outbox = self.bus_outbox  # of requests that are no larger than a message
        names = (deployment.endpoint.name, deployment.name, instance_id)
        self.parts_subject = subjects.instance_parts(*names)
        self.state = InstanceState.STARTING
        self.capacity = 1
        self.others = 0  # requests of other routers, as of the last heartbeat
        self.heard = 0.0
        self.offset = ClockOffset()
        self.held = False  # it said "busy": not asked for a moment
        self.out = False  # it took no request although ready: not asked until its next heartbeat
        self.silent = False  # three heartbeats missed
        self.withheld = False  # the provisioner says that it is not ready
        self.withheld_until = 0.0
        self.left_out = False  # in quarantine; the rules and the fields are those of a Patient
        self.failures = self.quarantines = 0
        self.failing_since = self.well_at = self.out_until = 0.0
        self.flights: dict[int, Flight] = {}  # what takes up its slots
        # Those of ``flights`` that it may no longer have: nobody waits, or the bus broke since.
        self.doubtful: dict[int, Flight] = {}

    @property
    def names(self) -> dict[str, str]:
        """What it is called in logs and events."""
        deployment = self.deployment
        names = {"endpoint": deployment.endpoint.name, "deployment": deployment.name}
        return {**names, "instance": self.id}

    @property
    def in_flight(self) -> int:
        return len(self.flights)

    @property
    def takes_requests(self) -> bool:
        return (
            self.state is InstanceState.READY
            and not self.silent
            and not self.out
            and not self.withheld
        )

    def hear(self, beat: Heartbeat, now: float) -> None:
        if beat.state is InstanceState.UNREADY:  # no sign of life: somebody else says it
            self.withheld = beat.withheld_s > 0
            self.withheld_until = now + min(beat.withheld_s, limits.WITHHELD_S)
            return
        self.state = beat.state
        self.capacity = max(1, beat.capacity)
        self.heard = now
        self.silent = self.out = False
        self.offset.note(1000 * now, beat.mono_ms)
        self.others = max(0, beat.in_flight - len(self.flights))

    def fail(self, now: float) -> None:
        """One more failure in a row."""
        if not self.failures:
            self.failing_since = now
        self.failures += 1

    def leave_out(self, seconds: float, now: float) -> None:
        self.quarantines = 1 + quarantine.held_against(self, now)
        self.left_out, self.out_until = True, now + seconds
        self.deployment.refresh()

    def refuse_all(self) -> None:
        """It took no request although it was ready: not asked until its next heartbeat."""
        self.out = True
        self.deployment.refresh()

    def take_back(self) -> None:
        """It begins anew: five failures more and it is out again, for longer."""
        self.left_out, self.failures = False, 0
        self.deployment.refresh()

    def excess(self, in_flight: int) -> list[Flight]:
        """Doubtful flights that an instance with so many requests in hand does not have.

        Their answers may never come, so only this frees their slots.
        """
        live = len(self.flights) - len(self.doubtful)
        count = len(self.doubtful) - max(0, in_flight - live)
        return list(self.doubtful.values())[: max(0, count)]


class Deployment:
    """One deployment: its instances, and the requests that wait for a slot."""

    __slots__ = (
        "copies",
        "elsewhere",
        "endpoint",
        "held_bytes",
        "held_since",
        "instances",
        "mean_ms",
        "name",
        "ready",
        "route",
        "scoring_path",
        "slots",
        "startup_s",
        "timeout_ms",
        "traffic",
        "turn",
        "waiting",
    )

    def __init__(self, endpoint: Endpoint, name: str) -> None:
        self.endpoint = endpoint
        self.name = name
        self.obey(DeploymentRoute())
        self.instances: dict[str, Instance] = {}
        self.ready: list[Instance] = []
        self.slots = 0
        self.turn = 0
        self.mean_ms = 0.0
        self.held_bytes = 0  # of the bodies of those that wait for the first instance
        self.held_since: float | None = None  # since when there are such
        self.startup_s = STARTUP_S_GUESS  # how long it took the last time
        self.waiting: OrderedDict[Request, None] = OrderedDict()
        self.elsewhere = 0  # requests that wait at other routers, as of their last reports
        self.copies: OrderedDict[Request, None] = OrderedDict()
        self.traffic = Traffic()

    def obey(self, route: DeploymentRoute) -> None:
        """Take new settings; what each request asks for is kept beside them."""
        self.route = route
        self.timeout_ms = route.request_timeout_ms
        self.scoring_path = route.scoring_path

    @property
    def in_flight(self) -> int:
        return sum(instance.in_flight for instance in self.instances.values())

    def requests(self) -> Iterator[Request]:
        """All that are in hand and somebody waits for, and copies."""
        yield from self.waiting
        yield from self.copies
        for instance in self.instances.values():
            for flight in instance.flights.values():
                if flight.request is not None:
                    yield flight.request

    @property
    def able(self) -> list[Instance]:
        """Those that could take requests, also if they are left out now."""
        return [i for i in self.instances.values() if i.takes_requests]

    def refusal(self) -> Refusal | None:
        """Why a request may not wait for a slot now; None: it may."""
        return core.admit(
            self.name,
            self.route,
            ready=len(self.ready),
            slots=self.slots,
            waiting=len(self.waiting) + self.elsewhere,
            held_bytes=self.held_bytes,
            mean_ms=self.mean_ms,
            startup_s=self.startup_s,
        )

    def refresh(self) -> None:
        """Bring what the choice of an instance reads up to date."""
        able = self.able
        for instance in quarantine.too_many_out(able):
            instance.left_out, instance.failures = False, 0
        self.ready = [i for i in able if not i.left_out]
        self.slots = sum(instance.capacity for instance in self.ready)

    def note_service_time(self, ms: float) -> None:
        """A moving mean over about the last twenty requests, and the sum of all."""
        self.traffic.served += 1
        self.traffic.service_s += ms / 1000
        self.mean_ms = ms if not self.mean_ms else self.mean_ms + 0.05 * (ms - self.mean_ms)


class Endpoint:
    """One endpoint; ``route`` is None while only its instances are known."""

    __slots__ = (
        "deployments", "digests", "is_public", "key_ids", "name", "opened", "quotas", "refused",
        "route", "usual", "workspace",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.workspace = ""
        self.is_public = True
        self.route: Route | None = None
        self.digests: tuple[bytes, ...] = ()
        self.key_ids: dict[bytes, str] = {}  # for those that are known to be right only
        self.opened: dict[str, str] = {}  # Authorization values with a key of this route -> its id
        self.quotas: Gate | None = None
        self.usual: Plan | None = None  # of every request that names no deployment, if it is one
        self.deployments: dict[str, Deployment] = {}
        self.refused: Counter[int] = Counter()

    def deployment(self, name: str) -> Deployment:
        found = self.deployments.get(name)
        if found is None:
            found = self.deployments[name] = Deployment(self, name)
        return found


class Table:
    """Everything the router knows."""

    def __init__(self, router_id: str) -> None:
        self.router_id = router_id
        self.meters = Meters()
        self._endpoints: dict[str, Endpoint] = {}

    def endpoint(self, name: str) -> Endpoint | None:
        """The endpoint with a route of that name."""
        found = self._endpoints.get(name)
        return found if found is not None and found.route is not None else None

    def endpoints(self) -> Iterator[Endpoint]:
        """Those with a route."""
        return (each for each in self._endpoints.values() if each.route is not None)

    def instances(self) -> Iterator[Instance]:
        for endpoint in self._endpoints.values():
            for deployment in endpoint.deployments.values():
                yield from deployment.instances.values()

    def instance(self, instance_id: str) -> Instance | None:
        return next((each for each in self.instances() if each.id == instance_id), None)

    def apply(self, route: Route) -> None:
        """Take a new value of a route in; an older one than the known is ignored."""
        known = self._endpoints.get(route.endpoint)
        if known and known.route and route.revision < known.route.revision:
            return
        self._set(route)

    def remove(self, name: str) -> None:
        """The endpoint is gone; its instances may live on for a while."""
        endpoint = self._endpoints.get(name)
        if endpoint is not None:
            endpoint.route, endpoint.digests, endpoint.key_ids = None, (), {}
            endpoint.opened, endpoint.usual, endpoint.quotas = {}, None, None
            self.meters.close(name)
            self._prune(endpoint)

    def replace(self, routes: Iterable[Route]) -> None:
        """Take a complete reading of all routes in: it is the truth, whatever the revisions."""
        read = {route.endpoint: route for route in routes}
        for name in [name for name, e in self._endpoints.items() if e.route and name not in read]:
            self.remove(name)
        for route in read.values():
            self._set(route)

    def hear(self, beat: Heartbeat, now: float) -> Instance:
        """Take a heartbeat in; the instance it is about."""
        endpoint = self._endpoints.get(beat.endpoint)
        if endpoint is None:
            endpoint = self._endpoints[beat.endpoint] = Endpoint(beat.endpoint)
        deployment = endpoint.deployment(beat.deployment)
        instance = deployment.instances.get(beat.instance)
        if instance is None:
            instance = Instance(deployment, beat.instance, self.router_id)
            deployment.instances[beat.instance] = instance
        ready, capacity = instance.takes_requests, instance.capacity
        instance.hear(beat, now)
        if (ready, capacity) != (instance.takes_requests, instance.capacity):
            deployment.refresh()
        return instance

    def silent_since(self, now: float) -> list[Instance]:
        """Instances that have missed three heartbeats; they are not chosen from now on."""
        found = [
            instance
            for instance in self.instances()
            if now - instance.heard > SILENT_AFTER_S and instance.state not in GONE
        ]
        for instance in found:
            if not instance.silent:
                instance.silent = True
                instance.deployment.refresh()
        return found

    def forget(self, now: float) -> list[Instance]:
        """Drop instances without a sign of life for a minute; those."""
        forgotten = [
            instance
            for instance in self.instances()
            if now - instance.heard > FORGOTTEN_AFTER_S and not instance.flights
        ]
        for instance in forgotten:
            deployment = instance.deployment
            del deployment.instances[instance.id]
            deployment.refresh()
            self._prune(deployment.endpoint)
        return forgotten

    def admit_again(self, now: float) -> None:
        """Without its word being repeated, the provisioner is away: who says ready counts."""
        for instance in self.instances():
            if instance.withheld and now > instance.withheld_until:
                instance.withheld = False
                instance.deployment.refresh()

    def forgive(self, now: float) -> None:
        """The bus was away, so nobody could be heard: silence is counted from now."""
        for instance in self.instances():
            if not instance.silent:
                instance.heard = max(instance.heard, now)

    def _set(self, route: Route) -> None:
        endpoint = self._endpoints.get(route.endpoint)
        if endpoint is None:
            endpoint = self._endpoints[route.endpoint] = Endpoint(route.endpoint)
        endpoint.route, endpoint.workspace, endpoint.is_public = (
            route,
            route.workspace,
            route.is_public,
        )
        endpoint.key_ids = {bytes.fromhex(key.sha256): key.id for key in route.keys}
        endpoint.digests = tuple(endpoint.key_ids)
        endpoint.opened, endpoint.usual = {}, usual_plan(route)
        endpoint.quotas = self.meters.gate(route)
        for name, settings in route.deployments.items():
            endpoint.deployment(name).obey(settings)
        self._prune(endpoint)

    def _prune(self, endpoint: Endpoint) -> None:
        """Drop deployments, and an endpoint, that neither a route nor an instance names."""
        routed = endpoint.route.deployments if endpoint.route else {}
        for name, deployment in list(endpoint.deployments.items()):
            idle = not (deployment.instances or deployment.waiting or deployment.copies)
            if name not in routed and idle:
                del endpoint.deployments[name]
        if endpoint.route is None and not endpoint.deployments:
            self._endpoints.pop(endpoint.name, None)
