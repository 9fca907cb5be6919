"""What the registry remembers of batch endpoints and deployments: things of two kinds."""

from __future__ import annotations

from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.registry import state, things
from headgate.registry.batch import BatchGroup, BatchOutcome
from headgate.registry.records import Moment
from headgate.registry.rows import EndpointRow, ThingRow
from headgate_contracts.batch import (
    BatchDeployment,
    BatchDeploymentSpec,
    BatchEndpoint,
    BatchEndpointSpec,
)

ENDPOINTS = state.BATCH_ENDPOINTS
DEPLOYMENTS = "batchDeployments"


async def moment(session: AsyncSession, now: float, dice: str, endpoint: str) -> Moment:
    """What the next decision about this batch endpoint may not fetch for itself."""
    is_taken = await session.get(EndpointRow, endpoint) is not None
    return await state.moment(session, now, dice, is_taken=is_taken)


async def group(session: AsyncSession, endpoint: str) -> BatchGroup | None:
    """A batch endpoint of whatever workspace, with its deployments."""
    row = await things.find_anywhere(session, ENDPOINTS, endpoint)
    if row is None:
        return None
    found = await deployments(session, row.workspace, endpoint)
    return BatchGroup(_endpoint(row), {each.spec.name: each for each in found})


async def save(
    session: AsyncSession, before: BatchGroup | None, outcome: BatchOutcome, moment: Moment
) -> None:
    """Store what a decision changed. ``before`` must be what is stored."""
    if outcome.operation is not None:
        await state.save_operation(session, outcome.operation)
    old, new = _rows(before), _rows(outcome.group)
    if old == new:
        return
    await state.spend_revision(session, moment)
    for key in old.keys() - new.keys():
        await things.drop(session, *key)
    for key, value in new.items():
        if old.get(key) != value:
            await things.save(session, _row(key, value))


async def endpoint(session: AsyncSession, workspace: str, name: str) -> BatchEndpoint | None:
    """The batch endpoint of this name, if it belongs to the workspace."""
    row = await things.find(session, workspace, ENDPOINTS, name)
    return _endpoint(row) if row else None


async def endpoints(
    session: AsyncSession, workspace: str, after: str, limit: int
) -> list[BatchEndpoint]:
    """A page of the workspace's batch endpoints, by name."""
    return [
        _endpoint(row) for row in await things.page(session, workspace, ENDPOINTS, after, limit)
    ]


async def deployment(
    session: AsyncSession, workspace: str, endpoint: str, name: str
) -> BatchDeployment | None:
    """One deployment of a batch endpoint."""
    row = await things.find(session, workspace, DEPLOYMENTS, f"{endpoint}/{name}")
    return _deployment(row) if row else None


async def deployments(
    session: AsyncSession, workspace: str, endpoint: str
) -> list[BatchDeployment]:
    """The deployments of one batch endpoint, by name."""
    return [
        _deployment(row) for row in await things.below(session, workspace, DEPLOYMENTS, endpoint)
    ]


# --- rows and values ---------------------------------------------------------------------------

_Key = tuple[str, str, str]


def _rows(group: BatchGroup | None) -> dict[_Key, BatchEndpoint | BatchDeployment]:
    """Everything that is stored of a group, by its place in the table."""
    if group is None:
        return {}
    rows: dict[_Key, BatchEndpoint | BatchDeployment] = {
        (group.workspace, ENDPOINTS, group.name): group.endpoint
    }
    for name, value in group.deployments.items():
        rows[group.workspace, DEPLOYMENTS, f"{group.name}/{name}"] = value
    return rows


def _row(key: _Key, value: BatchEndpoint | BatchDeployment) -> ThingRow:
    _, kind, name = key
    return ThingRow(kind=kind, name=name, spec=value.spec.model_dump_json(), **things.stamps(value))


def _endpoint(row: ThingRow) -> BatchEndpoint:
    return BatchEndpoint(spec=BatchEndpointSpec.model_validate_json(row.spec), **things.stamps(row))


def _deployment(row: ThingRow) -> BatchDeployment:
    return BatchDeployment(
        spec=BatchDeploymentSpec.model_validate_json(row.spec), **things.stamps(row)
    )
