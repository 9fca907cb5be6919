"""Sends deliveries to their addresses, again and again until they are answered or too old."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass

from headgate.metering import alert_core, alert_state, alerts
from headgate.metering.alert_core import SIGNATURE_HEADER
from headgate.metering.alerts import Alerts
from headgate.metering.rows import AlertRuleRow, DeliveryRow
from headgate.runtime.clock import Clock
from headgate.runtime.log import Log
from headgate.runtime.remote import Remote
from headgate.runtime.tables import Database
from headgate.runtime.vault import SealedWithAnotherKeyError, Vault
from headgate_contracts import limits
from headgate_contracts.alerts import AlertRule, DeliveryState
from headgate_contracts.errors import ErrorCode, HeadgateError

LOOK_S_MAX = 30.0
"""Another process of this service may have put something into the queue."""
LOOK_S_MIN = 0.2
_ERROR_CHARS_MAX = 500

_log = Log("metering")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one try went: the answer's status, or why there was none."""

    status: int = 0
    error: str = ""


class Deliverer:
    """The loop that empties the queue."""

    def __init__(
        self, database: Database, queue: Alerts, vault: Vault, remote: Remote, clock: Clock
    ) -> None:
        self._database = database
        self._queue = queue
        self._vault = vault
        self._remote = remote
        self._clock = clock
        self._dice = random.Random()  # noqa: S311 - spreads tries, keeps no secret

    async def run(self) -> None:
        """Deliver for ever."""
        while True:
            self._queue.woken.clear()
            wait_s = LOOK_S_MAX
            try:
                while await self.step():
                    pass
                wait_s = await self._wait_s()
            except HeadgateError as error:  # the database is away
                _log.warning("deliveries_wait", error=str(error))
            await asyncio.sleep(LOOK_S_MIN)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._queue.woken.wait()

    async def _wait_s(self) -> float:
        async with self._database.reading() as session:
            due_at = await alert_state.next_due(session)
        if due_at is None:
            return LOOK_S_MAX
        return max(0.0, min(LOOK_S_MAX, due_at - self._clock.now()))

    async def step(self) -> bool:
        """Try those that are due, some at once; whether there were any."""
        async with self._database.reading() as session:
            due = await alert_state.due(session, self._clock.now(), limits.DELIVERIES_AT_ONCE_MAX)
            rules = {
                (row.workspace, row.rule): await session.get(
                    AlertRuleRow, (row.workspace, row.rule)
                )
                for row in due
            }
        outcomes = await asyncio.gather(
            *(self._send(row, rules[row.workspace, row.rule]) for row in due)
        )
        if due:
            async with self._database.transaction() as session:
                for row, outcome in zip(due, outcomes, strict=True):
                    kept = await session.get(DeliveryRow, row.number)
                    if kept is not None:  # its rule may have gone meanwhile
                        self._note(kept, outcome)
                        session.add(kept)
        return bool(due)

    def _note(self, row: DeliveryRow, outcome: Outcome) -> None:
        now = self._clock.now()
        row.attempts += 1
        row.status, row.error = outcome.status, outcome.error[:_ERROR_CHARS_MAX]
        if alert_core.is_delivered(outcome.status):
            row.state, row.ended_at = DeliveryState.DELIVERED.value, now
            return
        due_at = alert_core.next_try(row.attempts, row.created_at, now, self._dice.random())
        _log.warning(
            "delivery_failed",
            rule=row.rule,
            topic=row.topic,
            attempts=row.attempts,
            status=row.status,
            error=row.error,
            is_given_up=due_at is None,
        )
        if due_at is None:
            row.state, row.ended_at = DeliveryState.GIVEN_UP.value, now
        else:
            row.due_at = due_at

    async def _send(self, row: DeliveryRow, rule_row: AlertRuleRow | None) -> Outcome:
        if rule_row is None:
            return Outcome(error="its rule is gone")
        rule = alert_state.rule_of(rule_row)
        try:
            secret = self._vault.unseal(alerts.place_of(rule), rule_row.sealed)
        except SealedWithAnotherKeyError:
            return Outcome(error="the rule's secret cannot be opened; set it again")
        headers = {
            "Content-Type": "application/json",
            "Headgate-Delivery": row.id,
            "Headgate-Topic": row.topic,
            SIGNATURE_HEADER: alert_core.signature(secret, row.body, self._clock.now()),
        }
        return await self._post(rule, row.body, headers)

    async def _post(self, rule: AlertRule, body: str, headers: dict[str, str]) -> Outcome:
        try:
            status = await self._remote.post(rule.url, body.encode(), headers)
        except HeadgateError as error:
            if error.error.code is ErrorCode.URI_NOT_ALLOWED:
                return Outcome(error=alerts.not_allowed(rule.url, self._remote))
            return Outcome(error=str(error))
        if alert_core.is_delivered(status):
            return Outcome(status)
        return Outcome(status, f"the receiver answered {status}")
