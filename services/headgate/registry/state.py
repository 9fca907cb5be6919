"""What the registry remembers: rows become values and values rows, here and only here."""

from __future__ import annotations

from pydantic import TypeAdapter
from sqlmodel import col, delete, func, select, tuple_
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.registry import core, quota_state, quotas, things
from headgate.registry.records import (
    DeploymentRecord,
    EndpointRecord,
    Group,
    Keys,
    Moment,
    Outcome,
)
from headgate.registry.rows import CounterRow, DeploymentRow, EndpointRow, OperationRow
from headgate_contracts import limits
from headgate_contracts.errors import WireError
from headgate_contracts.registry import ListDeployments
from headgate_contracts.resources import (
    Deployment,
    DeploymentSpec,
    Endpoint,
    EndpointSpec,
    Operation,
    OperationStatus,
    ProvisioningState,
)
from headgate_contracts.scoring import Route

BATCH_ENDPOINTS = "batchEndpoints"
_REVISION = "revision"
_KEYS = TypeAdapter(Keys)


async def moment(
    session: AsyncSession, now: float, dice: str, *, is_taken: bool = False, by: str = ""
) -> Moment:
    """What the next decision may not fetch for itself."""
    counter = await session.get(CounterRow, _REVISION)
    endpoints = (await session.exec(select(func.count()).select_from(EndpointRow))).one()
    endpoints += await things.count(session, BATCH_ENDPOINTS)
    return Moment(now, (counter.value if counter else 0) + 1, dice, endpoints, is_taken, by)


async def has_batch_endpoint(session: AsyncSession, name: str) -> bool:
    """Whether a batch endpoint of any workspace has this name."""
    return await things.find_anywhere(session, BATCH_ENDPOINTS, name) is not None


async def spend_revision(session: AsyncSession, used: Moment) -> None:
    """Note that the moment's revision has been given to something."""
    await session.merge(CounterRow(name=_REVISION, value=used.revision))


# --- endpoints with their deployments ----------------------------------------------------------


async def group(session: AsyncSession, endpoint: str) -> Group | None:
    """An endpoint with its deployments and their operations."""
    row = await session.get(EndpointRow, endpoint)
    if row is None:
        return None
    query = select(DeploymentRow).where(DeploymentRow.endpoint == endpoint)
    rows = (await session.exec(query.order_by(DeploymentRow.name))).all()
    ids = [row.operation_id, *(each.operation_id for each in rows)]
    query_operations = select(OperationRow).where(col(OperationRow.id).in_(ids))
    found = {each.id: _operation(each) for each in (await session.exec(query_operations)).all()}
    records = {
        each.name: DeploymentRecord(
            _deployment(each), found[each.operation_id], each.was_ready, each.scoring_path
        )
        for each in rows
    }
    record = EndpointRecord(
        _endpoint(row),
        _KEYS.validate_json(row.keys),
        found[row.operation_id],
        row.tokens_not_before,
    )
    return Group(record, records)


async def save(
    session: AsyncSession, before: Group | None, outcome: Outcome, moment: Moment
) -> None:
    """Store what a decision changed. ``before`` must be what is stored."""
    after = outcome.group
    for operation in outcome.operations:
        await save_operation(session, operation)
    if after == before:
        return
    await spend_revision(session, moment)
    if after is not None:
        await _save_endpoint(session, before, after, moment)
    kept = after.deployments if after else {}
    for name in before.deployments if before else ():
        if before and name not in kept:
            await session.exec(
                delete(DeploymentRow).where(
                    col(DeploymentRow.endpoint) == before.name, col(DeploymentRow.name) == name
                )
            )
    for name, record in kept.items():
        if before is None or before.deployments.get(name) != record:
            await session.merge(_deployment_row(record))
    if before is not None and after is None:
        await session.flush()
        await session.exec(delete(EndpointRow).where(col(EndpointRow.name) == before.name))


async def _save_endpoint(
    session: AsyncSession, before: Group | None, after: Group, moment: Moment
) -> None:
    routes_differ = core.route(before) != core.route(after)
    if before is not None and before.endpoint == after.endpoint and not routes_differ:
        return
    row = await session.get(EndpointRow, after.name)
    route_revision = moment.revision if row is None or routes_differ else row.route_revision
    await session.merge(_endpoint_row(after.endpoint, route_revision))
    await session.flush()  # deployments refer to it


async def endpoint(session: AsyncSession, workspace: str, name: str) -> Endpoint | None:
    """The endpoint of this name, if it belongs to the workspace; empty: to any."""
    row = await session.get(EndpointRow, name)
    return _endpoint(row) if row is not None and workspace in ("", row.workspace) else None


async def endpoints(
    session: AsyncSession, workspace: str, after: str, limit: int
) -> list[Endpoint]:
    """A page of the workspace's endpoints, by name."""
    query = (
        select(EndpointRow)
        .where(EndpointRow.workspace == workspace, EndpointRow.name > after)
        .order_by(EndpointRow.name)
        .limit(limit)
    )
    return [_endpoint(row) for row in (await session.exec(query)).all()]


async def endpoint_names(session: AsyncSession) -> list[str]:
    """The names of all endpoints of all workspaces."""
    return list((await session.exec(select(EndpointRow.name))).all())


async def deployment(session: AsyncSession, endpoint: str, name: str) -> Deployment | None:
    """One deployment."""
    row = await session.get(DeploymentRow, (endpoint, name))
    return _deployment(row) if row is not None else None


async def deployments(
    session: AsyncSession, asked: ListDeployments
) -> tuple[list[Deployment], str]:
    """A page of deployments by endpoint and name, and the cursor of the next (empty: the last)."""
    query = select(DeploymentRow).order_by(DeploymentRow.endpoint, DeploymentRow.name)
    if asked.workspace:
        query = query.where(DeploymentRow.workspace == asked.workspace)
    if asked.endpoint:
        query = query.where(DeploymentRow.endpoint == asked.endpoint)
    if asked.after:
        endpoint, _, name = asked.after.partition("/")
        place = tuple_(DeploymentRow.endpoint, DeploymentRow.name)
        query = query.where(place > tuple_(endpoint, name))
    if asked.limit:
        query = query.limit(asked.limit + 1)
    rows = (await session.exec(query)).all()
    page = rows[: asked.limit] if asked.limit else rows
    after = f"{page[-1].endpoint}/{page[-1].name}" if len(rows) > len(page) else ""
    return [_deployment(row) for row in page], after


async def route(session: AsyncSession, endpoint: str) -> Route | None:
    """The route of an endpoint as it must be now; None: there must be none."""
    row = await session.get(EndpointRow, endpoint)
    if row is None:
        return None
    known = await quota_state.all_quotas(session, row.workspace)
    kept = quotas.for_route(known, endpoint)
    return core.route(await group(session, endpoint), row.route_revision, kept)


# --- operations --------------------------------------------------------------------------------


async def operation(session: AsyncSession, workspace: str, id: str) -> Operation | None:
    """One operation, if it belongs to the workspace."""
    row = await session.get(OperationRow, id)
    return _operation(row) if row is not None and row.workspace == workspace else None


async def save_operation(session: AsyncSession, value: Operation) -> None:
    """Store an operation, new or changed."""
    await session.merge(_operation_row(value))


async def forget_operations(session: AsyncSession, now: float) -> None:
    """Drop ended operations that are old, or too many; never one that a resource refers to."""
    newest = select(OperationRow.started_at).order_by(col(OperationRow.started_at).desc())
    edge = (await session.exec(newest.offset(limits.OPERATIONS_KEPT_MAX).limit(1))).first()
    oldest = max(now - limits.OPERATIONS_KEPT_S, edge or 0.0)
    await session.exec(
        delete(OperationRow).where(
            col(OperationRow.started_at) <= oldest,
            col(OperationRow.status) != OperationStatus.IN_PROGRESS.value,
            col(OperationRow.id).not_in(select(EndpointRow.operation_id)),
            col(OperationRow.id).not_in(select(DeploymentRow.operation_id)),
        )
    )


# --- rows and values ---------------------------------------------------------------------------


def _endpoint(row: EndpointRow) -> Endpoint:
    return Endpoint(
        spec=EndpointSpec.model_validate_json(row.spec),
        provisioning_state=ProvisioningState(row.state),
        **things.stamps(row),
    )


def _endpoint_row(record: EndpointRecord, route_revision: int) -> EndpointRow:
    value = record.value
    return EndpointRow(
        name=value.spec.name,
        state=value.provisioning_state.value,
        spec=value.spec.model_dump_json(),
        keys=_KEYS.dump_json(record.keys).decode(),
        operation_id=record.operation.id,
        tokens_not_before=record.tokens_not_before,
        route_revision=route_revision,
        **things.stamps(value),
    )


def _deployment(row: DeploymentRow) -> Deployment:
    return Deployment(
        spec=DeploymentSpec.model_validate_json(row.spec),
        generation=row.generation,
        provisioning_state=ProvisioningState(row.state),
        is_stopped=row.is_stopped,
        environment_build=row.environment_build,
        ready_instances=row.ready_instances,
        error=WireError.model_validate_json(row.error) if row.error else None,
        **things.stamps(row),
    )


def _deployment_row(record: DeploymentRecord) -> DeploymentRow:
    value = record.value
    return DeploymentRow(
        endpoint=value.spec.endpoint_name,
        name=value.spec.name,
        state=value.provisioning_state.value,
        spec=value.spec.model_dump_json(),
        error=value.error.model_dump_json() if value.error else "",
        scoring_path=record.scoring_path,
        was_ready=record.was_ready,
        is_stopped=value.is_stopped,
        environment_build=value.environment_build,
        ready_instances=value.ready_instances,
        operation_id=record.operation.id,
        generation=value.generation,
        **things.stamps(value),
    )


def _operation(row: OperationRow) -> Operation:
    return Operation.model_validate_json(row.value)


def _operation_row(value: Operation) -> OperationRow:
    return OperationRow(
        id=value.id,
        workspace=value.workspace,
        started_at=value.started_at,
        status=value.status.value,
        value=value.model_dump_json(),
    )
