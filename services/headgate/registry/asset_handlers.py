"""The registry's answers about models, environments and code versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headgate.registry import asset_state, assets, core, state
from headgate.registry.assets import LATEST, Asset, AssetSpec, kind_of
from headgate.registry.handlers import fitting
from headgate.runtime.answers import Request
from headgate.runtime.bus import Handler
from headgate.runtime.clock import Clock, new_id
from headgate.runtime.outbox import Outbox
from headgate.runtime.tables import Database
from headgate_contracts import registry
from headgate_contracts.errors import ErrorCode
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
            registry.GetAsset: self.get,
            registry.ListAssets: self.list,
        }

    async def put(
        self, command: registry.PutModel | registry.PutEnvironment | registry.PutCode
    ) -> registry.AssetReply:
        asset, created = await self._register(command.workspace, command.spec, command.id)
        return _reply(asset, created)

    async def _register(self, workspace: str, spec: AssetSpec, cause: str) -> tuple[Asset, bool]:
        core.check_workspace(workspace)
        kind = kind_of(spec)
        async with self.database.transaction() as session:
            stored = await asset_state.version(session, workspace, kind, spec.name, spec.version)
            number = await asset_state.next_number(session, workspace, kind, spec.name)
            moment = await state.moment(session, self.clock.now(), new_id())
            asset = assets.put(workspace, spec, stored, number, moment)
            if asset is not stored:
                await state.spend_revision(session, moment)
                await asset_state.save(session, asset)
            if stored is None:
                self.outbox.add(session, (assets.registered(asset),), cause=cause)
        self.outbox.wake()
        return asset, stored is None

    async def get(self, query: registry.GetAsset) -> registry.AssetReply:
        version = query.version.removeprefix("@") or LATEST
        async with self.database.reading() as session:
            found = await asset_state.find(
                session, query.workspace, query.kind, query.name, version
            )
        if found is None:
            raise core.error(
                ErrorCode.RESOURCE_NOT_FOUND,
                f"there is no version {version[:80]!r} of {query.name[:80]!r} "
                f"among the {query.kind} of this workspace",
            )
        return _reply(found, created=False)

    async def list(self, query: registry.ListAssets) -> registry.AssetsReply:
        async with self.database.reading() as session:
            found = await asset_state.listed(
                session, query.workspace, query.kind, query.name, query.sha256, query.limit
            )
        return fitting(
            registry.AssetsReply(
                models=tuple(each for each in found if isinstance(each, Model)),
                environments=tuple(each for each in found if isinstance(each, Environment)),
                codes=tuple(each for each in found if isinstance(each, Code)),
            )
        )


def _reply(asset: Asset, created: bool) -> registry.AssetReply:
    return registry.AssetReply(
        model=asset if isinstance(asset, Model) else None,
        environment=asset if isinstance(asset, Environment) else None,
        code=asset if isinstance(asset, Code) else None,
        created=created,
    )
