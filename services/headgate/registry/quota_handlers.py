"""The registry's answers about quotas, and how it tells of what they refuse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headgate.registry import core, quota_state, quotas, things
from headgate.registry.quotas import Exceeded
from headgate.registry.relay import Relay
from headgate.runtime.answers import Request
from headgate.runtime.bus import Handler
from headgate.runtime.clock import Clock
from headgate.runtime.outbox import Outbox
from headgate.runtime.tables import Database
from headgate_contracts import limits
from headgate_contracts.envelope import Done
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.quotas import (
    DeleteQuota,
    ListQuotas,
    PutQuota,
    QuotaChanged,
    QuotasReply,
)


@dataclass(slots=True)
class Refusals:
    """Tells of refused changes, each quota and place at most once a minute."""

    database: Database
    outbox: Outbox
    clock: Clock
    _told: dict[tuple[str, ...], float] = field(default_factory=dict)

    async def refuse(self, found: Exceeded) -> HeadgateError:
        """The error to raise, once the event is kept."""
        now, quota = self.clock.now(), found.quota
        since = now - limits.QUOTA_TOLD_EVERY_S
        self._told = {key: at for key, at in self._told.items() if at > since}
        key = (quota.workspace, quota.name, *found.place)
        if key not in self._told:
            self._told[key] = now
            async with self.database.transaction() as session:
                self.outbox.add(session, (found.event(),))
            self.outbox.wake()
        return found.error()


@dataclass(frozen=True, slots=True)
class QuotaHandlers:
    """One method per message."""

    database: Database
    outbox: Outbox
    relay: Relay
    clock: Clock

    def table(self) -> Mapping[Request, Handler]:
        """Which message is answered by which method."""
        return {
            PutQuota: self.put_quota,
            DeleteQuota: self.delete_quota,
            ListQuotas: self.list_quotas,
        }

    async def put_quota(self, command: PutQuota) -> QuotasReply:
        quota = command.quota
        async with self.database.transaction() as session:
            known = await quota_state.find(session, quota.workspace, quota.name)
            others = 0 if known else await things.count(session, quota_state.KIND, quota.workspace)
            quotas.check(quota, others)
            if known != quota:
                await quota_state.save(session, quota, self.clock.now(), command.by)
                event = QuotaChanged(
                    **_about(quota.workspace, quota.name), kind=quota.kind, limit=quota.limit
                )
                self.outbox.add(session, (event,), cause=command.id)
            endpoints = await quota_state.endpoint_names(session, quota.workspace)
        self._wake(endpoints)
        return await self.list_quotas(ListQuotas(workspace=quota.workspace, name=quota.name))

    async def delete_quota(self, command: DeleteQuota) -> Done:
        workspace, name = command.workspace, command.name
        async with self.database.transaction() as session:
            known = await quota_state.find(session, workspace, name)
            if known is None:
                raise _no_quota(name)
            await things.drop(session, workspace, quota_state.KIND, name)
            event = QuotaChanged(**_about(workspace, name), kind=known.kind)
            self.outbox.add(session, (event,), cause=command.id)
            endpoints = await quota_state.endpoint_names(session, workspace)
        self._wake(endpoints)
        return Done()

    async def list_quotas(self, query: ListQuotas) -> QuotasReply:
        async with self.database.reading() as session:
            found = await quota_state.all_quotas(session, query.workspace)
            if query.name:
                found = [each for each in found if each.name == query.name]
                if not found:
                    raise _no_quota(query.name)
            held = await quota_state.holdings(session, query.workspace)
        return QuotasReply(quotas=tuple(found), uses=tuple(quotas.told(found, held)))

    def _wake(self, endpoints: list[str]) -> None:
        self.outbox.wake()
        for endpoint in endpoints:
            self.relay.wake(endpoint)


def _about(workspace: str, name: str) -> dict[str, str]:
    return {"workspace": workspace, "quota": name}


def _no_quota(name: str) -> HeadgateError:
    return core.error(ErrorCode.RESOURCE_NOT_FOUND, f"there is no quota {name[:80]!r}", "name")
