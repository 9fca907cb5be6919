"""The registry's answers about endpoints, deployments, keys and operations.

A command: load, decide, store rows and events in one transaction, then wake what carries them on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from headgate.registry import (
    asset_state,
    assets,
    core,
    deployments,
    endpoints,
    quota_state,
    scaling,
    state,
)
from headgate.registry.keys import Vault
from headgate.registry.quota_handlers import Refusals
from headgate.registry.records import Group, Keys, Moment, Outcome
from headgate.registry.relay import Relay
from headgate.runtime.answers import Request
from headgate.runtime.bus import Handler
from headgate.runtime.clock import Clock, new_id
from headgate.runtime.outbox import Outbox
from headgate.runtime.tables import Database
from headgate_contracts import limits, power, refreshing, registry
from headgate_contracts.envelope import Command, Done, Reply
from headgate_contracts.errors import ErrorCode
from headgate_contracts.instance_types import InstanceTypes
from headgate_contracts.resources import DeploymentSpec, EndpointKeys, KeyType

R = TypeVar("R", bound=Reply)
Decide = Callable[[Group | None, Moment], Outcome]

# A reply must fit one message; above this a list has to be asked for in parts.
_REPLY_BYTES_MAX = limits.BUS_PAYLOAD_BYTES_MAX - 64 * 1024


@dataclass(frozen=True, slots=True)
class Handlers:
    """Everything the answers need, and one method per message."""

    database: Database
    outbox: Outbox
    relay: Relay
    vault: Vault
    clock: Clock
    sizes: InstanceTypes
    refusals: Refusals

    def table(self) -> Mapping[Request, Handler]:
        """Which message is answered by which method."""
        return {
            registry.PutEndpoint: self.put_endpoint,
            registry.DeleteEndpoint: self.delete_endpoint,
            registry.GetEndpoint: self.get_endpoint,
            registry.ListEndpoints: self.list_endpoints,
            registry.ListKeys: self.list_keys,
            registry.RegenerateKey: self.regenerate_key,
            registry.PutDeployment: self.put_deployment,
            registry.DeleteDeployment: self.delete_deployment,
            power.StopDeployment: self.set_power,
            power.StartDeployment: self.set_power,
            power.ScaleDeployment: self.scale_deployment,
            refreshing.RefreshDeployment: self.refresh_deployment,
            registry.GetDeployment: self.get_deployment,
            registry.ListDeployments: self.list_deployments,
            registry.ReportDeployment: self.report_deployment,
            registry.GetOperation: self.get_operation,
        }

    # --- endpoints ---

    async def put_endpoint(self, command: registry.PutEndpoint) -> registry.EndpointReply:
        name = command.spec.name
        keys = self._new_keys(name, command.keys)
        outcome = await self._decide(
            name, command, lambda group, now: endpoints.put(group, command, keys, now)
        )
        assert outcome.group is not None
        return registry.EndpointReply(
            endpoint=outcome.group.endpoint.value,
            operation=outcome.operations[0],
            created=outcome.created,
        )

    async def delete_endpoint(self, command: registry.DeleteEndpoint) -> registry.OperationReply:
        outcome = await self._decide(
            command.name, command, lambda group, now: endpoints.delete(group, command, now)
        )
        return registry.OperationReply(operation=next(iter(outcome.operations), None))

    async def get_endpoint(self, query: registry.GetEndpoint) -> registry.EndpointReply:
        async with self.database.reading() as session:
            found = await state.endpoint(session, query.workspace, query.name)
        if found is None:
            raise core.absent_endpoint(query.name)
        return registry.EndpointReply(endpoint=found)

    async def list_endpoints(self, query: registry.ListEndpoints) -> registry.EndpointsReply:
        async with self.database.reading() as session:
            page = await state.endpoints(session, query.workspace, query.after, query.limit + 1)
        shown = tuple(page[: query.limit])
        after = shown[-1].spec.name if len(page) > query.limit else ""
        return fitting(registry.EndpointsReply(endpoints=shown, after=after))

    async def list_keys(self, query: registry.ListKeys) -> registry.KeysReply:
        async with self.database.reading() as session:
            group = await state.group(session, query.endpoint)
        return self._opened(core.visible(group, query.workspace, query.endpoint))

    async def regenerate_key(self, command: registry.RegenerateKey) -> registry.KeysReply:
        name, key_type = command.endpoint, command.key_type
        fresh = self.vault.fresh(name, key_type)
        given = self.vault.stored(name, key_type, command.value) if command.value else None
        outcome = await self._decide(
            name,
            command,
            lambda group, now: endpoints.regenerate_key(group, command, fresh, given, now),
        )
        assert outcome.group is not None
        return self._opened(outcome.group)

    def _new_keys(self, endpoint: str, given: EndpointKeys | None) -> Keys:
        if given is None:
            make = self.vault.fresh
            return Keys(make(endpoint, KeyType.PRIMARY), make(endpoint, KeyType.SECONDARY))
        return Keys(
            self.vault.stored(endpoint, KeyType.PRIMARY, given.primary_key),
            self.vault.stored(endpoint, KeyType.SECONDARY, given.secondary_key),
        )

    def _opened(self, group: Group) -> registry.KeysReply:
        keys, open_ = group.endpoint.keys, self.vault.opened
        return registry.KeysReply(
            keys=EndpointKeys(
                primary_key=open_(group.name, KeyType.PRIMARY, keys.primary),
                secondary_key=open_(group.name, KeyType.SECONDARY, keys.secondary),
            )
        )

    # --- deployments ---

    async def put_deployment(self, command: registry.PutDeployment) -> registry.DeploymentReply:
        spec = command.spec
        wanted = await self._resolved(command)
        outcome = await self._decide(
            spec.endpoint_name,
            command,
            lambda group, now: deployments.put(group, command, wanted, now),
            uses=(command.workspace, wanted.spec),
        )
        assert outcome.group is not None
        return registry.DeploymentReply(
            deployment=outcome.group.deployments[spec.name].value,
            operation=outcome.operations[0],
            created=outcome.created,
        )

    async def _resolved(self, command: registry.PutDeployment) -> deployments.Resolved:
        """The wanted deployment with exact versions, which never change."""
        async with self.database.reading() as session:
            group = await state.group(session, command.spec.endpoint_name)
            found = core.visible(group, command.workspace, command.spec.endpoint_name)
            deployments.check_instance_type(found, command.spec, self.sizes)
            known = await asset_state.find_known(
                session, command.workspace, assets.references(command.spec)
            )
        return deployments.Resolved(
            assets.resolved(command.spec, known), assets.scoring_path(known.get("environment"))
        )

    async def delete_deployment(
        self, command: registry.DeleteDeployment
    ) -> registry.OperationReply:
        outcome = await self._decide(
            command.endpoint,
            command,
            lambda group, now: deployments.delete(group, command, now),
        )
        return registry.OperationReply(operation=next(iter(outcome.operations), None))

    async def set_power(self, command: core.Power) -> registry.DeploymentReply:
        return await self._renew(
            command, lambda group, now: deployments.set_power(group, command, now)
        )

    async def refresh_deployment(
        self, command: refreshing.RefreshDeployment
    ) -> registry.DeploymentReply:
        return await self._renew(
            command, lambda group, now: deployments.refresh(group, command, now)
        )

    async def _renew(
        self, command: core.Power | refreshing.RefreshDeployment, decide: Decide
    ) -> registry.DeploymentReply:
        outcome = await self._decide(command.endpoint, command, decide)
        assert outcome.group is not None
        return registry.DeploymentReply(
            deployment=outcome.group.deployments[command.name].value,
            operation=outcome.operations[0],
        )

    async def scale_deployment(self, command: power.ScaleDeployment) -> registry.DeploymentReply:
        outcome = await self._decide(
            command.endpoint, command, lambda group, now: scaling.scale(group, command, now)
        )
        assert outcome.group is not None
        return registry.DeploymentReply(deployment=outcome.group.deployments[command.name].value)

    async def get_deployment(self, query: registry.GetDeployment) -> registry.DeploymentReply:
        async with self.database.reading() as session:
            endpoint = await state.endpoint(session, query.workspace, query.endpoint)
            if endpoint is None:
                raise core.absent_endpoint(query.endpoint)
            found = await state.deployment(session, query.endpoint, query.name)
        if found is None:
            raise core.absent_deployment(query.endpoint, query.name)
        return registry.DeploymentReply(deployment=found)

    async def list_deployments(self, query: registry.ListDeployments) -> registry.DeploymentsReply:
        async with self.database.reading() as session:
            if query.endpoint:
                endpoint = await state.endpoint(session, query.workspace, query.endpoint)
                if endpoint is None:
                    raise core.absent_endpoint(query.endpoint)
            found, after = await state.deployments(session, query)
        return fitting(registry.DeploymentsReply(deployments=tuple(found), after=after))

    async def report_deployment(self, word: registry.ReportDeployment) -> Done:
        await self._decide(
            word.endpoint, word, lambda group, now: deployments.report(group, word, now)
        )
        return Done()

    async def get_operation(self, query: registry.GetOperation) -> registry.OperationReply:
        async with self.database.reading() as session:
            found = await state.operation(session, query.workspace, query.operation_id)
        if found is None:
            raise core.error(
                ErrorCode.RESOURCE_NOT_FOUND,
                f"there is no operation {query.operation_id[:80]!r} in this workspace; "
                "operations are forgotten after a month",
            )
        return registry.OperationReply(operation=found)

    async def forget_operations(self) -> None:
        """Keep the operations bounded."""
        async with self.database.transaction() as session:
            await state.forget_operations(session, self.clock.now())

    # --- the one way to change something ---

    async def _decide(
        self,
        endpoint: str,
        command: Command,
        decide: Decide,
        *,
        uses: tuple[str, DeploymentSpec] | None = None,
    ) -> Outcome:
        async with self.database.transaction() as session:
            if uses is not None:
                await asset_state.check_known(session, *uses)
            group = await state.group(session, endpoint)
            is_taken = await state.has_batch_endpoint(session, endpoint)
            moment = await state.moment(
                session, self.clock.now(), new_id(), is_taken=is_taken, by=command.by
            )
            outcome = decide(group, moment)
            beyond = await quota_state.of_change(session, endpoint, group, outcome.group)
            if beyond is None:
                await state.save(session, group, outcome, moment)
                self.outbox.add(session, outcome.events, cause=command.id)
        if beyond is not None:
            raise await self.refusals.refuse(beyond)
        if outcome.events:
            self.outbox.wake()
            self.relay.wake(endpoint)
        return outcome


def fitting(reply: R) -> R:
    """The reply, unless it is too large for one message: then the bus would cut the line."""
    size = len(reply.model_dump_json().encode())
    if size > _REPLY_BYTES_MAX:
        raise core.error(
            ErrorCode.QUOTA_EXCEEDED,
            f"the list has {size} bytes and one answer carries {_REPLY_BYTES_MAX}; "
            "ask for fewer at once",
            "limit",
        )
    return reply
