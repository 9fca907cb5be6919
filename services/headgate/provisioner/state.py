"""What the provisioner remembers: wanted deployments, the recipes of their versions, instances.

Rows become values here and nowhere else. Every change is written through at once together with
the events that tell of it, so that a restart continues where a crash stopped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Column, Text
from sqlmodel import Field, SQLModel, col, delete, select

from headgate.provisioner.made import Made
from headgate.provisioner.values import Ending, EndKind, Observed, State
from headgate.runtime import tables
from headgate.runtime.bus import Bus
from headgate.runtime.outbox import SQLITE_ARGS, Outbox, OutboxRow
from headgate_contracts.envelope import Event, Value
from headgate_contracts.errors import ErrorCode, WireError
from headgate_contracts.resources import (
    CodeSpec,
    Deployment,
    DeploymentSpec,
    EnvironmentSpec,
    ModelSpec,
)

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "alembic_version_provisioner"

Key = tuple[str, str]  # endpoint, deployment


@dataclass(frozen=True, slots=True)
class Desire:
    """A deployment as last heard from the registry, and how far we have come with it.

    ``serving`` is the version that last succeeded; ``settled`` the generation whose outcome is
    known; ``failed`` the generation that failed, because of ``error``.
    """

    deployment: Deployment
    since: float
    serving: str = ""
    settled: int = 0
    failed: int = 0
    error: WireError | None = None

    @property
    def key(self) -> Key:
        return (self.deployment.spec.endpoint_name, self.deployment.spec.name)


class Recipe(Value):
    """Everything that a version is made of, with its references resolved.

    A version keeps the content that it was prepared with, even when the store gets other under
    the same key: ``code_place`` and ``model_place`` name it among the artefacts of this machine,
    and ``made`` is the build of its environment.
    ``collected`` are the addresses of the collections' data assets.
    """

    deployment: DeploymentSpec
    code: CodeSpec | None = None
    model: ModelSpec | None = None
    environment: EnvironmentSpec | None = None
    code_place: str = ""
    model_place: str = ""
    made: Made | None = None
    collected: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Record:
    """One instance: what the core sees of it, and what else is known. ``_wall``: Unix time."""

    endpoint: str
    deployment: str
    observed: Observed
    lanes: int = 1
    pid: int = 0
    start: int = 0
    started_wall: float = 0.0
    ready_wall: float | None = None
    ended_wall: float | None = None

    @property
    def id(self) -> str:
        return self.observed.id

    @property
    def key(self) -> Key:
        return (self.endpoint, self.deployment)

    def seen(self, **changes: Any) -> Record:
        """This record with changes to what the core sees."""
        return replace(self, observed=replace(self.observed, **changes))


class DesireRow(SQLModel, table=True):
    __tablename__ = "provisioner_desires"

    endpoint: str = Field(primary_key=True)
    deployment: str = Field(primary_key=True)
    document: str = Field(sa_column=Column(Text, nullable=False))
    since: float
    serving: str
    settled: int = Field(sa_type=BigInteger)
    failed: int = Field(sa_type=BigInteger)
    error: str | None = Field(default=None, sa_column=Column(Text))


class RecipeRow(SQLModel, table=True):
    __tablename__ = "provisioner_recipes"

    endpoint: str = Field(primary_key=True)
    deployment: str = Field(primary_key=True)
    spec: str = Field(primary_key=True)
    document: str = Field(sa_column=Column(Text, nullable=False))


class InstanceRow(SQLModel, table=True):
    __tablename__ = "provisioner_instances"

    id: str = Field(primary_key=True)
    endpoint: str = Field(index=True)
    deployment: str
    spec: str
    slot: int
    state: str
    failures: int
    lanes: int
    started_at: float
    ended_at: float | None = None
    ending_kind: str = ""
    ending_code: str = ""
    ending_message: str = Field(default="", sa_column=Column(Text, nullable=False))
    pid: int
    start: int = Field(sa_type=BigInteger)
    started_wall: float
    ready_wall: float | None = None
    ended_wall: float | None = None


class ProvisionerOutbox(OutboxRow, table=True):
    __tablename__ = "provisioner_outbox"
    __table_args__ = SQLITE_ARGS


class Memory:
    """The provisioner's database."""

    def __init__(self, database: tables.Database, bus: Bus) -> None:
        self._database = database
        self.outbox = Outbox(database, ProvisionerOutbox, bus)

    @classmethod
    async def open(cls, url: str, bus: Bus) -> Memory:
        return cls(await tables.open_database(url, MIGRATIONS, VERSION_TABLE), bus)

    async def close(self) -> None:
        await self._database.close()

    async def desires(self) -> list[Desire]:
        async with self._database.reading() as session:
            return [_desire(row) for row in await session.exec(select(DesireRow))]

    async def records(self) -> list[Record]:
        async with self._database.reading() as session:
            return [_record(row) for row in await session.exec(select(InstanceRow))]

    async def remember_desire(self, desire: Desire) -> None:
        async with self._database.transaction() as session:
            await session.merge(_desire_row(desire))

    async def remember_instance(self, record: Record, *events: Event) -> None:
        async with self._database.transaction() as session:
            await session.merge(_instance_row(record))
            self.outbox.add(session, events)
        self.outbox.wake()

    async def say(self, *events: Event) -> None:
        """Tell of something that is in no table of ours."""
        async with self._database.transaction() as session:
            self.outbox.add(session, events)
        self.outbox.wake()

    async def forget_instances(self, ids: Sequence[str]) -> None:
        if not ids:
            return
        async with self._database.transaction() as session:
            await session.exec(delete(InstanceRow).where(col(InstanceRow.id).in_(ids)))

    async def recipe(self, key: Key, spec: str) -> Recipe | None:
        async with self._database.reading() as session:
            row = await session.get(RecipeRow, (*key, spec))
            return Recipe.model_validate_json(row.document) if row else None

    async def recipes_of(self, key: Key) -> list[Recipe]:
        """The recipes of all versions of a deployment that are remembered."""
        wanted = (RecipeRow.endpoint == key[0], RecipeRow.deployment == key[1])
        async with self._database.reading() as session:
            rows = await session.exec(select(RecipeRow).where(*wanted))
            return [Recipe.model_validate_json(row.document) for row in rows]

    async def recipes(self) -> dict[tuple[Key, str], Recipe]:
        """All recipes by deployment and version."""
        async with self._database.reading() as session:
            return {
                ((row.endpoint, row.deployment), row.spec): Recipe.model_validate_json(row.document)
                for row in await session.exec(select(RecipeRow))
            }

    async def remember_recipe(self, key: Key, spec: str, recipe: Recipe) -> None:
        document = recipe.model_dump_json()
        row = RecipeRow(endpoint=key[0], deployment=key[1], spec=spec, document=document)
        async with self._database.transaction() as session:
            await session.merge(row)

    async def forget_recipes(self, key: Key, *, but: Sequence[str]) -> None:
        """Forget the versions of a deployment, but for those named."""
        async with self._database.transaction() as session:
            await session.exec(
                delete(RecipeRow)
                .where(col(RecipeRow.endpoint) == key[0], col(RecipeRow.deployment) == key[1])
                .where(col(RecipeRow.spec).not_in(but))
            )

    async def forget(self, key: Key) -> None:
        """Forget a deployment with everything about it."""
        async with self._database.transaction() as session:
            for table in (DesireRow, RecipeRow, InstanceRow):
                await session.exec(
                    delete(table).where(
                        col(table.endpoint) == key[0], col(table.deployment) == key[1]
                    )
                )


def _desire(row: DesireRow) -> Desire:
    return Desire(
        deployment=Deployment.model_validate_json(row.document),
        since=row.since,
        serving=row.serving,
        settled=row.settled,
        failed=row.failed,
        error=WireError.model_validate(json.loads(row.error)) if row.error else None,
    )


def _desire_row(desire: Desire) -> DesireRow:
    return DesireRow(
        endpoint=desire.key[0],
        deployment=desire.key[1],
        document=desire.deployment.model_dump_json(),
        since=desire.since,
        serving=desire.serving,
        settled=desire.settled,
        failed=desire.failed,
        error=desire.error.model_dump_json() if desire.error else None,
    )


def _record(row: InstanceRow) -> Record:
    ending = None
    if row.ending_kind:
        code = ErrorCode(row.ending_code)
        ending = Ending(EndKind(row.ending_kind), code, row.ending_message)
    observed = Observed(
        id=row.id,
        spec=row.spec,
        slot=row.slot,
        state=State(row.state),
        failures=row.failures,
        started_at=row.started_at,
        ended_at=row.ended_at,
        ending=ending,
    )
    return Record(
        endpoint=row.endpoint,
        deployment=row.deployment,
        observed=observed,
        lanes=row.lanes,
        pid=row.pid,
        start=row.start,
        started_wall=row.started_wall,
        ready_wall=row.ready_wall,
        ended_wall=row.ended_wall,
    )


def _instance_row(record: Record) -> InstanceRow:
    seen, ending = record.observed, record.observed.ending
    return InstanceRow(
        id=seen.id,
        endpoint=record.endpoint,
        deployment=record.deployment,
        spec=seen.spec,
        slot=seen.slot,
        state=seen.state.value,
        failures=seen.failures,
        lanes=record.lanes,
        started_at=seen.started_at,
        ended_at=seen.ended_at,
        ending_kind=ending.kind.value if ending else "",
        ending_code=ending.code.value if ending else "",
        ending_message=ending.message if ending else "",
        pid=record.pid,
        start=record.start,
        started_wall=record.started_wall,
        ready_wall=record.ready_wall,
        ended_wall=record.ended_wall,
    )
