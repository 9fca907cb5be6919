"""The registry's answers about batch endpoints and batch deployments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.registry import asset_state, assets, batch, batch_state, quota_state, things, usage
from headgate.registry.batch import BatchGroup, BatchOutcome
from headgate.registry.handlers import fitting
from headgate.registry.quota_handlers import Refusals
from headgate.registry.records import Moment
from headgate.runtime.answers import Request
from headgate.runtime.bus import Handler
from headgate.runtime.clock import Clock, new_id
from headgate.runtime.outbox import Outbox
from headgate.runtime.tables import Database
from headgate_contracts import batch as messages
from headgate_contracts.registry import OperationReply
from headgate_contracts.resources import Model

Decide = Callable[[BatchGroup | None, Moment], BatchOutcome]


@dataclass(frozen=True, slots=True)
class BatchHandlers:
    """Everything the answers need, and one method per message."""

    database: Database
    outbox: Outbox
    clock: Clock
    refusals: Refusals

    def table(self) -> Mapping[Request, Handler]:
        """Which message is answered by which method."""
        return {
            messages.PutBatchEndpoint: self.put_endpoint,
            messages.DeleteBatchEndpoint: self.delete_endpoint,
            messages.GetBatchEndpoint: self.get_endpoint,
            messages.ListBatchEndpoints: self.list_endpoints,
            messages.PutBatchDeployment: self.put_deployment,
            messages.DeleteBatchDeployment: self.delete_deployment,
            messages.GetBatchDeployment: self.get_deployment,
            messages.ListBatchDeployments: self.list_deployments,
        }

    # --- endpoints ---

    async def put_endpoint(self, command: messages.PutBatchEndpoint) -> messages.BatchEndpointReply:
        outcome = await self._decide(
            command.spec.name,
            command.id,
            lambda group, now: batch.put_endpoint(group, command, now),
        )
        assert outcome.group is not None
        return messages.BatchEndpointReply(
            endpoint=outcome.group.endpoint,
            operation=outcome.operation,
            created=outcome.created,
        )

    async def delete_endpoint(self, command: messages.DeleteBatchEndpoint) -> OperationReply:
        outcome = await self._decide(
            command.name,
            command.id,
            lambda group, now: batch.delete_endpoint(group, command, now),
        )
        return OperationReply(operation=outcome.operation)

    async def get_endpoint(self, query: messages.GetBatchEndpoint) -> messages.BatchEndpointReply:
        async with self.database.reading() as session:
            found = await batch_state.endpoint(session, query.workspace, query.name)
        if found is None:
            raise batch.absent_endpoint(query.name)
        return messages.BatchEndpointReply(endpoint=found)

    async def list_endpoints(
        self, query: messages.ListBatchEndpoints
    ) -> messages.BatchEndpointsReply:
        async with self.database.reading() as session:
            page = await batch_state.endpoints(
                session, query.workspace, query.after, query.limit + 1
            )
        shown = tuple(page[: query.limit])
        after = shown[-1].spec.name if len(page) > query.limit else ""
        return fitting(messages.BatchEndpointsReply(endpoints=shown, after=after))

    # --- deployments ---

    async def put_deployment(
        self, command: messages.PutBatchDeployment
    ) -> messages.BatchDeploymentReply:
        spec = command.spec
        async with self.database.reading() as session:
            group = await batch_state.group(session, spec.endpoint_name)
            batch.visible(group, command.workspace, spec.endpoint_name)
            known = await asset_state.find_known(
                session, command.workspace, assets.references(spec)
            )
        wanted, model = assets.resolved(spec, known), known.get("model")
        assert model is None or isinstance(model, Model)
        outcome = await self._decide(
            spec.endpoint_name,
            command.id,
            lambda group, now: batch.put_deployment(group, command, wanted, model, now),
            uses=(command.workspace, wanted),
        )
        assert outcome.group is not None
        return messages.BatchDeploymentReply(
            deployment=outcome.group.deployments[spec.name],
            operation=outcome.operation,
            created=outcome.created,
        )

    async def delete_deployment(self, command: messages.DeleteBatchDeployment) -> OperationReply:
        outcome = await self._decide(
            command.endpoint,
            command.id,
            lambda group, now: batch.delete_deployment(group, command, now),
        )
        return OperationReply(operation=outcome.operation)

    async def get_deployment(
        self, query: messages.GetBatchDeployment
    ) -> messages.BatchDeploymentReply:
        async with self.database.reading() as session:
            endpoint = await batch_state.endpoint(session, query.workspace, query.endpoint)
            found = await batch_state.deployment(
                session, query.workspace, query.endpoint, query.name
            )
        if endpoint is None:
            raise batch.absent_endpoint(query.endpoint)
        if found is None:
            raise batch.absent_deployment(query.endpoint, query.name)
        return messages.BatchDeploymentReply(deployment=found)

    async def list_deployments(
        self, query: messages.ListBatchDeployments
    ) -> messages.BatchDeploymentsReply:
        async with self.database.reading() as session:
            endpoint = await batch_state.endpoint(session, query.workspace, query.endpoint)
            found = await batch_state.deployments(session, query.workspace, query.endpoint)
        if endpoint is None:
            raise batch.absent_endpoint(query.endpoint)
        return fitting(messages.BatchDeploymentsReply(deployments=tuple(found)))

    # --- the one way to change something ---

    async def _decide(
        self,
        endpoint: str,
        cause: str,
        decide: Decide,
        *,
        uses: tuple[str, messages.BatchDeploymentSpec] | None = None,
    ) -> BatchOutcome:
        async with self.database.transaction() as session:
            group = await batch_state.group(session, endpoint)
            if uses is not None:
                await asset_state.check_known(session, *uses)
                await _check_compute(session, *uses, group)
            moment = await batch_state.moment(session, self.clock.now(), new_id(), endpoint)
            outcome = decide(group, moment)
            beyond = await quota_state.of_change(session, endpoint, group, outcome.group)
            if beyond is None:
                await batch_state.save(session, group, outcome, moment)
                self.outbox.add(session, outcome.events, cause=cause)
        if beyond is not None:
            raise await self.refusals.refuse(beyond)
        if outcome.events:
            self.outbox.wake()
        return outcome


async def _check_compute(
    session: AsyncSession,
    workspace: str,
    spec: messages.BatchDeploymentSpec,
    group: BatchGroup | None,
) -> None:
    """Refuse a deployment on a compute that is not there. What is stored with it already stays."""
    stored = group.deployments.get(spec.name) if group is not None else None
    name = usage.compute_name(spec.compute)
    if not name or (stored is not None and stored.spec.compute == spec.compute):
        return
    if await things.find(session, workspace, things.COMPUTES, name) is None:
        shown = await things.page(session, workspace, things.COMPUTES, limit=batch.SHOWN_MAX + 1)
        raise batch.unknown_compute(name, [row.name for row in shown])
