"""What the registry remembers of models, environments, code and data versions."""

from __future__ import annotations

from typing import Any, TypeVar

from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from headgate.registry.assets import (
    LATEST,
    Asset,
    Reference,
    kind_of,
    number_of,
    references,
    unknown,
)
from headgate.registry.rows import AssetRow
from headgate_contracts.assets import AssetKind, Data, DataSpec, View
from headgate_contracts.batch import BatchDeploymentSpec
from headgate_contracts.registry import ListAssets
from headgate_contracts.resources import (
    Code,
    CodeSpec,
    DeploymentSpec,
    Environment,
    EnvironmentSpec,
    Model,
    ModelSpec,
)

T = TypeVar("T")
_NEWEST_FIRST = col(AssetRow.seq).desc()


async def version(
    session: AsyncSession, workspace: str, kind: AssetKind, name: str, version: str
) -> Asset | None:
    """Exactly this version."""
    row = await _row(session, workspace, kind, name, version)
    return _asset(row) if row else None


async def find(
    session: AsyncSession, workspace: str, kind: AssetKind, name: str, version: str
) -> Asset | None:
    """This version, or for ``latest`` the newest that is not archived.

    A version that is really called ``latest`` comes first.
    """
    found = await _row(session, workspace, kind, name, version)
    if found is None and version == LATEST:
        query = _shown(_of(workspace, kind).where(AssetRow.name == name), "active")
        found = (await session.exec(query.order_by(_NEWEST_FIRST).limit(1))).first()
    return _asset(found) if found else None


async def find_known(
    session: AsyncSession, workspace: str, references: tuple[Reference, ...]
) -> dict[str, Asset]:
    """What each reference means, by its field; refused when one means nothing."""
    known: dict[str, Asset] = {}
    for each in references:
        asset = await find(session, workspace, each.kind, each.name, each.version)
        if asset is None:
            raise unknown(each)
        known[each.field] = asset
    return known


async def check_known(
    session: AsyncSession, workspace: str, spec: DeploymentSpec | BatchDeploymentSpec
) -> None:
    """Refuse a deployment whose assets have been deleted since its references were resolved."""
    await find_known(session, workspace, references(spec))


async def next_number(session: AsyncSession, workspace: str, kind: AssetKind, name: str) -> int:
    """The version that an asset without one gets."""
    query = select(func.max(AssetRow.number)).where(
        AssetRow.workspace == workspace, AssetRow.kind == kind, AssetRow.name == name
    )
    return ((await session.exec(query)).one() or 0) + 1


async def save(session: AsyncSession, asset: Asset) -> None:
    """Store a new version, or the labels of a stored one."""
    spec = asset.spec
    kind = kind_of(spec)
    row = await _row(session, asset.workspace, kind, spec.name, spec.version)
    if row is None:
        row = AssetRow(
            workspace=asset.workspace,
            kind=kind,
            name=spec.name,
            version=spec.version,
            number=number_of(spec.version),
            sha256=spec.sha256 if isinstance(spec, CodeSpec) else "",
            spec="",
            revision=0,
            created_at=asset.created_at,
            updated_at=0.0,
            created_by=asset.created_by,
        )
    row.spec = spec.model_dump_json()
    row.is_archived = asset.is_archived
    row.revision = asset.revision
    row.updated_at = asset.updated_at
    row.updated_by = asset.updated_by
    session.add(row)


async def versions(
    session: AsyncSession, workspace: str, kind: AssetKind, name: str, version: str = ""
) -> list[Asset]:
    """All versions of a name, or the one given, newest first."""
    query = _of(workspace, kind).where(AssetRow.name == name)
    if version:
        query = query.where(AssetRow.version == version)
    return [_asset(row) for row in (await session.exec(query.order_by(_NEWEST_FIRST))).all()]


async def remove(session: AsyncSession, asset: Asset) -> None:
    """Forget one version."""
    row = await _row(
        session, asset.workspace, kind_of(asset.spec), asset.spec.name, asset.spec.version
    )
    await session.delete(row)


async def listed(session: AsyncSession, query: ListAssets) -> tuple[list[Asset], str]:
    """A page, and the cursor of the next one (empty on the last).

    Without a name and a content: the newest version of each name, in the order of the names;
    else all versions that match, newest first.
    """
    rows = _shown(_of(query.workspace, query.kind), query.view)
    if query.name or query.sha256:
        if query.name:
            rows = rows.where(AssetRow.name == query.name)
        if query.sha256:
            rows = rows.where(AssetRow.sha256 == query.sha256)
        if query.after:
            rows = rows.where(col(AssetRow.seq) < int(query.after))
        rows = rows.order_by(_NEWEST_FIRST)
    else:
        newest = select(func.max(AssetRow.seq)).where(
            AssetRow.workspace == query.workspace, AssetRow.kind == query.kind
        )
        newest = _shown(newest, query.view).group_by(AssetRow.name)
        rows = rows.where(AssetRow.name > query.after, col(AssetRow.seq).in_(newest))
        rows = rows.order_by(AssetRow.name)
    found = (await session.exec(rows.limit(query.limit + 1))).all()
    page = found[: query.limit]
    if len(found) == len(page):
        return [_asset(row) for row in page], ""
    last = page[-1]
    after = str(last.seq) if query.name or query.sha256 else last.name
    return [_asset(row) for row in page], after


def _shown(query: SelectOfScalar[T], view: View) -> SelectOfScalar[T]:
    if view == "all":
        return query
    return query.where(col(AssetRow.is_archived) == (view == "archived"))


def _of(workspace: str, kind: AssetKind) -> SelectOfScalar[AssetRow]:
    return select(AssetRow).where(AssetRow.workspace == workspace, AssetRow.kind == kind)


async def _row(
    session: AsyncSession, workspace: str, kind: AssetKind, name: str, version: str
) -> AssetRow | None:
    query = _of(workspace, kind).where(AssetRow.name == name, AssetRow.version == version)
    return (await session.exec(query)).first()


def _asset(row: AssetRow) -> Asset:
    about: dict[str, Any] = {
        "workspace": row.workspace,
        "revision": row.revision,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "created_by": row.created_by,
        "updated_by": row.updated_by,
        "is_archived": row.is_archived,
    }
    if row.kind == "models":
        return Model(spec=ModelSpec.model_validate_json(row.spec), **about)
    if row.kind == "environments":
        return Environment(spec=EnvironmentSpec.model_validate_json(row.spec), **about)
    if row.kind == "data":
        return Data(spec=DataSpec.model_validate_json(row.spec), **about)
    return Code(spec=CodeSpec.model_validate_json(row.spec), **about)
