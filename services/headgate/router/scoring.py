"""One scoring request from any edge: key, plan, admission, dispatch, answer.

An edge calls :meth:`Scoring.admit` as soon as it has the headers, before it reads the body, and
:meth:`Scoring.submit` when it has the body. Both work at once; the answer comes by callback.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Collection
from typing import Final

from headgate.router import answers, core, frames
from headgate.router.answers import Answer, ModelAnswer
from headgate.router.arrivals import Arrival, Target
from headgate.router.core import Plan, Refusal
from headgate.router.dispatch import Dispatcher
from headgate.router.headers import Head, Ids
from headgate.router.lane import Lane
from headgate.router.requests import Copy, Outcome, Request
from headgate.router.spool import RequestBody, Spool, Spools
from headgate.router.streams import AnswerStream
from headgate.router.table import Deployment, Endpoint, Table
from headgate.router.tokens import TokenGate
from headgate.router.trace import Trace, TraceLog
from headgate.router.traffic_log import TrafficLog
from headgate.router.usage_journal import Journal
from headgate.router.uuids import Uuids
from headgate.runtime.clock import Clock
from headgate_contracts import limits

Reply = Callable[[Answer], None]
OPENED_MAX = 64  # ways to write the keys of one endpoint
_BEARER = "bearer "
_uuids: Final = Uuids()


class Records:
    """What becomes of requests is written down: in the usage journal, and in the traffic log."""

    __slots__ = ("allowance", "log", "usage")

    def __init__(self, usage: Journal, log: TrafficLog) -> None:
        self.usage = usage
        self.log = log
        self.allowance = log.allowance

    def refuse(self, arrival: Arrival, refusal: Refusal, deployment: str = "") -> Answer:
        """The answer for a request that is not begun."""
        status = refusal.status
        self.usage.note_answer(arrival, deployment, status)
        if self.allowance.takes(arrival, status):
            self.log.note(arrival, deployment, status, refusal)
        return answers.of_refusal(refusal, arrival.ids, deployment, arrival.target.path)


class Admission:
    """A request that may send its body."""

    __slots__ = ("arrival", "endpoint", "plan", "records")

    def __init__(self, endpoint: Endpoint, arrival: Arrival, plan: Plan, records: Records) -> None:
        self.endpoint = endpoint
        self.arrival = arrival
        self.plan = plan
        self.records = records

    def refuse(self, refusal: Refusal) -> Answer:
        """An answer for a request that its edge refuses after all."""
        self.endpoint.refused[refusal.status] += 1
        return self.records.refuse(self.arrival, refusal)


class ClientRequest(Request):
    """A request whose answer goes to a client.

    ``stream`` is its answer once that has begun, and ``status`` what its client was told then.
    """

    __slots__ = ("admission", "reply", "status", "stream", "trace")

    def __init__(
        self,
        deployment: Deployment,
        meta: str,
        body: RequestBody,
        began: float,
        deadline: float,
        admission: Admission,
        reply: Reply,
        trace: Trace | None,
    ) -> None:
        super().__init__(deployment, meta, body, began, deadline)
        self.trace = trace
        self.admission = admission
        self.reply: Reply | None = reply
        self.status = core.CLIENT_CLOSED
        self.stream: AnswerStream | None = None

    def open(self, answer: ModelAnswer) -> None:
        self.stream = answer.stream
        if self.trace is not None:
            self.trace.note_answer(answer, self.trace.now())
        self._tell(answers.of_model(answer, self.deployment.name, self.admission.arrival.ids))

    def _tell(self, answer: Answer) -> None:
        reply, self.reply = self.reply, None
        if reply is not None:
            self.status = answer.status
            if self.trace is not None:
                answer.add("traceresponse", self.trace.response)
            reply(answer)

    def settle(self, outcome: Outcome, elapsed_s: float) -> None:
        deployment, arrival = self.deployment, self.admission.arrival
        records = self.admission.records
        given = outcome if isinstance(outcome, ModelAnswer) else None
        answer, response_bytes = None, 0
        if self.stream is not None:
            response_bytes = self.stream.taken
            if isinstance(outcome, Refusal):
                self.status = outcome.status  # its client has seen the break, not this
        elif self.reply is not None:
            if isinstance(outcome, ModelAnswer):
                answer = answers.of_model(outcome, deployment.name, arrival.ids)
            else:
                path = arrival.target.path
                answer = answers.of_refusal(outcome, arrival.ids, deployment.name, path)
            self.status, response_bytes = answer.status, len(answer.body)
        if self.trace is not None and given is not None and self.stream is None:
            self.trace.note_answer(given, self.began + elapsed_s)
        status, request_bytes = self.status, len(self.body)
        records.usage.note_answer(
            arrival, deployment.name, status, given, request_bytes, response_bytes
        )
        if answer is not None:
            self._tell(answer)
        deployment.traffic.note(status, elapsed_s, given, request_bytes, response_bytes)
        if records.allowance.takes(arrival, status):
            body_s = self.began - arrival.began
            records.log.note(
                arrival,
                deployment.name,
                status,
                outcome,
                body_s=body_s,
                total_s=body_s + elapsed_s,
                request_bytes=request_bytes,
                response_bytes=response_bytes,
            )
        if self.trace is not None:
            self.trace.note_end(
                arrival,
                deployment.name,
                status,
                outcome,
                self.began,
                request_bytes,
                response_bytes,
                in_parts=self.stream is not None,
            )


class Scoring:
    """What all edges share."""

    def __init__(
        self,
        table: Table,
        dispatcher: Dispatcher,
        lane: Lane,
        gate: TokenGate,
        clock: Clock,
        traffic_log: TrafficLog,
        traces: TraceLog,
        usage: Journal,
        body_bytes_max: int,
        spools: Spools,
    ) -> None:
        self._table = table
        self._records = Records(usage, traffic_log)
        self._gate = gate
        self._dispatcher = dispatcher
        self._lane = lane
        self._clock = clock
        self._spools = spools
        self._traces = traces
        self.body_bytes_max = body_bytes_max
        self._dice = random.Random()  # noqa: S311 - shares of traffic are no secret

    @property
    def message_bytes_max(self) -> int:
        """What a body may have to reach an instance in one message."""
        return self._lane.payload_bytes_max - limits.SCORING_OVERHEAD_BYTES

    def see_connections(self, live: Collection[object]) -> None:
        """Those of clients that are open, as a set that changes with them."""
        self._table.meters.connections = live

    def spool(self, body: bytes) -> Spool:
        """A larger one, that begins so. Raises SpoolError."""
        return self._spools.spool(body)

    def admit(
        self, name: str, head: Head, target: Target, client: object = None
    ) -> Admission | Answer:
        """Whether a request may go on, decided from its headers. ``client``: its connection.

        The target's path is ``/score``, which stands for the deployment's scoring path, or another.
        """
        ids = new_ids(head)
        endpoint = self._table.endpoint(name)
        caller = self._caller(endpoint, head)
        if endpoint is None or endpoint.route is None:
            return answers.of_refusal(core.no_endpoint(name), ids, path=target.path)
        known, refusal = (caller, None) if isinstance(caller, str) else ("", caller)
        arrival = Arrival(
            endpoint.workspace, name, head, ids, target, self._clock.monotonic(), known
        )
        if refusal is None and not head.is_known:
            refusal = head.refusal() or self._too_large(head)
        if endpoint.quotas is not None and refusal is None:
            refusal = endpoint.quotas.refusal(known, client, arrival.began)
        plan = refusal or self._choose(endpoint, head)
        if isinstance(plan, Refusal):
            endpoint.refused[plan.status] += 1
            return self._records.refuse(arrival, plan)
        deployment = endpoint.deployment(plan.primary)
        refusal = self._dispatcher.door(deployment)
        if refusal is not None:
            deployment.traffic.note_refused(refusal.status)
            return self._records.refuse(arrival, refusal, deployment.name)
        return Admission(endpoint, arrival, plan, self._records)

    def submit(
        self, admission: Admission, query: str, body: RequestBody, reply: Reply
    ) -> ClientRequest | None:
        """Score; ``reply`` is called once, maybe before this returns (then there is no request)."""
        endpoint, plan, arrival = admission.endpoint, admission.plan, admission.arrival
        head, ids, target = arrival.head, arrival.ids, arrival.target
        primary = self._deployment(endpoint, plan.primary)
        if primary is None:
            reply(admission.refuse(core.not_ready(plan.primary)))  # deleted since the headers came
            return None
        timeout_ms = core.deadline_ms(primary.timeout_ms, head.timeout_ms)
        if isinstance(timeout_ms, Refusal):
            reply(admission.refuse(timeout_ms))
            return None
        began = self._clock.monotonic()
        if endpoint.quotas is not None:
            tolls = endpoint.quotas.enter(arrival.caller, began)
            if isinstance(tolls, Refusal):
                reply(admission.refuse(tolls))
                return None
            arrival.tolls = tolls
        path = _at(target.path, primary)
        meta = ids.told + frames.encode_request(target.method, path, query, head.encoded)
        trace = None
        if head.trace or self._traces.looks:
            trace = self._traces.begin(head, arrival.workspace)
        asked = meta
        if trace is not None:
            told = frames.encode_request(target.method, path, query, trace.encoded(head))
            asked = f"{frames.TRACED}{ids.told}{told}"
        deadline = began + timeout_ms / 1000
        request = ClientRequest(primary, asked, body, began, deadline, admission, reply, trace)
        request.is_patient = not head.timeout_ms
        self._dispatcher.submit(request)
        mirror = self._deployment(endpoint, plan.mirror) if plan.mirror else None
        if mirror is not None:
            deadline = began + mirror.timeout_ms / 1000
            if mirror.scoring_path != primary.scoring_path:
                path = _at(target.path, mirror)
                told = frames.encode_request(target.method, path, query, head.encoded)
                meta = ids.told + told
            usage = self._records.usage
            self._dispatcher.submit_copy(Copy(mirror, meta, body, began, deadline, usage))
        return request

    def leave(self, request: ClientRequest) -> None:
        """The client has gone: what waits is dropped, and an instance is told."""
        request.reply = None
        if request.stream is not None:
            request.stream.leave()
        else:
            self._dispatcher.abandon(request)

    def _caller(self, endpoint: Endpoint | None, head: Head) -> str | Refusal:
        """Who calls: the id of the key, or whom the token speaks for.

        Also without an endpoint something is compared: its absence takes as long. A header that
        has opened the endpoint is known until the route changes. Asking for it is a look-up by
        hash, whose time tells nothing of how near a wrong one comes.
        """
        if endpoint is not None:
            known = endpoint.opened.get(head.authorization)
            if known is not None:
                return known
        credential = _presented(head.authorization)
        digest = hashlib.sha256(credential).digest()
        route = endpoint.route if endpoint else None
        if route is not None and route.auth_mode != "key":
            return self._gate.caller(route, credential, digest, self._clock.now())
        if not core.is_authorized(digest, endpoint.digests if endpoint else None):
            return core.not_authorized()
        assert endpoint is not None
        caller = endpoint.key_ids[digest]
        if len(endpoint.opened) < OPENED_MAX:
            endpoint.opened[head.authorization] = caller
        return caller

    def _choose(self, endpoint: Endpoint, head: Head) -> Plan | Refusal:
        if endpoint.usual is not None and not head.deployment:
            return endpoint.usual
        assert endpoint.route is not None
        return core.choose(
            endpoint.route, head.deployment, self._dice.random(), self._dice.random()
        )

    def _too_large(self, head: Head) -> Refusal | None:
        bytes_max = self.body_bytes_max
        length = head.content_length
        if len(length) > 19 or int(length or 0) > bytes_max:
            return core.too_large(bytes_max)
        body_bytes = int(length or 0)
        if body_bytes > self.message_bytes_max and not self._spools.has_room(body_bytes):
            return core.no_room()
        return None

    def _deployment(self, endpoint: Endpoint, name: str) -> Deployment | None:
        """The deployment, while the route still has it."""
        if endpoint.route is None or name not in endpoint.route.deployments:
            return None
        return endpoint.deployment(name)


def new_ids(head: Head) -> Ids:
    return Ids(head, _uuids.new())


def _at(path: str, deployment: Deployment) -> str:
    """The path as this deployment's server knows it: ``/score`` is its scoring path."""
    scoring_path = deployment.scoring_path
    if scoring_path == "/score" or not (path == "/score" or path.startswith("/score/")):
        return path
    return scoring_path + path[len("/score") :]


def _presented(authorization: str) -> bytes:
    if authorization[: len(_BEARER)].lower() != _BEARER:
        return b""
    return authorization[len(_BEARER) :].strip().encode("latin-1", "replace")
