"""Where one request's time went, for requests that ask for it; the others pay for one look.

A request is traced when it has the header ``x-headgate-trace``, or when the dice say so (setting
``trace_share``). Its spans follow one another and add up to its total time.
"""

from __future__ import annotations

import random

from headgate.router.answers import ModelAnswer
from headgate.router.core import Refusal
from headgate.router.requests import Outcome
from headgate.router.traffic_log import Arrival, RowLog
from headgate.runtime.bus import Bus
from headgate_contracts.logs import TraceLogged, TraceRow

ROWS_PER_S = 100
_NO = frozenset(("", "0", "false", "no", "off"))


class Trace:
    """One request under way. Times are the router's monotonic clock."""

    __slots__ = ("_log", "first", "held_ms", "instance", "sent", "tries")

    def __init__(self, log: TraceLog) -> None:
        self._log = log
        self.instance = ""
        self.tries = 0
        self.sent = 0.0  # to an instance, the last time
        self.first = 0.0  # the answer, or the first part of one
        self.held_ms = 0.0  # how long the instance says that it had it until then

    def now(self) -> float:
        return self._log.clock.monotonic()

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
            ran_ms = held_ms if in_parts or given is None else 1000 * given.compute_s
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
        )
        self._log.add(row)


class TraceLog(RowLog[TraceRow]):
    """Traces of one router."""

    def __init__(self, bus: Bus, writer: str, share: float) -> None:
        super().__init__(bus, writer, TraceLogged)
        self.clock = bus.clock
        self.share = share
        self._dice = random.Random()  # noqa: S311 - which requests are looked at is no secret
        self._left = ROWS_PER_S

    def begin(self, asked: str) -> Trace | None:
        """A trace, for a request that asks for it or that is drawn."""
        if asked.strip().lower() in _NO and self._dice.random() >= self.share:
            return None
        return Trace(self)

    def add(self, row: TraceRow) -> None:
        if self._left > 0:
            self._left -= 1
            self.rows.append(row)
        else:
            self.lost[row.workspace] += 1

    async def say(self) -> None:
        self._left = ROWS_PER_S
        await super().say()


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
