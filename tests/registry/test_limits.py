"""Everything that can grow is bounded, and hostile names are only absent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from databases import KINDS, fresh_url
from headgate.registry import handlers, state
from headgate.registry.app import MIGRATIONS
from headgate.registry.records import EndpointRecord, Group, Keys, Moment, Outcome, StoredKey
from headgate.registry.rows import VERSION_TABLE, OperationRow
from headgate.runtime.tables import Database, open_database
from headgate_contracts import limits, registry
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import Endpoint, EndpointSpec, ModelSpec, Operation
from registry.harness import World, refused

pytestmark = pytest.mark.asyncio(loop_scope="session")
DAY_S = 86_400.0
KEYS = Keys(StoredKey("a", "1" * 64, "x"), StoredKey("b", "2" * 64, "y"))


@pytest_asyncio.fixture(loop_scope="session", params=KINDS)
async def database(request: pytest.FixtureRequest, data_dir: Path) -> AsyncIterator[Database]:
    opened = await open_database(fresh_url(request.param, data_dir), MIGRATIONS, VERSION_TABLE)
    yield opened
    await opened.close()


async def store(database: Database, *operations: Operation) -> None:
    async with database.transaction() as session:
        for operation in operations:
            await session.merge(
                OperationRow(
                    id=operation.id,
                    workspace="w",
                    started_at=operation.started_at,
                    status=operation.status.value,
                    value=operation.model_dump_json(),
                )
            )


async def kept(database: Database, *ids: str) -> set[str]:
    async with database.reading() as session:
        found = [await state.operation(session, "w", id) for id in ids]
    return {each.id for each in found if each is not None}


def operation(id: str, at: float, status: Any = "Succeeded") -> Operation:
    return Operation(
        id=id, workspace="w", kind="update", resource="r", status=status, started_at=at
    )


async def test_operations_are_forgotten_after_a_month(database: Database) -> None:
    now = 100 * DAY_S
    old, new = now - 31 * DAY_S, now - 29 * DAY_S
    await store(
        database,
        operation("old", old),
        operation("new", new),
        operation("running", old, "InProgress"),
    )
    async with database.transaction() as session:
        await state.forget_operations(session, now)
    assert await kept(database, "old", "new", "running") == {"new", "running"}


async def test_only_the_newest_operations_are_kept(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "OPERATIONS_KEPT_MAX", 3)
    await store(database, *(operation(str(number), number) for number in range(1, 8)))
    async with database.transaction() as session:
        await state.forget_operations(session, 10)
    assert await kept(database, *map(str, range(1, 8))) == {"5", "6", "7"}


async def test_an_operation_that_a_resource_names_is_kept(database: Database) -> None:
    """It is loaded together with the resource."""
    made = operation("first", 1.0)
    value = Endpoint(workspace="w", spec=EndpointSpec(name="digits"))
    group = Group(EndpointRecord(value, KEYS, made))
    async with database.transaction() as session:
        await state.save(session, None, Outcome(group, (made,)), Moment(1.0, 1, "dice"))
        await state.forget_operations(session, 1_000 * DAY_S)
    async with database.reading() as session:
        assert await state.group(session, "digits") == group


async def test_the_number_of_endpoints_is_bounded(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.put_endpoint(name)
    monkeypatch.setattr(limits, "ENDPOINTS_MAX", 1)
    await refused(ErrorCode.QUOTA_EXCEEDED, world.put_endpoint(f"{name}-x"), "delete one")
    await world.put_endpoint(name, description="what exists can be changed")


async def test_a_list_that_fits_no_message_is_an_error_and_no_cut_connection(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.put_endpoint(name, description="x" * 4_000)
    monkeypatch.setattr(handlers, "_REPLY_BYTES_MAX", 4_000)
    query = registry.ListEndpoints(workspace=world.workspace)
    await refused(ErrorCode.QUOTA_EXCEEDED, world.ask(query), "fewer")
    monkeypatch.undo()
    assert len((await world.ask(query)).endpoints) == 1


@pytest.mark.parametrize("hostile", ["\0", "a\0b", "*", "../x", "x' OR '1'='1", "é" * 500, ""])
async def test_hostile_names_are_at_most_absent(world: World, hostile: str) -> None:
    place = {"workspace": world.workspace, "endpoint": hostile}
    # PostgreSQL does not even take a NUL to look for.
    codes = {ErrorCode.RESOURCE_NOT_FOUND} | (
        {ErrorCode.BAD_ARGUMENT} if "\0" in hostile else set()
    )
    for request in (
        registry.GetEndpoint(workspace=world.workspace, name=hostile),
        registry.GetEndpoint(workspace=hostile, name="digits"),
        registry.GetDeployment(**place, name=hostile),
        registry.ListKeys(**place),
        registry.RegenerateKey(**place),
        registry.GetAsset(workspace=world.workspace, kind="models", name=hostile),
        registry.GetOperation(workspace=world.workspace, operation_id=hostile),
    ):
        with pytest.raises(HeadgateError) as caught:
            await world.ask(request)
        assert caught.value.error.code in codes, request
    if "\0" not in hostile:
        assert await world.delete_endpoint(hostile) is None
        assert await world.delete_deployment(hostile, hostile) is None
        listed = await world.ask(registry.ListEndpoints(workspace=hostile, after=hostile))
        assert listed.endpoints == ()
        asked = registry.ListAssets(workspace=hostile, kind="codes", name=hostile, sha256=hostile)
        assert (await world.ask(asked)).codes == ()


@pytest.mark.parametrize("workspace", ["", "a\0b", "a/b", "a b", "x" * 300, "é"])
async def test_a_workspace_has_a_name_that_fits_an_address(
    world: World, name: str, workspace: str
) -> None:
    elsewhere = world.tenant(workspace)
    await refused(ErrorCode.INVALID_NAME, elsewhere.put_endpoint(name), "workspace")
    model = ModelSpec(name="m", path="uploads/m")
    put = registry.PutModel(workspace=workspace, spec=model)
    await refused(ErrorCode.INVALID_NAME, world.ask(put), "workspace")


async def test_free_text_may_hold_anything(world: World, name: str) -> None:
    text = "\0 \x1b[31m \u202e \U0001f600 '; DROP TABLE registry_endpoint; --"
    await world.put_endpoint(name, description=text, tags={text: text})
    assert (await world.endpoint(name)).spec.description == text
