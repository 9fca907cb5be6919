"""Datastores, computes, workspaces, and the life of assets, over the bus on both databases."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlmodel import col, select

from headgate.registry.app import MIGRATIONS
from headgate.registry.rows import VERSION_TABLE, RegistryOutboxRow, ThingRow
from headgate.runtime.tables import Database, open_database
from headgate_contracts import assets, batch, limits, registry, storage, streams
from headgate_contracts.assets import DataSpec
from headgate_contracts.errors import ErrorCode
from headgate_contracts.resources import ModelSpec
from headgate_contracts.storage import ComputeSpec, DatastoreCredentials, DatastoreSpec
from registry.harness import World, eventually, refused

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "the-canary-that-must-stay-sealed"
Unique = Callable[[str], str]


def a_datastore(name: str = "mine", **more: Any) -> DatastoreSpec:
    given = {
        "account_name": "account",
        "container_name": "container",
        "credentials": DatastoreCredentials(type="account_key"),
    }
    return DatastoreSpec(name=name, **given | more)


async def put_datastore(world: World, spec: DatastoreSpec, secret: str = "", **more: Any) -> Any:
    return await world.ask(
        storage.PutDatastore(workspace=world.workspace, spec=spec, secret=secret, **more)
    )


async def put_compute(world: World, name: str = "cpu", **spec: Any) -> Any:
    return await world.ask(
        storage.PutCompute(workspace=world.workspace, spec=ComputeSpec(name=name, **spec))
    )


async def put_model(
    world: World, name: str, version: str = "1", **more: Any
) -> registry.AssetReply:
    spec = ModelSpec(name=name, version=version, path=f"uploads/{name}/{version}")
    reply: registry.AssetReply = await world.ask(
        registry.PutModel(workspace=world.workspace, spec=spec, **more)
    )
    return reply


async def model_versions(world: World, name: str, **more: Any) -> list[str]:
    query = registry.ListAssets(workspace=world.workspace, kind="models", name=name, **more)
    return [each.spec.version for each in (await world.ask(query)).models]


# --- datastores --------------------------------------------------------------------------------


async def test_every_workspace_has_datastores_that_stay(world: World) -> None:
    found = (await world.ask(storage.ListDatastores(workspace=world.workspace))).datastores
    assert {each.spec.name for each in found} == set(storage.BUILT_IN_DATASTORES)
    assert [each.spec.name for each in found if each.is_default] == ["workspaceblobstore"]
    delete = storage.DeleteDatastore(workspace=world.workspace, name="workspaceblobstore")
    await refused(ErrorCode.RESOURCE_CONFLICT, world.ask(delete), "part of the workspace")
    change = put_datastore(world, a_datastore("workspaceblobstore"), SECRET)
    await refused(ErrorCode.RESOURCE_CONFLICT, change, "part of the workspace")


async def test_a_secret_is_told_only_when_it_is_asked_for(world: World) -> None:
    made = await put_datastore(world, a_datastore(), SECRET)
    assert made.created
    get = storage.GetDatastore(workspace=world.workspace, name="mine")
    listing = storage.ListDatastores(workspace=world.workspace)
    for told in (made, await world.ask(get), await world.ask(listing)):
        assert SECRET not in told.model_dump_json() + repr(told)
    ask = storage.GetDatastoreSecret(workspace=world.workspace, name="mine")
    assert (await world.ask(ask)).secret == SECRET
    command = storage.PutDatastore(workspace="w", spec=a_datastore(), secret=SECRET)
    assert SECRET not in repr(command)


async def test_a_secret_is_kept_sealed_for_its_place(world: World) -> None:
    await put_datastore(world, a_datastore(), SECRET)
    database = await opened(world)
    async with database.reading() as session:
        row = await session.get(ThingRow, (world.workspace, "datastores", "mine"))
        told = (await session.exec(select(col(RegistryOutboxRow.payload)))).all()
    await database.close()
    assert row is not None and row.sealed
    assert SECRET not in row.sealed + row.spec + "".join(map(str, told))


async def opened(world: World) -> Database:
    return await open_database(world.settings.database_url("registry"), MIGRATIONS, VERSION_TABLE)


async def test_a_stored_secret_is_never_turned_against_another_account(world: World) -> None:
    await put_datastore(world, a_datastore(), SECRET)
    again = await put_datastore(world, a_datastore(tags={"team": "vision"}))
    assert again.datastore.spec.tags == {"team": "vision"}
    for change in (
        {"account_name": "attacker"},
        {"endpoint": "attacker.example"},
        {"container_name": "other"},
        {"protocol": "http"},
        {"credentials": DatastoreCredentials(type="sas")},
    ):
        moved = put_datastore(world, a_datastore(**change))
        await refused(ErrorCode.BAD_ARGUMENT, moved, "need their secret")
    without = a_datastore(credentials=DatastoreCredentials())
    await put_datastore(world, without)
    ask = storage.GetDatastoreSecret(workspace=world.workspace, name="mine")
    assert (await world.ask(ask)).secret == ""


async def test_credentials_are_whole(world: World) -> None:
    await refused(ErrorCode.BAD_ARGUMENT, put_datastore(world, a_datastore()), "secret")
    half = a_datastore(credentials=DatastoreCredentials(type="service_principal", client_id="c"))
    await refused(ErrorCode.BAD_ARGUMENT, put_datastore(world, half, SECRET), "tenant_id")
    none = a_datastore(credentials=DatastoreCredentials())
    await refused(ErrorCode.BAD_ARGUMENT, put_datastore(world, none, SECRET), "without its kind")


async def test_writes_and_deletions_honour_revisions(world: World) -> None:
    first = (await put_datastore(world, a_datastore(), SECRET)).datastore
    second = (await put_datastore(world, a_datastore(description="x"))).datastore
    assert second.revision > first.revision
    stale = {"if_revision": first.revision}
    await refused(ErrorCode.REVISION_MISMATCH, put_datastore(world, a_datastore(), SECRET, **stale))
    await refused(
        ErrorCode.RESOURCE_EXISTS, put_datastore(world, a_datastore(), SECRET, create_only=True)
    )
    delete = storage.DeleteDatastore(workspace=world.workspace, name="mine", **stale)
    await refused(ErrorCode.REVISION_MISMATCH, world.ask(delete))
    fresh = delete.model_copy(update={"if_revision": second.revision})
    assert (await world.ask(fresh)).existed
    await refused(ErrorCode.REVISION_MISMATCH, world.ask(fresh), "does not exist")
    plain = delete.model_copy(update={"if_revision": None})
    assert not (await world.ask(plain)).existed


async def test_lists_go_on_where_they_stopped(world: World) -> None:
    for number in range(5):
        await put_datastore(world, a_datastore(f"z{number}"), SECRET)
    names: list[str] = []
    query = storage.ListDatastores(workspace=world.workspace, limit=3)
    while True:
        reply = await world.ask(query)
        names += [each.spec.name for each in reply.datastores]
        if not reply.after:
            break
        query = query.model_copy(update={"after": reply.after})
    assert names == sorted({*storage.BUILT_IN_DATASTORES, *(f"z{n}" for n in range(5))})


async def test_another_workspace_sees_nothing(world: World, unique: Unique) -> None:
    await put_datastore(world, a_datastore(), SECRET)
    await put_compute(world)
    other = unique("ws")
    for query in (
        storage.GetDatastore(workspace=other, name="mine"),
        storage.GetDatastoreSecret(workspace=other, name="mine"),
        storage.GetCompute(workspace=other, name="cpu"),
    ):
        await refused(ErrorCode.RESOURCE_NOT_FOUND, world.ask(query))
    assert not (await world.ask(storage.DeleteCompute(workspace=other, name="cpu"))).existed


# --- computes ----------------------------------------------------------------------------------


async def test_a_compute_keeps_its_size_and_its_bounds(world: World) -> None:
    made = await put_compute(world, max_instances=2)
    assert made.created and made.compute.spec.idle_time_before_scale_down == 120
    assert not (await put_compute(world, max_instances=5)).created
    await refused(ErrorCode.BAD_ARGUMENT, put_compute(world, size="Standard_F2s_v2"), "size")
    await refused(
        ErrorCode.BAD_ARGUMENT,
        put_compute(world, min_instances=3, max_instances=2),
        "min_instances",
    )
    found = (await world.ask(storage.ListComputes(workspace=world.workspace))).computes
    assert [(each.spec.name, each.spec.max_instances) for each in found] == [("cpu", 5)]


async def test_a_compute_of_an_unknown_size_is_refused(world: World) -> None:
    made = put_compute(world, size="Standard_DS3_v3")
    await refused(ErrorCode.BAD_ARGUMENT, made, "Standard_DS3_v2")


async def test_a_compute_in_use_stays_and_one_that_is_not_there_is_not_used(
    world: World, name: str
) -> None:
    await put_compute(world)
    model = ModelSpec(name="m", version="1", path="uploads/m", type="mlflow_model")
    await world.ask(registry.PutModel(workspace=world.workspace, spec=model))
    spec = batch.BatchEndpointSpec(name=name)
    await world.ask(batch.PutBatchEndpoint(workspace=world.workspace, spec=spec))
    deployment = batch.BatchDeploymentSpec(
        name="blue", endpoint_name=name, model="azureml:m:1", compute="azureml:cpu"
    )
    put = batch.PutBatchDeployment(workspace=world.workspace, spec=deployment)
    await world.ask(put)
    elsewhere = deployment.model_copy(update={"compute": "azureml:gpu"})
    moved = batch.PutBatchDeployment(workspace=world.workspace, spec=elsewhere)
    await refused(ErrorCode.BAD_ARGUMENT, world.ask(moved), "there is no compute 'gpu'")
    delete = storage.DeleteCompute(workspace=world.workspace, name="cpu")
    await refused(ErrorCode.RESOURCE_CONFLICT, world.ask(delete), f"{name}/blue")
    await world.ask(batch.DeleteBatchEndpoint(workspace=world.workspace, name=name))
    assert (await world.ask(delete)).existed


# --- data and the life of assets ---------------------------------------------------------------


async def test_data_is_registered_like_every_asset(world: World) -> None:
    spec = DataSpec(name="faces", path="azureml://datastores/workspaceblobstore/paths/faces")
    put = assets.PutData(workspace=world.workspace, spec=spec, by="somebody")
    first = await world.ask(put)
    assert (first.data.spec.version, first.data.created_by, first.created) == (
        "1",
        "somebody",
        True,
    )
    assert (await world.ask(put)).data.spec.version == "2"
    other = DataSpec(name="faces", version="1", path="azureml://elsewhere")
    command = assets.PutData(workspace=world.workspace, spec=other)
    await refused(ErrorCode.RESOURCE_EXISTS, world.ask(command), "never change")


async def test_archived_versions_are_hidden_until_they_are_restored(world: World) -> None:
    for version in ("1", "2", "3"):
        await put_model(world, "m", version)
    hide = assets.ArchiveAsset(workspace=world.workspace, kind="models", name="m", version="3")
    await world.ask(hide)
    assert await model_versions(world, "m") == ["2", "1"]
    assert await model_versions(world, "m", view="archived") == ["3"]
    assert await model_versions(world, "m", view="all") == ["3", "2", "1"]
    get = registry.GetAsset(workspace=world.workspace, kind="models", name="m")
    assert (await world.ask(get)).model.spec.version == "2"
    exact = get.model_copy(update={"version": "3"})
    assert (await world.ask(exact)).model.is_archived
    await world.ask(hide.model_copy(update={"version": ""}))
    names = registry.ListAssets(workspace=world.workspace, kind="models")
    assert (await world.ask(names)).models == ()
    await refused(ErrorCode.RESOURCE_NOT_FOUND, world.ask(get))
    await world.ask(hide.model_copy(update={"version": "", "is_archived": False}))
    assert await model_versions(world, "m") == ["3", "2", "1"]
    absent = hide.model_copy(update={"name": "nobody"})
    await refused(ErrorCode.RESOURCE_NOT_FOUND, world.ask(absent))


async def test_a_put_archives_and_restores_too(world: World) -> None:
    await put_model(world, "m")
    archived = await put_model(world, "m", is_archived=True)
    assert archived.model is not None and archived.model.is_archived and not archived.created
    kept = await put_model(world, "m")
    assert kept.model is not None and kept.model.is_archived
    restored = await put_model(world, "m", is_archived=False)
    assert restored.model is not None and not restored.model.is_archived


async def test_a_version_in_use_stays(world: World, name: str) -> None:
    await put_model(world, "m", "1")
    await put_model(world, "m", "2")
    await put_model(world, "m-longer", "1")
    await world.put_endpoint(name)
    await world.put_deployment(name, model="azureml:m:1")
    delete = assets.DeleteAsset(workspace=world.workspace, kind="models", name="m", version="1")
    await refused(ErrorCode.RESOURCE_CONFLICT, world.ask(delete), f"{name}/blue", "archive")
    everything = delete.model_copy(update={"version": ""})
    await refused(ErrorCode.RESOURCE_CONFLICT, world.ask(everything), f"{name}/blue")
    assert await model_versions(world, "m") == ["2", "1"]
    assert (await world.ask(delete.model_copy(update={"version": "2"}))).existed
    assert (await world.ask(delete.model_copy(update={"name": "m-longer"}))).existed
    assert not (await world.ask(delete.model_copy(update={"version": "2"}))).existed


async def test_a_deleted_version_cannot_be_deployed(world: World, name: str) -> None:
    await put_model(world, "m")
    await world.ask(assets.DeleteAsset(workspace=world.workspace, kind="models", name="m"))
    await world.put_endpoint(name)
    await refused(
        ErrorCode.BAD_ARGUMENT, world.put_deployment(name, model="azureml:m:1"), "register it"
    )


# --- lists and workspaces ----------------------------------------------------------------------


async def test_lists_of_assets_have_cursors(world: World) -> None:
    for number in range(7):
        await put_model(world, f"m{number}")
        await put_model(world, "same", str(number + 1))

    async def walk(**more: Any) -> list[str]:
        found: list[str] = []
        query = registry.ListAssets(workspace=world.workspace, kind="models", limit=3, **more)
        while True:
            reply = await world.ask(query)
            assert len(reply.models) <= 3
            found += [f"{each.spec.name}:{each.spec.version}" for each in reply.models]
            if not reply.after:
                return found
            query = query.model_copy(update={"after": reply.after})

    assert await walk() == [*(f"m{number}:1" for number in range(7)), "same:7"]
    assert await walk(name="same") == [f"same:{number}" for number in range(7, 0, -1)]
    foreign = registry.ListAssets(workspace=world.workspace, kind="models", name="same", after="m3")
    await refused(ErrorCode.BAD_ARGUMENT, world.ask(foreign), "another list")


async def test_lists_of_deployments_have_cursors(world: World, name: str) -> None:
    await world.put_endpoint(name)
    names = [f"d{number:02}" for number in range(5)]
    for each in names:
        await world.put_deployment(name, each)
    found: list[str] = []
    query = registry.ListDeployments(workspace=world.workspace, endpoint=name, limit=2)
    while True:
        reply = await world.ask(query)
        found += [each.spec.name for each in reply.deployments]
        if not reply.after:
            break
        query = query.model_copy(update={"after": reply.after})
    assert found == names


async def test_a_workspace_is_told_with_what_it_holds(world: World, name: str) -> None:
    query = storage.ListWorkspaces(name=world.workspace)
    assert (await world.ask(query)).workspaces == ()
    await world.put_endpoint(name)
    await put_model(world, "m")
    await put_compute(world)
    (held,) = (await world.ask(query)).workspaces
    assert (held.endpoints, held.assets, held.others) == (1, 1, 1)
    everywhere = storage.ListWorkspaces(limit=limits.PAGE_SIZE_MAX)
    assert world.workspace in {each.name for each in (await world.ask(everywhere)).workspaces}


async def test_what_happens_is_told_without_secrets(world: World) -> None:
    js = world.probe.js
    first = (await js.stream_info(streams.EVENTS.name)).state.last_seq + 1
    await put_model(world, "m")
    hide = assets.ArchiveAsset(workspace=world.workspace, kind="models", name="m")
    await world.ask(hide)
    await world.ask(hide)
    await world.ask(hide.model_copy(update={"is_archived": False}))
    await world.ask(assets.DeleteAsset(workspace=world.workspace, kind="models", name="m"))
    await put_datastore(world, a_datastore(), SECRET)
    await world.ask(storage.DeleteDatastore(workspace=world.workspace, name="mine"))

    async def told() -> list[str] | None:
        last = (await js.stream_info(streams.EVENTS.name)).state.last_seq
        seen: list[str] = []
        for number in range(first, last + 1):
            message = await js.get_msg(streams.EVENTS.name, seq=number, direct=True)
            text = (message.data or b"{}").decode()
            assert SECRET not in text
            if json.loads(text).get("workspace") == world.workspace:
                seen.append((message.headers or {})["ce-type"].rsplit(".", 1)[-1])
        return seen if "datastore_deleted" in seen else None

    assert await eventually(told) == [
        "asset_registered",
        "asset_archived",
        "asset_restored",
        "asset_deleted",
        "datastore_created",
        "datastore_deleted",
    ]


async def test_a_bucket_is_a_datastore_too(world: World) -> None:
    key = DatastoreCredentials(type="access_key", access_key_id="id")
    spec = DatastoreSpec(name="shelf", type="s3", container_name="box", credentials=key)
    assert (spec.endpoint, spec.region) == ("", "us-east-1")
    made = await put_datastore(world, spec, SECRET)
    assert made.datastore.spec == spec
    answer = await world.ask(storage.GetDatastoreSecret(workspace=world.workspace, name="shelf"))
    assert answer.secret == SECRET
    moved = spec.model_copy(update={"endpoint": "elsewhere:9000"})
    await refused(ErrorCode.BAD_ARGUMENT, put_datastore(world, moved), "need their secret")
    for change, word in (
        ({"account_name": "acc"}, "no account_name"),
        ({"type": "azure_blob", "endpoint": "core.windows.net"}, "account_name"),
        ({"credentials": DatastoreCredentials(type="sas")}, "no kind of credentials"),
        ({"credentials": DatastoreCredentials(type="access_key")}, "access_key_id"),
    ):
        wrong = spec.model_copy(update=change)
        await refused(ErrorCode.BAD_ARGUMENT, put_datastore(world, wrong, SECRET), word)
