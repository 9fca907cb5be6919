"""Alert rules: their answers, and the events that become deliveries.

Events are read from their stream by number, and a delivery is kept in the transaction that says how
far they have been read: none is missed and none kept twice, whatever dies when. While there are no
rules nothing is read.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from nats.errors import Error as NatsError
from nats.js.api import RawStreamMsg
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.metering import alert_core, alert_state
from headgate.metering.rows import AlertRuleRow, DeliveryRow, PositionRow
from headgate.runtime.answers import Request
from headgate.runtime.bus import Bus, Handler
from headgate.runtime.clock import new_id
from headgate.runtime.intake import LOOK_S, LOOK_S_MAX, Intake, Source
from headgate.runtime.log import Log
from headgate.runtime.remote import Remote, check
from headgate.runtime.tables import Database
from headgate.runtime.vault import Vault
from headgate_contracts import limits, streams, subjects
from headgate_contracts.alerts import (
    SECRET_CHARS_MIN,
    AlertRule,
    AlertRulesReply,
    AlertRuleStanding,
    DeleteAlertRule,
    DeliveriesReply,
    DeliveryState,
    ListAlertRules,
    ListDeliveries,
    PutAlertRule,
    SendTestAlert,
    Topic,
)
from headgate_contracts.envelope import Done
from headgate_contracts.errors import ErrorCode, HeadgateError

SOURCE = Source(streams.EVENTS.name, subjects.EVENT_ALL, name="alerts")
_SECRET_BYTES = 32

_log = Log("metering")


class Alerts:
    """Rules and the queue of deliveries; ``woken`` is set when there is something to deliver."""

    def __init__(self, bus: Bus, database: Database, vault: Vault, remote: Remote) -> None:
        self.woken = asyncio.Event()
        self._bus = bus
        self._database = database
        self._vault = vault
        self._remote = remote
        self._intake = Intake(bus, database, PositionRow, SOURCE, self._take, self._wake)
        self._rules: list[AlertRule] = []
        self._has_rules = asyncio.Event()
        self._has_added = False

    def table(self) -> Mapping[Request, Handler]:
        """Which message is answered by which method."""
        return {
            PutAlertRule: self.put_rule,
            DeleteAlertRule: self.delete_rule,
            SendTestAlert: self.send_test,
            ListAlertRules: self.list_rules,
            ListDeliveries: self.list_deliveries,
        }

    async def start(self) -> None:
        await self._read_rules()

    async def run(self) -> None:
        """Make deliveries of events, for ever."""
        while True:
            await self._has_rules.wait()
            try:
                wait_s = 0.0 if await self._intake.step() else LOOK_S
            except (NatsError, HeadgateError, TimeoutError) as error:
                _log.warning("alerts_wait", error=str(error) or type(error).__name__)
                wait_s = LOOK_S_MAX
            await asyncio.sleep(wait_s)

    async def _take(self, session: AsyncSession, messages: Sequence[RawStreamMsg]) -> None:
        for message in messages:
            try:
                event = json.loads(message.data or b"")
                topic = alert_core.topic_of(message.subject or "", event)
                if topic is None:
                    continue
                event_id = str(event["id"])
                for rule in alert_core.wanted(self._rules, topic, event):
                    await self._add(session, rule, topic, event, event_id)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                _log.error("bad_event", subject=message.subject, error=repr(error))

    def _wake(self) -> None:
        if self._has_added:
            self._has_added = False
            self.woken.set()

    async def _add(
        self,
        session: AsyncSession,
        rule: AlertRule,
        topic: Topic,
        event: Mapping[str, Any],
        event_id: str,
    ) -> DeliveryRow:
        now, delivery_id = self._bus.clock.now(), new_id()
        row = DeliveryRow(
            id=delivery_id,
            workspace=rule.workspace,
            rule=rule.name,
            topic=topic.value,
            event_id=event_id,
            body=alert_core.body(delivery_id, rule, topic, event),
            state=DeliveryState.WAITING.value,
            created_at=now,
            due_at=now,
        )
        await alert_state.add(session, row)
        self._has_added = True
        return row

    async def _read_rules(self) -> None:
        async with self._database.reading() as session:
            self._rules = [alert_state.rule_of(row) for row in await alert_state.rules(session)]
        if self._rules:
            self._has_rules.set()
        else:
            self._has_rules.clear()

    # --- answers ---

    async def put_rule(self, command: PutAlertRule) -> AlertRulesReply:
        rule, secret = command.rule, command.secret
        self._check(rule)
        if secret and len(secret) < SECRET_CHARS_MIN:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"a secret has at least {SECRET_CHARS_MIN} characters",
                target="secret",
            )
        last = None if self._rules else await self._last_event()
        async with self._database.transaction() as session:
            known = await session.get(AlertRuleRow, (rule.workspace, rule.name))
            count = len(await alert_state.rules(session, rule.workspace))
            if known is None and count >= limits.ALERT_RULES_PER_WORKSPACE_MAX:
                raise HeadgateError(
                    ErrorCode.QUOTA_EXCEEDED, f"the workspace has {count} alert rules, the most"
                )
            made = "" if known or secret else secrets.token_hex(_SECRET_BYTES)
            sealed = known.sealed if known else ""
            if secret or made:
                sealed = self._vault.seal(place_of(rule), secret or made)
            await session.merge(
                AlertRuleRow(
                    workspace=rule.workspace,
                    name=rule.name,
                    value=rule.model_dump_json(),
                    sealed=sealed,
                    created_at=known.created_at if known else self._bus.clock.now(),
                )
            )
            if last is not None:  # the first rule is about what happens from now on
                await self._intake.set_position(session, last)
        await self._read_rules()
        query = ListAlertRules(workspace=rule.workspace, name=rule.name)
        return (await self.list_rules(query)).model_copy(update={"secret": made})

    def _check(self, rule: AlertRule) -> None:
        """Refuse an address that no alert may go to, before anything waits for it."""
        if Topic.TEST in rule.topics:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                "tests are no topic of a rule; send one with 'headgate alert test'",
                target="topics",
            )
        try:
            check(rule.url, self._remote.allowed, self._remote.networks)
        except HeadgateError as error:
            raise HeadgateError(
                error.error.code, not_allowed(rule.url, self._remote), target="url"
            ) from None

    async def _last_event(self) -> int:
        try:
            found = await self._bus.js.stream_info(streams.EVENTS.name)
        except (NatsError, TimeoutError) as error:
            text = str(error) or type(error).__name__
            raise HeadgateError(
                ErrorCode.UNAVAILABLE, f"the stream of events does not answer: {text}"
            ) from None
        return found.state.last_seq

    async def delete_rule(self, command: DeleteAlertRule) -> Done:
        async with self._database.transaction() as session:
            if not await alert_state.delete_rule(session, command.workspace, command.name):
                raise _no_rule(command.name)
        await self._read_rules()
        return Done()

    async def send_test(self, command: SendTestAlert) -> DeliveriesReply:
        async with self._database.transaction() as session:
            row = await session.get(AlertRuleRow, (command.workspace, command.name))
            if row is None:
                raise _no_rule(command.name)
            rule, event_id = alert_state.rule_of(row), new_id()
            event = alert_core.trial_event(rule, event_id, self._bus.clock.now())
            made = alert_state.told(await self._add(session, rule, Topic.TEST, event, event_id))
        self.woken.set()
        return DeliveriesReply(deliveries=(made,))

    async def list_rules(self, query: ListAlertRules) -> AlertRulesReply:
        async with self._database.reading() as session:
            rows = await alert_state.rules(session, query.workspace)
            counts = await alert_state.counts(session, query.workspace)
        found = [
            AlertRuleStanding(
                rule=alert_state.rule_of(row),
                **{each.value: counts.get((row.name, each.value), 0) for each in DeliveryState},
            )
            for row in rows
            if query.name in ("", row.name)
        ]
        if query.name and not found:
            raise _no_rule(query.name)
        return AlertRulesReply(rules=tuple(found))

    async def list_deliveries(self, query: ListDeliveries) -> DeliveriesReply:
        async with self._database.reading() as session:
            found = await alert_state.deliveries(session, query.workspace, query.rule, query.limit)
        return DeliveriesReply(deliveries=tuple(found))


def place_of(rule: AlertRule) -> str:
    """Where the secret of a rule is sealed for."""
    return f"alert/{rule.workspace}/{rule.name}"


def not_allowed(url: str, remote: Remote) -> str:
    """What is told of an address that no alert may go to; it may hold a secret in its query."""
    listed = " ".join(remote.allowed) or "none"
    return (
        f"{url.partition('?')[0][:200]!r}: alerts may not go there. They go to public addresses "
        f"that the administrator lists in the setting alert_urls (listed: {listed}), and to those "
        "of the setting alert_networks"
    )


def _no_rule(name: str) -> HeadgateError:
    return HeadgateError(
        ErrorCode.RESOURCE_NOT_FOUND, f"there is no alert rule {name[:80]!r}", target="name"
    )
