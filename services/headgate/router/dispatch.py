"""Carries requests to instances and their answers back: queues, slots, deadlines, retries.

Everything runs on the event loop without a task per request: an edge calls ``submit``, the lane
calls ``_on_answer``, the deadlines call ``_on_deadline``; each ends in ``request.settle``.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable
from pathlib import Path

from headgate.router import core, frames, heartbeats, quarantine
from headgate.router.answers import ModelAnswer
from headgate.router.core import Refusal, RetryBudget
from headgate.router.deadlines import Deadlines
from headgate.router.flights import Flights
from headgate.router.holding import Holding
from headgate.router.lane import NO_RESPONDERS, Lane
from headgate.router.links import Links
from headgate.router.peers import Peers
from headgate.router.pings import Pings
from headgate.router.quarantine import Tell, Ward
from headgate.router.requests import Copy, Flight, Outcome, Request, copies_max
from headgate.router.streams import AnswerStream
from headgate.router.table import GONE, Deployment, Instance, Table
from headgate.router.transfers import Transfers
from headgate.router.wire import Outbox
from headgate.runtime.clock import Clock
from headgate.runtime.log import Log
from headgate_contracts import limits, subjects
from headgate_contracts.scoring import FrameError

WATCH_S = 0.25
HOLD_S = 0.005  # how long a full instance is left alone; its next slot is not known to us

_log = Log("router")


class Dispatcher:
    """All requests in the hands of this router."""

    def __init__(
        self,
        lane: Lane,
        table: Table,
        clock: Clock,
        tell: Tell,
        on_hold: Callable[[], None],
        body_bytes_max: int,
        links: Path | None = None,
    ) -> None:
        """``on_hold`` is called when requests begin to wait for a first instance."""
        self._lane = lane
        self._table = table
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._flights = Flights()
        self._deadlines = Deadlines(self._loop, clock, self._on_deadline)
        self._budget = RetryBudget()
        self._watch: asyncio.TimerHandle | None = None
        self._transfers = Transfers(lane, clock, body_bytes_max, self._on_opened, self._on_ended)
        self._ward = Ward(tell)
        self._peers = Peers(lane, table, clock)
        self._holding = Holding(self._deadlines, on_hold)
        self._pings = Pings(lane, table, self._lose, self._pass_on)
        self._links = Links(links, lane, clock, self._on_answer, self._on_unlinked, self._pings)

    def start(self) -> None:
        """Listen on the lane; to be called before it is opened."""
        lane, router_id = self._lane, self._table.router_id
        lane.subscribe(subjects.HEARTBEAT_ALL, self._on_heartbeat)
        lane.subscribe(f"{subjects.inbox_prefix('router')}.{router_id}.*", self._on_answer)
        lane.on_up(self._on_lane_up)
        lane.on_down(self._on_lane_down)
        self._watch = self._loop.call_later(WATCH_S, self._look_around)

    def stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._deadlines.stop()
        self._links.stop()

    # From the edges

    def door(self, deployment: Deployment) -> Refusal | None:
        """Whether a request for the deployment has a chance now; asked before its body is read."""
        return deployment.refusal() if self._lane.up else core.bus_down()

    def submit(self, request: Request) -> None:
        """Take a request: it goes to an instance, waits for one, or is refused, at once."""
        deployment = request.deployment
        now = request.began
        self._budget.note_request(now)
        refusal = self.door(deployment)
        if refusal is not None:
            self._settle(request, refusal)
            return
        if not deployment.ready:
            self._holding.take(request, now)
            return
        self._deadlines.set(request, request.deadline)
        if deployment.waiting or not self._launch(request, now):
            deployment.waiting[request] = None

    def submit_copy(self, copy: Copy) -> None:
        """Take a mirrored copy, or drop it when its deployment has enough to do."""
        deployment = copy.deployment
        if not self._lane.up or len(deployment.copies) >= copies_max(len(copy.body)):
            return
        self._deadlines.set(copy, copy.deadline)
        if deployment.waiting or deployment.copies or not self._launch(copy, copy.began):
            deployment.copies[copy] = None

    def abandon(self, request: Request) -> None:
        """The client has gone: a request that waits is dropped, an instance that has it is told."""
        if request.settled:
            return
        if request.flight is None:
            self._settle(request, core.client_left())
        else:  # what runs is counted when it has ended, for it has cost something
            request.left = True
            self._transfers.say_left(request.flight)

    # To the instances

    def _launch(self, request: Request, now: float) -> bool:
        """Send a request to the instance with most room; False when none has any."""
        deployment = request.deployment
        deployment.turn += 1
        instance = core.pick_instance(deployment.ready, deployment.turn)
        if instance is None:
            return False
        number = next(self._numbers)
        deadline_ms = math.floor(1000 * request.deadline - instance.offset.ms)
        head, body = frames.encode(number, deadline_ms, request.meta, request.body)
        # What follows in parts goes the way that they go.
        box = instance.outbox if body is request.body else instance.bus_outbox
        if not self._lane.post(box, head, body):
            return False
        flight = self._flights.take_off(number, request, instance, box, now)
        if body is not request.body:
            self._transfers.send_body(flight)
        return True

    def _pump(self, deployment: Deployment) -> None:
        """Give free slots to those who wait: clients first, then copies."""
        if not self._lane.up:
            return
        now = self._clock.monotonic()
        if deployment.held_since is not None and deployment.ready:
            self._holding.end(deployment, now)
        for queue in (deployment.waiting, deployment.copies):
            while queue:
                request = next(iter(queue))
                if not self._launch(request, now):
                    break
                del queue[request]
        if not deployment.ready:
            for request, reason in self._holding.keep(deployment, now):
                self._settle(request, reason)

    def _retry(self, request: Request, reason: Refusal) -> None:
        """Try once more elsewhere, if the request, the budget and the bus allow it."""
        if self._takes_one_more_try(request):
            self._wait_first(request)
        else:
            self._settle(request, core.client_left() if request.left else reason)

    def _takes_one_more_try(self, request: Request) -> bool:
        deployment = request.deployment
        if request.is_copy or request.left or request.retries >= core.RETRIES_PER_REQUEST_MAX:
            return False
        able = bool(deployment.ready or deployment.route.hold_s)
        allowed = able and self._budget.take(self._clock.monotonic())
        request.retries += allowed
        return allowed

    def _pass_on(self, instance: Instance, box: Outbox | None = None) -> None:
        """What a silent instance has in hand is tried elsewhere too: the first answer counts."""
        for flight, request in self._flights.waited_for(instance, box):
            if instance.deployment.ready and self._takes_one_more_try(request):
                self._flights.pass_on(flight)
                self._wait_first(request)

    def _taken_back(self, request: Request) -> Request | None:
        """A request that was passed on and is answered by the first: nobody else need."""
        if request.settled:
            return None
        if request.flight is not None:
            self._transfers.say_left(request.flight)
            self._flights.let_go(request.flight)
        return request

    def _wait_first(self, request: Request) -> None:
        """Put a request that was in hand already before those that only wait."""
        if request.left:
            self._settle(request, core.client_left())
            return
        deployment = request.deployment
        queue = deployment.copies if request.is_copy else deployment.waiting
        queue[request] = None
        queue.move_to_end(request, last=False)
        self._pump(deployment)

    # From the instances

    def _on_answer(self, subject: str, _reply: str, head: bytes, payload: bytes) -> None:
        instance_id = subject.rpartition(".")[2]
        if head.startswith(NO_RESPONDERS):
            self._on_nobody_there(instance_id)
            return
        at, end = 0, len(payload)
        try:
            while at < end:
                meta, body, at = frames.next_frame(payload, at)
                flight = self._flights.find(meta.get("id"), instance_id)
                if flight is not None:
                    self._on_frame(flight, meta, body)
        except FrameError as error:
            _log.warning("bad_answer", instance=instance_id, error=str(error))

    def _on_frame(self, flight: Flight, meta: dict[str, object], body: bytes) -> None:
        """An answer, or one of several frames of one."""
        if "c" in meta:
            self._on_parts(flight, meta, body)
            return
        request, instance = flight.request, flight.instance
        deployment = instance.deployment
        self._flights.land(flight)
        refused = meta.get("k")
        if refused is None:
            now = self._clock.monotonic()
            deployment.note_service_time(1000 * (now - flight.sent))
            if request is None and flight.passed_on is not None:
                request = self._taken_back(flight.passed_on)
            if request is not None:
                self._ward.note_answer(instance, meta.get("s"), now)
                self._settle(request, ModelAnswer(meta, body), now)
        elif refused == "busy":
            self._leave_alone(instance)
            if request is not None:
                self._wait_first(request)
        else:
            if refused == "draining":
                instance.refuse_all()
            if request is not None:
                self._retry(request, core.refused_by_instances())
        if deployment.waiting or deployment.copies:
            self._pump(deployment)

    def _on_parts(self, flight: Flight, meta: dict[str, object], body: bytes) -> None:
        """One of several frames of an answer."""
        deployment, held = flight.instance.deployment, flight.number in flight.instance.flights
        if self._transfers.hear(flight, meta, body):
            self._flights.land(flight)
        if held and flight.number not in flight.instance.flights:
            deployment.note_service_time(1000 * (self._clock.monotonic() - flight.sent))
            self._pump(deployment)

    def _on_opened(self, stream: AnswerStream, answer: ModelAnswer) -> None:
        """An answer begins: its request is in time."""
        flight, request = stream.flight, stream.request
        self._deadlines.remove(request)
        self._ward.note_answer(flight.instance, answer.meta.get("s"), self._clock.monotonic())
        if "ms" in answer.meta:  # the model has finished; the rest costs it nothing
            self._flights.free_slot(flight)
        request.open(answer)

    def _on_ended(self, stream: AnswerStream, outcome: Outcome) -> None:
        self._flights.let_go(stream.flight)
        self._settle(stream.request, outcome)

    def _on_nobody_there(self, instance_id: str) -> None:
        """A message met no subscriber: its instance is going, or away from the bus.

        The server does not say which message. It handles ours in order and none has been sent
        since the first such notice, so each notice is for the newest one still in flight.
        """
        instance = self._table.instance(instance_id)
        if instance is None or not instance.flights:
            return
        instance.refuse_all()
        self._give_up(self._flights.of_newest_message(instance), core.refused_by_instances())

    def _on_unlinked(self, instance: Instance, box: Outbox) -> None:
        """Its link is lost: what has not left goes by the bus, if anybody is there to get it."""
        if instance.state in GONE:
            self._lose(instance)
        else:
            self._give_up(self._flights.of_message(instance, box, box.message), None)

    def _on_heartbeat(self, subject: str, _reply: str, _head: bytes, payload: bytes) -> None:
        beat = heartbeats.read(subject, payload)
        if beat is None:
            return
        instance = self._table.hear(beat, self._clock.monotonic())
        for flight in instance.excess(beat.in_flight):
            self._flights.forget(flight)
        self._links.hear(instance, beat)
        if instance.state in GONE and not self._links.lingers(instance):
            self._lose(instance)
        self._pump(instance.deployment)

    # What changes over time

    def _on_deadline(self, request: Request) -> None:
        if request.settled:
            return
        flight = request.flight
        if flight is None:
            late = core.expired_waiting()
            if request.is_held:
                late = core.never_started(request.deployment.name)
            self._settle(request, late)
            return
        instance, now = flight.instance, self._clock.monotonic()
        limit_s = request.deployment.timeout_ms / 1000
        is_in_hand = flight.number in instance.flights and flight.number not in instance.doubtful
        self._transfers.say_left(flight)
        self._flights.let_go(flight)
        # What may never have reached it, because the bus broke, is not its fault.
        if is_in_hand and quarantine.is_own_delay(now - flight.sent, limit_s):
            self._ward.note_failure(instance, now)
        self._settle(request, core.too_slow(round(1000 * (request.deadline - request.began))))

    def _look_around(self) -> None:
        self._watch = self._loop.call_later(WATCH_S, self._look_around)
        if not self._lane.up:
            return  # nobody can be heard
        now = self._clock.monotonic()
        self._transfers.look_around(now)
        for instance in self._table.silent_since(now):
            if now - instance.heard < limits.DRAIN_TIMEOUT_S:
                self._pings.ask(instance)
            self._pass_on(instance)
            self._pump(instance.deployment)
        self._links.forget(self._table.forget(now))
        self._peers.forget(now)
        self._table.admit_again(now)
        for instance in self._ward.discharge(now):
            self._pump(instance.deployment)

    def _on_lane_down(self) -> None:
        self._transfers.lose(None, core.bus_lost())
        self._flights.doubt_all()

    def _on_lane_up(self) -> None:
        self._table.forgive(self._clock.monotonic())
        for flight in self._flights:
            if flight.request is None:  # its instance may not have heard that nobody waits
                self._transfers.say_left(flight)
        for deployment in {instance.deployment for instance in self._table.instances()}:
            self._pump(deployment)

    def _leave_alone(self, instance: Instance) -> None:
        if not instance.held:
            instance.held = True
            self._loop.call_later(HOLD_S, self._release, instance)

    def _release(self, instance: Instance) -> None:
        instance.held = False
        self._pump(instance.deployment)

    def _lose(self, instance: Instance) -> None:
        """The instance has ended: what it had in hand is tried elsewhere."""
        instance.deployment.refresh()
        self._links.close(instance)
        self._transfers.lose(instance, core.worker_lost())
        flights = list(instance.flights.values())
        if flights:
            _log.warning("instance_lost", **instance.names, in_flight=len(flights))
        self._give_up(flights, core.worker_lost())

    def _give_up(self, flights: list[Flight], reason: Refusal | None) -> None:
        """No answer will come; without a reason they have not even left."""
        # Each goes to the front, so the oldest comes first.
        for request in reversed(self._flights.land_all(flights)):
            self._retry(request, reason) if reason else self._wait_first(request)

    # Bookkeeping

    def _settle(self, request: Request, outcome: Outcome, now: float | None = None) -> None:
        """Take a request out of everything, and tell whoever asked."""
        request.settled = True
        self._deadlines.remove(request)
        deployment = request.deployment
        queue = deployment.copies if request.is_copy else deployment.waiting
        queue.pop(request, None)
        if request.is_held:
            deployment.held_bytes -= len(request.body)
        request.settle(outcome, (now or self._clock.monotonic()) - request.began)
