"""Keeps what service levels need of each minute, answers how they are kept, and tells of burns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.metering import core, sla_core, sla_state
from headgate.metering.minutes import Place
from headgate.metering.sla_core import Burn, Sli
from headgate.metering.sla_state import Endpoint
from headgate.runtime.answers import Request
from headgate.runtime.bus import Handler
from headgate.runtime.clock import Clock
from headgate.runtime.outbox import Outbox
from headgate.runtime.tables import Database
from headgate_contracts import limits
from headgate_contracts.envelope import Done
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.sla import (
    DeleteObjective,
    GetSla,
    Indicator,
    Objective,
    PutObjective,
    Severity,
    SlaBurning,
    SlaEvent,
    SlaRecovered,
    SlaReply,
)


class Sla:
    """Service levels of all endpoints. Objectives are in memory too: each minute needs them."""

    def __init__(self, database: Database, outbox: Outbox, clock: Clock) -> None:
        self._database = database
        self._outbox = outbox
        self._clock = clock
        self._objectives: dict[Endpoint, Objective] = {}

    def table(self) -> Mapping[Request, Handler]:
        """Which message is answered by which method."""
        return {
            PutObjective: self.put_objective,
            DeleteObjective: self.delete_objective,
            GetSla: self.get_sla,
        }

    async def start(self) -> None:
        async with self._database.reading() as session:
            self._objectives = await sla_state.objectives(session)

    # --- answers ---

    async def put_objective(self, command: PutObjective) -> SlaReply:
        objective = command.objective
        place = (objective.workspace, objective.endpoint)
        async with self._database.transaction() as session:
            await sla_state.save_objective(session, objective)
        self._objectives[place] = objective
        return await self.get_sla(GetSla(workspace=place[0], endpoints=(place[1],)))

    async def delete_objective(self, command: DeleteObjective) -> Done:
        place = (command.workspace, command.endpoint)
        async with self._database.transaction() as session:
            if not await sla_state.delete_objective(session, *place):
                raise HeadgateError(
                    ErrorCode.RESOURCE_NOT_FOUND,
                    f"the endpoint {command.endpoint[:80]!r} has no objective of its own",
                )
        self._objectives.pop(place, None)
        return Done()

    async def get_sla(self, query: GetSla) -> SlaReply:
        workspace, names = query.workspace, query.endpoints
        async with self._database.reading() as session:
            windows = await self._windows(session, workspace, names)
            alerts = await sla_state.alerts(session)
        places = [(workspace, name) for name in names]
        if not names:
            places = sorted({place for sums in windows.values() for place in sums})
        return SlaReply(
            standings=tuple(
                sla_core.standing(
                    self._objective(place),
                    {seconds: sums[place] for seconds, sums in windows.items() if place in sums},
                    alerts.get(place, ()),
                    is_default=place not in self._objectives,
                )
                for place in places
            )
        )

    async def _windows(
        self, session: AsyncSession, workspace: str = "", endpoints: tuple[str, ...] = ()
    ) -> dict[int, dict[Endpoint, Sli]]:
        """Sums by window and endpoint, for answers: of every length that is asked for."""
        days = {self._objective((workspace, name)).window_days for name in endpoints}
        if not endpoints:
            days = {each.window_days for each in self._objectives.values()}
            days.add(Objective.model_fields["window_days"].default)
        wanted = sorted({*sla_core.WINDOWS_S, *(day * sla_core.DAY_S for day in days)})
        now = self._clock.now()
        return {
            seconds: await sla_state.sums(session, now - seconds, workspace, endpoints)
            for seconds in wanted
        }

    def _objective(self, place: Endpoint) -> Objective:
        return self._objectives.get(place) or Objective(workspace=place[0], endpoint=place[1])

    # --- each minute ---

    async def note(
        self, session: AsyncSession, minute: int, found: Mapping[Place, Mapping[str, Any]]
    ) -> None:
        """Keep what a minute says, in the transaction that keeps the minute."""
        slis: dict[Endpoint, Sli] = {}
        for place, value in found.items():
            if place.instance:
                continue
            at = (place.workspace, place.endpoint)
            if place.deployment:
                sli = sla_core.of_deployment(value, self._objective(at).latency_ms)
            else:
                sli = sla_core.of_endpoint(value)
            slis[at] = slis.get(at, Sli()).plus(sli)
        counted = {place: sli for place, sli in slis.items() if any(sli)}
        await sla_state.save_slis(session, minute, counted)

    async def look(self) -> None:
        """Tell of budgets that begin to burn too fast, and of those that do not any more."""
        now = self._clock.now()
        async with self._database.reading() as session:
            windows = {
                seconds: await sla_state.sums(session, now - seconds)
                for seconds in sla_core.WINDOWS_S
            }
            open_alerts = await sla_state.alerts(session)
        places = {place for sums in windows.values() for place in sums} | open_alerts.keys()
        for place in sorted(places):
            slis = {seconds: sums[place] for seconds, sums in windows.items() if place in sums}
            known = {(alert.indicator, alert.severity) for alert in open_alerts.get(place, ())}
            for indicator in Indicator:
                found = sla_core.burning(self._objective(place), indicator, slis)
                for severity, burn in found.items():
                    if (burn is not None) != ((indicator, severity) in known):
                        await self._change(place, indicator, severity, burn, now)

    async def _change(
        self,
        place: Endpoint,
        indicator: Indicator,
        severity: Severity,
        burn: Burn | None,
        now: float,
    ) -> None:
        """An alert begins or ends; it and its event are one transaction."""
        objective = self._objective(place)
        async with self._database.transaction() as session:
            if burn is not None:
                is_new = await sla_state.begin_alert(session, place, indicator, severity, now)
                events = [_burning(objective, severity, burn)] if is_new else []
            else:
                since = await sla_state.end_alert(session, place, indicator, severity)
                ended = since is not None
                events = [_recovered(objective, indicator, severity, since or 0)] if ended else []
            self._outbox.add(session, events)
        self._outbox.wake()

    async def forget(self) -> None:
        """Add old minutes up, and forget what no window reaches."""
        now = self._clock.now()
        before = core.hour_of(now - limits.SLA_MINUTES_KEPT_S)
        may_have_more = True
        while may_have_more:
            async with self._database.transaction() as session:
                may_have_more = await sla_state.fold_an_hour(session, before)
        async with self._database.transaction() as session:
            kept_s = limits.SLA_WINDOW_DAYS_MAX * sla_core.DAY_S
            await sla_state.forget(session, now - kept_s)


def _about(objective: Objective, indicator: Indicator, severity: Severity) -> dict[str, Any]:
    return {
        "workspace": objective.workspace,
        "endpoint": objective.endpoint,
        "indicator": indicator,
        "severity": severity,
        "objective_percent": 100 * (sla_core.target(objective, indicator) or 0.0),
    }


def _burning(objective: Objective, severity: Severity, burn: Burn) -> SlaEvent:
    rule = burn.rule
    return SlaBurning(
        **_about(objective, burn.indicator, severity),
        burn_rate=round(burn.rate, 2),
        threshold=rule.threshold,
        long_window_s=rule.long_s,
        short_window_s=rule.short_s,
        message=f"the {burn.indicator} of the endpoint {objective.endpoint!r} uses its budget "
        f"{burn.rate:.1f} times as fast as it may, over {rule.long_s // 60} minutes and still now",
    )


def _recovered(
    objective: Objective, indicator: Indicator, severity: Severity, since: float
) -> SlaEvent:
    return SlaRecovered(
        **_about(objective, indicator, severity),
        since=since,
        message=f"the {indicator} of the endpoint {objective.endpoint!r} is within its budget "
        "again",
    )
