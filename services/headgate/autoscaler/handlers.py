"""The autoscaler's answers about settings and decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from headgate.autoscaler import core, state, trial
from headgate.autoscaler.scaler import Scaler
from headgate.autoscaler.simulation import simulate
from headgate.runtime.answers import Request
from headgate.runtime.bus import Bus, Handler
from headgate.runtime.clock import Clock
from headgate.runtime.outbox import Outbox
from headgate.runtime.tables import Database
from headgate_contracts import autoscale
from headgate_contracts.autoscale import AutoscaleSetting
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.registry import DeploymentReply, EndpointReply, GetDeployment, GetEndpoint
from headgate_contracts.simulations import SimulateAutoscale, SimulationReply
from headgate_contracts.storage import RemovedReply


@dataclass(frozen=True, slots=True)
class Handlers:
    """Everything the answers need, and one method per message."""

    database: Database
    outbox: Outbox
    bus: Bus
    scaler: Scaler
    clock: Clock
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    def table(self) -> Mapping[Request, Handler]:
        """Which message is answered by which method."""
        return {
            autoscale.PutAutoscaleSetting: self.put_setting,
            autoscale.DeleteAutoscaleSetting: self.delete_setting,
            autoscale.GetAutoscaleSetting: self.get_setting,
            autoscale.ListAutoscaleSettings: self.list_settings,
            autoscale.ListDecisions: self.list_decisions,
            SimulateAutoscale: self.simulate,
        }

    async def put_setting(
        self, command: autoscale.PutAutoscaleSetting
    ) -> autoscale.AutoscaleSettingReply:
        spec, workspace = command.spec, command.workspace
        key = (spec.endpoint, spec.deployment)
        query = GetDeployment(workspace=workspace, endpoint=key[0], name=key[1])
        core.check(spec, (await self.bus.ask(query, DeploymentReply)).deployment)
        await self._check_resources(workspace, spec)
        now = self.clock.now()
        async with self.database.transaction() as session:
            stored = await state.setting(session, workspace, spec.name)
            core.check_put(command, stored)
            other = await state.setting_of(session, key)
            if other is not None and other.workspace != workspace:
                await state.forget_setting(session, other)  # of a deployment that is no more
            elif other is not None and other.spec.name != spec.name:
                raise core.has_another(spec, other)
            if stored is not None and stored.spec == spec:
                return autoscale.AutoscaleSettingReply(setting=stored)
            if stored is None:
                core.check_room(await state.count_settings(session))
            revision = await state.next_revision(session)
            touched = {"revision": revision, "updated_at": now, "updated_by": command.by}
            setting = AutoscaleSetting(
                workspace=workspace,
                spec=spec,
                created_at=stored.created_at if stored else now,
                created_by=stored.created_by if stored else command.by,
                **touched,
            )
            await state.save_setting(session, setting)
            event = autoscale.AutoscaleSettingPut(
                **_about(setting), setting=spec.name, revision=revision
            )
            self.outbox.add(session, (event,), cause=command.id)
        self.outbox.wake()
        self.scaler.look_again()
        return autoscale.AutoscaleSettingReply(setting=setting, created=stored is None)

    async def _check_resources(self, workspace: str, spec: autoscale.AutoscaleSpec) -> None:
        """Rules may look at what is in the workspace, and at nothing else."""
        wanted = {
            core.resource_of(r.trigger.resource, spec) for p in spec.profiles for r in p.rules
        }
        for endpoint, deployment in sorted(wanted):
            if deployment:
                asked = GetDeployment(workspace=workspace, endpoint=endpoint, name=deployment)
                await self.bus.ask(asked, DeploymentReply)
            else:
                await self.bus.ask(GetEndpoint(workspace=workspace, name=endpoint), EndpointReply)

    async def delete_setting(self, command: autoscale.DeleteAutoscaleSetting) -> RemovedReply:
        async with self.database.transaction() as session:
            stored = await state.setting(session, command.workspace, command.name)
            if command.if_revision is not None:
                core.check_revision(command.name, command.if_revision, stored)
            if stored is None:
                return RemovedReply(existed=False)
            await state.forget_setting(session, stored)
            event = autoscale.AutoscaleSettingDeleted(**_about(stored), setting=command.name)
            self.outbox.add(session, (event,), cause=command.id)
        self.outbox.wake()
        self.scaler.look_again()
        return RemovedReply(existed=True)

    async def get_setting(
        self, query: autoscale.GetAutoscaleSetting
    ) -> autoscale.AutoscaleSettingReply:
        async with self.database.reading() as session:
            found = await state.setting(session, query.workspace, query.name)
        if found is None:
            raise HeadgateError(
                ErrorCode.RESOURCE_NOT_FOUND,
                f"there is no autoscale setting {query.name[:80]!r} in this workspace",
                target=query.name[:80],
            )
        return autoscale.AutoscaleSettingReply(setting=found)

    async def list_settings(
        self, query: autoscale.ListAutoscaleSettings
    ) -> autoscale.AutoscaleSettingsReply:
        async with self.database.reading() as session:
            found, after = await state.settings(session, query)
        return autoscale.AutoscaleSettingsReply(settings=tuple(found), after=after)

    async def list_decisions(self, query: autoscale.ListDecisions) -> autoscale.DecisionsReply:
        async with self.database.reading() as session:
            found = await state.decisions(session, query)
        return autoscale.DecisionsReply(decisions=tuple(found))

    async def simulate(self, query: SimulateAutoscale) -> SimulationReply:
        """One at a time and in a thread: a day takes about half a second."""
        spec = query.spec
        asked = GetDeployment(
            workspace=query.workspace, endpoint=spec.endpoint, name=spec.deployment
        )
        deployment = (await self.bus.ask(asked, DeploymentReply)).deployment
        core.check(spec, deployment)
        scenario = trial.scenario(query, deployment.spec)
        async with self.one_at_a_time:
            trace = await asyncio.to_thread(simulate, scenario)
        return trial.told(trace, query)


def _about(setting: AutoscaleSetting) -> dict[str, str]:
    spec = setting.spec
    return {
        "workspace": setting.workspace,
        "endpoint": spec.endpoint,
        "deployment": spec.deployment,
    }
