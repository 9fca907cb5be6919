"""Hands what the tables take in to an OpenTelemetry collector as well, when there is one.

At most once, after the tables have it: a collector that is away costs traces, never rows.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable

from headgate.logs.spans import line_of, spans_of
from headgate.runtime.clock import Clock
from headgate.runtime.tracing import Sink
from headgate_contracts.logs import ConsoleLogged, ConsoleRow, LogRows, TraceLogged, TraceRow

TRACE_WAIT_S = 5.0  # a line comes before its request has ended, and before its router says so
LOOK_S = 0.5
LINES_HELD_MAX = 10_000
TRACES_KNOWN_MAX = 10_000


class Export:
    """Spans of traced requests, and lines of logs with the trace of their request."""

    def __init__(self, sink: Sink, clock: Clock) -> None:
        self._sink = sink
        self._clock = clock
        self._traces: OrderedDict[tuple[str, str], TraceRow] = OrderedDict()
        self._held: deque[tuple[float, ConsoleRow]] = deque()  # in the order of their deadlines

    def add(self, said: Iterable[LogRows]) -> None:
        """Rows that the tables have now."""
        for message in said:
            if isinstance(message, TraceLogged):
                for trace in message.rows:
                    self._add_trace(trace)
            elif isinstance(message, ConsoleLogged):
                self._add_lines(message.rows)

    async def run(self) -> None:
        """Let lines go that have waited long enough, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.let_go(self._clock.monotonic())

    def let_go(self, now: float) -> None:
        """Export the lines whose time has come; those of a request that is traced say so."""
        due = []
        while self._held and (self._held[0][0] <= now or len(self._held) > LINES_HELD_MAX):
            due.append(self._held.popleft()[1])
        self._sink.lines(line_of(row, self._trace_of(row)) for row in due)

    def _add_trace(self, trace: TraceRow) -> None:
        if not trace.trace_id:
            return  # of a router that is older than we are
        self._sink.spans(spans_of(trace))
        self._traces[trace.endpoint, trace.request_id] = trace
        if len(self._traces) > TRACES_KNOWN_MAX:
            self._traces.popitem(last=False)

    def _add_lines(self, rows: Iterable[ConsoleRow]) -> None:
        until = self._clock.monotonic() + TRACE_WAIT_S
        ready = []
        for row in rows:
            if row.request_id and self._trace_of(row) is None:
                self._held.append((until, row))
            else:
                ready.append(row)
        self._sink.lines(line_of(row, self._trace_of(row)) for row in ready)

    def _trace_of(self, row: ConsoleRow) -> TraceRow | None:
        return self._traces.get((row.endpoint, row.request_id))
