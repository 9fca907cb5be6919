"""Who uses what: deployments that refer to assets and computes, and how much a workspace holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.registry import assets
from headgate.registry.batch_state import DEPLOYMENTS
from headgate.registry.rows import AssetRow, DeploymentRow, EndpointRow, ThingRow
from headgate_contracts.assets import AssetKind
from headgate_contracts.batch import BatchDeploymentSpec
from headgate_contracts.resources import DeploymentSpec
from headgate_contracts.storage import WorkspaceContents

Specs = list[DeploymentSpec | BatchDeploymentSpec]


async def of_asset(
    session: AsyncSession, workspace: str, name: str
) -> Mapping[AssetKind, Mapping[str, str]]:
    """By kind: references to versions of this name, and ``<endpoint>/<deployment>`` that has it."""
    found: dict[AssetKind, dict[str, str]] = defaultdict(dict)
    for spec in await _mentioning(session, workspace, f"azureml:{name}:"):
        for reference in assets.references(spec):
            user = f"{spec.endpoint_name}/{spec.name}"
            found[reference.kind].setdefault(str(reference), user)
    return found


async def of_compute(session: AsyncSession, workspace: str, name: str) -> str:
    """The batch deployment that runs on a compute; empty when none does."""
    for spec in await _mentioning(session, workspace, name):
        if isinstance(spec, BatchDeploymentSpec) and compute_name(spec.compute) == name:
            return f"{spec.endpoint_name}/{spec.name}"
    return ""


def compute_name(reference: str | None) -> str:
    """The name in a reference to a compute, in Azure's short form or its long one."""
    return (reference or "").rsplit("/", 1)[-1].removeprefix("azureml:")


async def _mentioning(session: AsyncSession, workspace: str, text: str) -> Specs:
    online = select(DeploymentRow.spec).where(
        DeploymentRow.workspace == workspace,
        col(DeploymentRow.spec).contains(text, autoescape=True),
    )
    batch = select(ThingRow.spec).where(
        ThingRow.workspace == workspace,
        ThingRow.kind == DEPLOYMENTS,
        col(ThingRow.spec).contains(text, autoescape=True),
    )
    return [
        *(DeploymentSpec.model_validate_json(spec) for spec in await session.exec(online)),
        *(BatchDeploymentSpec.model_validate_json(spec) for spec in await session.exec(batch)),
    ]


async def workspaces(
    session: AsyncSession, name: str, after: str, limit: int
) -> list[WorkspaceContents]:
    """How much each workspace holds, in the order of the names; only ``name`` when it is given."""
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    tables: tuple[tuple[str, type[EndpointRow | AssetRow | ThingRow]], ...] = (
        ("endpoints", EndpointRow),
        ("assets", AssetRow),
        ("others", ThingRow),
    )
    for field, table in tables:
        query = select(table.workspace, func.count()).where(table.workspace > after)
        if name:
            query = query.where(table.workspace == name)
        query = query.group_by(table.workspace).order_by(table.workspace).limit(limit)
        for workspace, count in await session.exec(query):
            counts[workspace][field] = count
    return [WorkspaceContents(name=each, **counts[each]) for each in sorted(counts)[:limit]]
