"""The registry's answers about datastores, computes and workspaces.

A datastore's secret is sealed before it is stored, for its workspace and name only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.registry import core, state, storage, things, usage
from headgate.registry.handlers import fitting
from headgate.registry.rows import ThingRow
from headgate.registry.things import COMPUTES
from headgate.runtime.answers import Request
from headgate.runtime.bus import Handler
from headgate.runtime.clock import Clock, new_id
from headgate.runtime.outbox import Outbox
from headgate.runtime.tables import Database
from headgate.runtime.vault import SealedWithAnotherKeyError, Vault
from headgate_contracts import storage as messages
from headgate_contracts.errors import ErrorCode
from headgate_contracts.instance_types import InstanceTypes
from headgate_contracts.storage import Compute, ComputeSpec, Datastore, DatastoreSpec, ThingEvent

DATASTORES = "datastores"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StorageHandlers:
    """Everything the answers need, and one method per message."""

    database: Database
    outbox: Outbox
    vault: Vault
    clock: Clock
    sizes: InstanceTypes

    def table(self) -> Mapping[Request, Handler]:
        """Which message is answered by which method."""
        return {
            messages.PutDatastore: self.put_datastore,
            messages.DeleteDatastore: self.delete_datastore,
            messages.GetDatastore: self.get_datastore,
            messages.ListDatastores: self.list_datastores,
            messages.GetDatastoreSecret: self.get_secret,
            messages.PutCompute: self.put_compute,
            messages.DeleteCompute: self.delete_compute,
            messages.GetCompute: self.get_compute,
            messages.ListComputes: self.list_computes,
            messages.ListWorkspaces: self.list_workspaces,
        }

    # --- datastores ---

    async def put_datastore(self, command: messages.PutDatastore) -> messages.DatastoreReply:
        workspace, spec = command.workspace, command.spec
        async with self.database.transaction() as session:
            row = await things.find(session, workspace, DATASTORES, spec.name)
            count = await things.count(session, DATASTORES, workspace)
            moment = await state.moment(session, self.clock.now(), new_id(), by=command.by)
            change = storage.put_datastore(command, _datastore(row) if row else None, count, moment)
            if change.event is not None:
                await state.spend_revision(session, moment)
                sealed = row.sealed if row else ""
                if command.secret:
                    sealed = self.vault.seal(_place(workspace, spec.name), command.secret)
                if spec.credentials.type == "none":
                    sealed = ""
                await things.save(session, _row(DATASTORES, change.value, sealed))
                self.outbox.add(session, (change.event,), cause=command.id)
        self.outbox.wake()
        return messages.DatastoreReply(datastore=change.value, created=change.created)

    async def delete_datastore(self, command: messages.DeleteDatastore) -> messages.RemovedReply:
        async with self.database.transaction() as session:
            row = await things.find(session, command.workspace, DATASTORES, command.name)
            event = storage.delete_datastore(command, _datastore(row) if row else None)
            await self._drop(session, DATASTORES, command, event)
        self.outbox.wake()
        return messages.RemovedReply(existed=event is not None)

    async def get_datastore(self, query: messages.GetDatastore) -> messages.DatastoreReply:
        found, _ = await self._datastore(query.workspace, query.name)
        return messages.DatastoreReply(datastore=found)

    async def get_secret(self, query: messages.GetDatastoreSecret) -> messages.DatastoreSecretReply:
        found, sealed = await self._datastore(query.workspace, query.name)
        if not sealed:
            return messages.DatastoreSecretReply(datastore=found)
        try:
            secret = self.vault.unseal(_place(query.workspace, query.name), sealed)
        except SealedWithAnotherKeyError:
            raise core.error(
                ErrorCode.INTERNAL,
                f"the secret of the datastore {query.name!r} was sealed with another master key "
                "than the present one; put that file back, or give the secret again",
            ) from None
        return messages.DatastoreSecretReply(datastore=found, secret=secret)

    async def _datastore(self, workspace: str, name: str) -> tuple[Datastore, str]:
        """The datastore and its sealed secret."""
        if found := storage.built_in(workspace).get(name):
            return found, ""
        async with self.database.reading() as session:
            row = await things.find(session, workspace, DATASTORES, name)
        if row is None:
            raise storage.absent("datastore", name)
        return _datastore(row), row.sealed

    async def list_datastores(self, query: messages.ListDatastores) -> messages.DatastoresReply:
        async with self.database.reading() as session:
            rows = await things.page(
                session, query.workspace, DATASTORES, query.after, query.limit + 1
            )
        fixed = storage.built_in(query.workspace).values()
        own = [each for each in fixed if each.spec.name > query.after]
        found = sorted([*own, *map(_datastore, rows)], key=lambda each: each.spec.name)
        page, after = _cut(found, query.limit, lambda each: each.spec.name)
        return fitting(messages.DatastoresReply(datastores=tuple(page), after=after))

    # --- computes ---

    async def put_compute(self, command: messages.PutCompute) -> messages.ComputeReply:
        workspace, spec = command.workspace, command.spec
        async with self.database.transaction() as session:
            row = await things.find(session, workspace, COMPUTES, spec.name)
            count = await things.count(session, COMPUTES, workspace)
            moment = await state.moment(session, self.clock.now(), new_id(), by=command.by)
            stored = _compute(row) if row else None
            change = storage.put_compute(command, stored, count, self.sizes, moment)
            if change.event is not None:
                await state.spend_revision(session, moment)
                await things.save(session, _row(COMPUTES, change.value))
                self.outbox.add(session, (change.event,), cause=command.id)
        self.outbox.wake()
        return messages.ComputeReply(compute=change.value, created=change.created)

    async def delete_compute(self, command: messages.DeleteCompute) -> messages.RemovedReply:
        async with self.database.transaction() as session:
            row = await things.find(session, command.workspace, COMPUTES, command.name)
            user = await usage.of_compute(session, command.workspace, command.name)
            event = storage.delete_compute(command, _compute(row) if row else None, user)
            await self._drop(session, COMPUTES, command, event)
        self.outbox.wake()
        return messages.RemovedReply(existed=event is not None)

    async def get_compute(self, query: messages.GetCompute) -> messages.ComputeReply:
        async with self.database.reading() as session:
            row = await things.find(session, query.workspace, COMPUTES, query.name)
        if row is None:
            raise storage.absent("compute", query.name)
        return messages.ComputeReply(compute=_compute(row))

    async def list_computes(self, query: messages.ListComputes) -> messages.ComputesReply:
        async with self.database.reading() as session:
            rows = await things.page(
                session, query.workspace, COMPUTES, query.after, query.limit + 1
            )
        page, after = _cut([_compute(row) for row in rows], query.limit, lambda c: c.spec.name)
        return fitting(messages.ComputesReply(computes=tuple(page), after=after))

    # --- workspaces ---

    async def list_workspaces(self, query: messages.ListWorkspaces) -> messages.WorkspacesReply:
        async with self.database.reading() as session:
            found = await usage.workspaces(session, query.name, query.after, query.limit + 1)
        page, after = _cut(found, query.limit, lambda each: each.name)
        return messages.WorkspacesReply(workspaces=tuple(page), after=after)

    async def _drop(
        self, session: AsyncSession, kind: str, command: storage.Delete, event: ThingEvent | None
    ) -> None:
        if event is not None:
            await things.drop(session, command.workspace, kind, command.name)
            self.outbox.add(session, (event,), cause=command.id)


def _cut(found: Sequence[T], limit: int, name: Callable[[T], str]) -> tuple[Sequence[T], str]:
    """A page, and the cursor of the next one if there is one."""
    page = found[:limit]
    return page, name(page[-1]) if len(found) > limit else ""


def _place(workspace: str, name: str) -> str:
    """Where a secret is sealed for; another place cannot open it."""
    return f"datastore/{workspace}/{name}"


def _datastore(row: ThingRow) -> Datastore:
    return Datastore(spec=DatastoreSpec.model_validate_json(row.spec), **things.stamps(row))


def _compute(row: ThingRow) -> Compute:
    return Compute(spec=ComputeSpec.model_validate_json(row.spec), **things.stamps(row))


def _row(kind: str, value: Datastore | Compute, sealed: str = "") -> ThingRow:
    return ThingRow(
        kind=kind,
        name=value.spec.name,
        spec=value.spec.model_dump_json(),
        sealed=sealed,
        **things.stamps(value),
    )
