"""The registry's answers about models, environments, code and data versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headgate.registry import asset_state, assets, core, state, usage
from headgate.registry.assets import LATEST, Asset, PutAsset, kind_of
from headgate.registry.handlers import fitting
from headgate.runtime.answers import Request
from headgate.runtime.bus import Handler
from headgate.runtime.clock import Clock, new_id
from headgate.runtime.outbox import Outbox
from headgate.runtime.tables import Database
from headgate_contracts import assets as messages
from headgate_contracts import registry, storage
from headgate_contracts.assets import Data
from headgate_contracts.envelope import Done
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import Code, Environment, Model


@dataclass(frozen=True, slots=True)
class AssetHandlers:
    """Everything the answers need, and one method per message."""

    database: Database
    outbox: Outbox
    clock: Clock

    def table(self) -> Mapping[Request, Handler]:
        """Which message is answered by which method."""
        return {
            registry.PutModel: self.put,
            registry.PutEnvironment: self.put,
            registry.PutCode: self.put,
            messages.PutData: self.put,
            messages.ArchiveAsset: self.archive,
            messages.DeleteAsset: self.delete,
            registry.GetAsset: self.get,
            registry.ListAssets: self.list,
        }

    async def put(self, command: PutAsset) -> registry.AssetReply:
        core.check_workspace(command.workspace)
        workspace, spec = command.workspace, command.spec
        kind = kind_of(spec)
        async with self.database.transaction() as session:
            stored = await asset_state.version(session, workspace, kind, spec.name, spec.version)
            number = await asset_state.next_number(session, workspace, kind, spec.name)
            moment = await state.moment(session, self.clock.now(), new_id(), by=command.by)
            asset = assets.put(command, stored, number, moment)
            if asset is not stored:
                await state.spend_revision(session, moment)
                await asset_state.save(session, asset)
            self.outbox.add(session, assets.events_of(stored, asset), cause=command.id)
        self.outbox.wake()
        return _reply(asset, stored is None)

    async def archive(self, command: messages.ArchiveAsset) -> Done:
        async with self.database.transaction() as session:
            found = await asset_state.versions(
                session, command.workspace, command.kind, command.name, command.version
            )
            if not found:
                raise _absent(command.kind, command.name, command.version)
            moment = await state.moment(session, self.clock.now(), new_id(), by=command.by)
            for stored in found:
                asset = assets.archive(stored, command, moment)
                if asset is not stored:
                    await state.spend_revision(session, moment)
                    await asset_state.save(session, asset)
                    self.outbox.add(session, assets.events_of(stored, asset), cause=command.id)
        self.outbox.wake()
        return Done()

    async def delete(self, command: messages.DeleteAsset) -> storage.RemovedReply:
        async with self.database.transaction() as session:
            found = await asset_state.versions(
                session, command.workspace, command.kind, command.name, command.version
            )
            users = await usage.of_asset(session, command.workspace, command.name)
            assets.check_deletion(found, command, users.get(command.kind, {}))
            for asset in found:
                await asset_state.remove(session, asset)
                self.outbox.add(session, assets.events_of(asset, None), cause=command.id)
        self.outbox.wake()
        return storage.RemovedReply(existed=bool(found))

    async def get(self, query: registry.GetAsset) -> registry.AssetReply:
        version = query.version.removeprefix("@") or LATEST
        async with self.database.reading() as session:
            found = await asset_state.find(
                session, query.workspace, query.kind, query.name, version
            )
        if found is None:
            raise _absent(query.kind, query.name, version)
        return _reply(found, created=False)

    async def list(self, query: registry.ListAssets) -> registry.AssetsReply:
        if query.after and (query.name or query.sha256) and not query.after.isdecimal():
            raise core.error(ErrorCode.BAD_ARGUMENT, "this cursor is of another list", "after")
        async with self.database.reading() as session:
            found, after = await asset_state.listed(session, query)
        return fitting(
            registry.AssetsReply(
                models=tuple(each for each in found if isinstance(each, Model)),
                environments=tuple(each for each in found if isinstance(each, Environment)),
                codes=tuple(each for each in found if isinstance(each, Code)),
                data=tuple(each for each in found if isinstance(each, Data)),
                after=after,
            )
        )


def _absent(kind: messages.AssetKind, name: str, version: str) -> HeadgateError:
    what = f"version {version[:80]!r} of {name[:80]!r}" if version else f"{name[:80]!r}"
    return core.error(
        ErrorCode.RESOURCE_NOT_FOUND, f"there is no {what} among the {kind} of this workspace"
    )


def _reply(asset: Asset, created: bool) -> registry.AssetReply:
    return registry.AssetReply(
        model=asset if isinstance(asset, Model) else None,
        environment=asset if isinstance(asset, Environment) else None,
        code=asset if isinstance(asset, Code) else None,
        data=asset if isinstance(asset, Data) else None,
        created=created,
    )
