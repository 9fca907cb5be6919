"""Where one request's time went, for requests that ask for it; the others pay for one look.

A request is traced when it has the header ``x-headgate-trace``, when its caller traces it (where
traces are exported), or when the dice say so (setting ``trace_share``). Its spans follow one
another and add up to its total time. It is part of its caller's trace, or of one of its own, and
the model is told of ``run()``'s own span as the parent of what happens in there.
"""

from __future__ import annotations

import random

from headgate.router.answers import ModelAnswer
from headgate.router.arrivals import Arrival
from headgate.router.core import Refusal
from headgate.router.frames import encode_pairs
from headgate.router.headers import Head
from headgate.router.requests import Outcome
from headgate.router.traffic_log import PATH_CHARS_MAX, RowLog
from headgate.runtime import tracing
from headgate.runtime.bus import Bus
from headgate_contracts.logs import TraceLogged, TraceRow

ROWS_PER_S = 100
_NO = frozenset(("", "0", "false", "no", "off"))


class Trace:
    """One request under way. Times are the router's monotonic clock."""

    __slots__ = (
        "_log", "_parent", "_run_id", "_span", "first", "held_ms", "instance", "sent", "tries",
    )  # fmt: skip

    def __init__(self, log: TraceLog, parent: tracing.Context | None) -> None:
        self._log = log
        self._parent = parent
        self._span = tracing.new_context(parent)
        self._run_id = tracing.derived_id(self._span.span_id, "run")
        self.instance = ""
        self.tries = 0
        self.sent = 0.0  # to an instance, the last time
        self.first = 0.0  # the answer, or the first part of one
        self.held_ms = 0.0  # how long the instance says that it had it until then

    def now(self) -> float:
        return self._log.clock.monotonic()

    @property
    def response(self) -> str:
        """The header ``traceresponse``: what the client may look for."""
        return self._span.traceparent

    def encoded(self, head: Head) -> str:
        """The headers for the model, as :attr:`Head.encoded`, with ``run()`` as the caller."""
        dropped = (tracing.TRACEPARENT, "" if self._parent else tracing.TRACESTATE)
        told = [pair for pair in head.forwarded if pair[0] not in dropped]
        told.append((tracing.TRACEPARENT, self._span._replace(span_id=self._run_id).traceparent))
        return encode_pairs(told)

    def note_sent(self, instance: str, now: float) -> None:
        self.instance, self.sent = instance, now
        self.tries += 1

    def note_answer(self, given: ModelAnswer, now: float) -> None:
        """The answer is here, or its first part."""
        held = given.meta.get("held")
        self.first = now
        self.held_ms = float(held) if isinstance(held, int | float) else 0.0

    def note_end(
        self,
        arrival: Arrival,
        deployment: str,
        status: int,
        outcome: Outcome,
        submitted: float,
        request_bytes: int,
        response_bytes: int,
        *,
        in_parts: bool,
    ) -> None:
        """Nothing more of it will come: its row is kept."""
        given, now = outcome if isinstance(outcome, ModelAnswer) else None, self.now()
        waited_until = self.sent or now
        bus_ms = worker_ms = model_ms = answer_ms = None
        if self.first:
            answer_ms = _ms(now - self.first)
            away_ms = 1000 * (self.first - self.sent)
            held_ms = min(self.held_ms, away_ms)
            ran_ms = held_ms if in_parts or given is None else given.compute_us / 1000
            model_ms = min(ran_ms, held_ms)
            bus_ms, worker_ms = round(away_ms - held_ms, 3), round(held_ms - model_ms, 3)
        elif self.sent:
            bus_ms = _ms(now - self.sent)  # or in the instance: it has not said
        row = TraceRow.model_construct(
            at=self._log.clock.now(),
            workspace=arrival.workspace,
            endpoint=arrival.endpoint,
            deployment=deployment,
            instance=self.instance,
            router=self._log.writer,
            request_id=arrival.ids.request,
            status=status,
            reason=outcome.code if isinstance(outcome, Refusal) else "",
            tries=self.tries,
            request_bytes=request_bytes,
            response_bytes=response_bytes,
            in_parts=int(in_parts),
            total_ms=_ms(now - arrival.began),
            edge_ms=_ms(submitted - arrival.began),
            queue_ms=_ms(waited_until - submitted),
            bus_ms=bus_ms,
            worker_ms=worker_ms,
            model_ms=None if model_ms is None else round(model_ms, 3),
            answer_ms=answer_ms,
            trace_id=self._span.trace_id,
            span_id=self._span.span_id,
            parent_id=self._parent.span_id if self._parent else "",
            trace_state=self._span.state,
            run_id=self._run_id,
            method=arrival.target.method,
            path=arrival.target.path[:PATH_CHARS_MAX],
        )
        self._log.rows.append(row)


class TraceLog(RowLog[TraceRow]):
    """Traces of one router."""

    def __init__(self, bus: Bus, writer: str, share: float, *, follows: bool) -> None:
        """``follows``: a caller that traces a request wants it traced here as well."""
        super().__init__(bus, writer, TraceLogged)
        self.clock = bus.clock
        self.looks = follows or share > 0  # at requests that do not ask
        self._share = share
        self._follows = follows
        self._dice = random.Random()  # noqa: S311 - which requests are looked at is no secret
        self._left = ROWS_PER_S

    def begin(self, head: Head, workspace: str) -> Trace | None:
        """A trace, for a request that asks for it, whose caller wants it, or that is drawn."""
        caller = head.caller
        if not self._wanted(head.trace, caller):
            return None
        if self._left <= 0:
            self.lost[workspace] += 1
            return None
        self._left -= 1
        return Trace(self, caller)

    def _wanted(self, asked: str, caller: tracing.Context | None) -> bool:
        if asked and asked.strip().lower() not in _NO:
            return True
        if caller is not None and self._follows:
            return caller.is_sampled
        return self._share > 0 and self._dice.random() < self._share

    async def say(self) -> None:
        self._left = ROWS_PER_S
        await super().say()


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
