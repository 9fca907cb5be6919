"""The traffic log: a row per scoring request, off the scoring path.

A request costs a look at a counter, and one that is kept a row in memory; a loop says what was
gathered once a second, many rows in one message. An endpoint has so many rows per second, the last
fifth of them for requests that failed; what is beyond is counted, and the count is said as well.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from nats.errors import Error as NatsError

from headgate.router.answers import ModelAnswer
from headgate.router.arrivals import Allowance, Arrival
from headgate.router.core import Refusal
from headgate.router.headers import Head
from headgate.router.requests import Outcome
from headgate.runtime.bus import Bus, event_headers
from headgate.runtime.clock import new_id
from headgate.runtime.log import Log
from headgate_contracts.logs import TraceLogged, TraceRow, TrafficLogged, TrafficRow

SAY_EVERY_S = 1.0
ROWS_HELD_MAX = 5_000
ROWS_PER_MESSAGE = 100
FAILED_SHARE = 0.2
USER_AGENT_CHARS_MAX = 70
PATH_CHARS_MAX = 256

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_log = Log("router")


Row = TypeVar("Row", TrafficRow, TraceRow)


class RowLog(Generic[Row]):
    """Rows of one router on their way to a log table; ``lost`` counts the others, by workspace."""

    def __init__(self, bus: Bus, writer: str, event: type[TrafficLogged | TraceLogged]) -> None:
        self.writer = writer
        self.rows: list[Row] = []
        self.lost: Counter[str] = Counter()
        self._bus = bus
        self._event: Any = event  # whose rows are of this kind

    async def run(self) -> None:
        """Say what there is, once a second, for ever."""
        while True:
            await asyncio.sleep(SAY_EVERY_S)
            await self.say()

    async def say(self) -> None:
        """Say what there is; what cannot be said now is lost, and counted."""
        rows, self.rows = self.rows, []
        if not rows and not self.lost:
            return
        for start in range(0, len(rows) or 1, ROWS_PER_MESSAGE):
            part = tuple(rows[start : start + ROWS_PER_MESSAGE])
            lost, self.lost = self.lost, Counter()
            event = self._event.model_construct(writer=self.writer, rows=part, lost=dict(lost))
            event = event.stamped(id=new_id(), at=self._bus.clock.now())
            try:
                await self._bus.publish_stored_event(
                    event.subject(),
                    event.model_dump_json().encode(),
                    event_headers(event, self._bus.service),
                )
            except (NatsError, TimeoutError, ConnectionError) as error:
                text = str(error) or type(error).__name__
                _log.warning("log_rows_lost", log=event.LOG, rows=len(part), error=text)
                self.lost += lost + Counter(row.workspace for row in part)


class TrafficLog(RowLog[TrafficRow]):
    """A row per request. ``rows_per_s`` 0: none."""

    def __init__(self, bus: Bus, writer: str, rows_per_s: int) -> None:
        super().__init__(bus, writer, TrafficLogged)
        self.allowance = Allowance(rows_per_s, int(FAILED_SHARE * rows_per_s))

    def note(
        self,
        arrival: Arrival,
        deployment: str,
        status: int,
        outcome: Outcome,
        *,
        body_s: float = 0.0,
        total_s: float = 0.0,
        request_bytes: int = 0,
        response_bytes: int = 0,
    ) -> None:
        """A request has ended, for which there is a row. ``body_s``: until its body was there."""
        if len(self.rows) >= ROWS_HELD_MAX:
            self.lost[arrival.workspace] += 1
            return
        model_status, response_ms = None, None
        if isinstance(outcome, ModelAnswer):
            given = outcome.meta.get("s")
            model_status = given if type(given) is int else None
            response_ms = _ms(total_s)
        target = arrival.target
        self.rows.append(
            TrafficRow.model_construct(
                at=self._bus.clock.now(),
                workspace=arrival.workspace,
                endpoint=arrival.endpoint,
                deployment=deployment,
                method=target.method,
                path=target.path[:PATH_CHARS_MAX],
                protocol=target.protocol,
                status=status,
                reason=outcome.code if isinstance(outcome, Refusal) else _PHRASES.get(status, ""),
                model_status=model_status,
                model_reason=_PHRASES.get(model_status or 0, ""),
                request_bytes=request_bytes,
                response_bytes=response_bytes,
                user_agent=_user_agent(arrival.head),
                request_id=arrival.ids.request,
                client_request_id=arrival.ids.client,
                total_ms=_ms(total_s),
                request_ms=_ms(body_s),
                response_ms=response_ms,
            )
        )

    async def say(self) -> None:
        self.lost += Counter(self.allowance.renew())
        await super().say()


def _user_agent(head: Head) -> str:
    for name, value in head.forwarded:
        if name == "user-agent":
            return value[:USER_AGENT_CHARS_MAX]
    return ""


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
