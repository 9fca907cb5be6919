"""What the registry remembers of models, environments and code versions."""

from __future__ import annotations

from typing import Any

from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from headgate.registry.assets import (
    LATEST,
    Asset,
    AssetKind,
    Reference,
    kind_of,
    number_of,
    unknown,
)
from headgate.registry.rows import AssetRow
from headgate_contracts.resources import (
    Code,
    CodeSpec,
    Environment,
    EnvironmentSpec,
    Model,
    ModelSpec,
)


async def version(
    session: AsyncSession, workspace: str, kind: AssetKind, name: str, version: str
) -> Asset | None:
    """Exactly this version."""
    row = await _row(session, workspace, kind, name, version)
    return _asset(row) if row else None


async def find(
    session: AsyncSession, workspace: str, kind: AssetKind, name: str, version: str
) -> Asset | None:
    """This version, or the newest one for ``latest`` (unless a version is really called so)."""
    found = await _row(session, workspace, kind, name, version)
    if found is None and version == LATEST:
        query = _of(workspace, kind).where(AssetRow.name == name)
        found = (await session.exec(query.order_by(col(AssetRow.seq).desc()).limit(1))).first()
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
    row.revision = asset.revision
    row.updated_at = asset.updated_at
    row.updated_by = asset.updated_by
    session.add(row)


async def listed(
    session: AsyncSession, workspace: str, kind: AssetKind, name: str, sha256: str, limit: int
) -> list[Asset]:
    """The newest version of each name, or all versions with a name or a content, newest first."""
    query = _of(workspace, kind).limit(limit)
    if name:
        query = query.where(AssetRow.name == name)
    if sha256:
        query = query.where(AssetRow.sha256 == sha256)
    if name or sha256:
        query = query.order_by(col(AssetRow.seq).desc())
    else:
        newest = select(func.max(AssetRow.seq)).where(
            AssetRow.workspace == workspace, AssetRow.kind == kind
        )
        query = query.where(col(AssetRow.seq).in_(newest.group_by(AssetRow.name)))
        query = query.order_by(AssetRow.name)
    return [_asset(row) for row in (await session.exec(query)).all()]


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
    }
    if row.kind == "models":
        return Model(spec=ModelSpec.model_validate_json(row.spec), **about)
    if row.kind == "environments":
        return Environment(spec=EnvironmentSpec.model_validate_json(row.spec), **about)
    return Code(spec=CodeSpec.model_validate_json(row.spec), **about)
