"""Endpoints, deployments, assets and operations over HTTP, with the real registry behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from yarl import URL

from gateway.harness import SCORING_URL, WORKSPACE, Api, Reply, World
from headgate.runtime.service import Service
from headgate_contracts import provisioning, routing
from headgate_contracts.errors import ErrorCode, WireError

pytestmark = pytest.mark.usefixtures("registry", "world")
Unique = Callable[[str], str]
HASH = "ab" * 32


@pytest.fixture
async def endpoint(api: Api, registry: Service, unique: Unique) -> str:
    """The name of an endpoint that exists."""
    name = unique("ep")
    reply = await api.put(f"~/onlineEndpoints/{name}", {"location": "local", "tags": {"a": "1"}})
    assert reply.status == 201
    return name


async def put_deployment(api: Api, endpoint: str, name: str, **properties: Any) -> Reply:
    """A deployment whose references exist."""
    code = {"codeUri": f"uploads/{HASH}", "properties": {"hash_sha256": HASH}}
    model = {"modelUri": f"uploads/{HASH}/m.pkl"}
    for path, body in (("codes/c", code), ("models/m", model), ("environments/e", {"image": "i"})):
        reply = await api.put(f"~/{path}/versions/1", {"properties": body})
        assert reply.status in (200, 201), reply.body
    return await api.put(
        f"~/onlineEndpoints/{endpoint}/deployments/{name}",
        {
            "sku": {"name": "Default", "capacity": 2},
            "properties": {
                "endpointComputeType": "Managed",
                "model": f"{WORKSPACE}/models/m/versions/1",
                "environmentId": "azureml:e:1",
                "codeConfiguration": {"codeId": "azureml:c:1", "scoringScript": "score.py"},
                **properties,
            },
        },
    )


async def follow(api: Api, reply: Reply) -> Reply:
    """What ``Azure-AsyncOperation`` of an answer says."""
    return await api.get(reply.headers["Azure-AsyncOperation"].removeprefix(api.base))


# --- endpoints ---------------------------------------------------------------------------------


async def test_an_endpoint_is_created_read_and_replaced(api: Api, unique: Unique) -> None:
    name = unique("ep")
    created = await api.put(
        f"~/onlineEndpoints/{name}?api-version=2022-02-01-preview",
        {
            "location": "eastus",
            "identity": {"type": "SystemAssigned"},
            "tags": {"team": "a"},
            "properties": {"authMode": "Key", "properties": {}, "traffic": {}, "mirrorTraffic": {}},
        },
    )
    assert created.status == 201
    body = created.body
    assert body["id"] == f"{WORKSPACE}/onlineEndpoints/{name}"
    assert body["properties"]["scoringUri"] == f"{SCORING_URL}/api/v1/endpoint/{name}/score"
    assert body["properties"]["swaggerUri"] == f"{SCORING_URL}/api/v1/endpoint/{name}/swagger.json"
    assert body["properties"]["authMode"] == "Key"
    assert body["systemData"]["createdAt"].endswith("Z")

    read = await api.get(f"~/onlineEndpoints/{name}")
    assert read.headers["ETag"] == created.headers["ETag"]
    assert read.body["properties"]["provisioningState"] == "Succeeded"
    changed = {**read.body, "tags": {"team": "b"}}  # as clients do: everything is sent back
    replaced = await api.put(f"~/onlineEndpoints/{name}", changed)
    assert replaced.status == 200
    assert replaced.body["tags"] == {"team": "b"}
    assert replaced.headers["ETag"] != read.headers["ETag"]


async def test_a_long_operation_can_be_followed(api: Api, unique: Unique) -> None:
    created = await api.put(f"~/onlineEndpoints/{unique('ep')}", {})
    headers = created.headers
    assert headers["Azure-AsyncOperation"].startswith(f"{api.base}{WORKSPACE}/locations/local/")
    assert headers["x-ms-async-operation-timeout"] == "PT1H"
    assert headers["Retry-After"] in ("0", "1")
    bag = created.body["properties"]["properties"]
    assert bag["AzureAsyncOperationUri"] == headers["Azure-AsyncOperation"]
    operation = await follow(api, created)
    assert operation.status == 200
    assert operation.body["status"] == "Succeeded"
    assert operation.body["name"] in headers["Azure-AsyncOperation"]
    assert {"id", "startTime", "endTime", "percentComplete"} <= operation.body.keys()
    result = await api.get(headers["Location"].removeprefix(api.base))
    assert result.status == 204


async def test_an_unknown_operation_is_not_found(api: Api) -> None:
    for place in ("mfeOperationsStatus", "mfeOperationResults"):
        assert (await api.get(f"~/locations/local/{place}/nothing")).status == 404


async def test_writes_happen_only_under_their_condition(api: Api, endpoint: str) -> None:
    path = f"~/onlineEndpoints/{endpoint}"
    etag = (await api.get(path)).headers["ETag"]

    async def put(**headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await api.put(path, {"tags": {"n": "2"}}, headers=named)

    exists = await put(If_None_Match="*")
    assert (exists.status, exists.error["code"]) == (412, "ResourceAlreadyExists")
    assert (await put(If_Match='"999999"')).status == 412
    assert (await put(If_Match="nonsense")).status == 412
    assert (await put(If_None_Match='"1"')).status == 400
    assert (await put(If_None_Match="*", If_Match=etag)).status == 400
    assert (await api.get(path)).headers["ETag"] == etag
    assert (await put(If_Match=etag)).status == 200
    assert (await put(If_Match=etag)).status == 412
    assert (await put(If_Match="*")).status == 200


@pytest.mark.parametrize("condition", ["*", '"1"'])
async def test_if_match_never_creates(api: Api, unique: Unique, condition: str) -> None:
    path = f"~/onlineEndpoints/{unique('ep')}"
    reply = await api.put(path, {}, headers={"If-Match": condition})
    assert reply.status == 412
    assert (await api.get(path)).status == 404


async def test_patch_merges_tags_and_nothing_else(api: Api, endpoint: str) -> None:
    path = f"~/onlineEndpoints/{endpoint}"
    reply = await api.patch(path, {"tags": {"b": "2", "a": None}})
    assert reply.status == 200
    assert reply.body["tags"] == {"b": "2"}
    refused = await api.patch(path, {"properties": {"traffic": {}}})
    assert (refused.status, refused.error["target"]) == (400, "/properties")
    assert (await api.patch(path, {"tags": {}}, headers={"If-Match": '"999"'})).status == 412
    assert (await api.patch("~/onlineEndpoints/nothing-here", {"tags": {}})).status == 404


async def test_endpoints_are_listed_filtered_and_paged(api: Api, unique: Unique) -> None:
    names = sorted(unique("ep") for _ in range(5))
    for number, name in enumerate(names):
        await api.put(f"~/onlineEndpoints/{name}", {"tags": {"n": str(number % 2)}})

    async def listed(query: str) -> list[str]:
        reply = await api.get(f"~/onlineEndpoints?{query}")
        assert reply.status == 200, reply.body
        return [item["name"] for item in reply.body["value"]]

    assert await listed("") == names
    assert await listed("tags=n=1") == [names[1], names[3]]
    assert await listed(f"name={names[2]}") == [names[2]]
    assert await listed("computeType=Kubernetes") == []
    assert (await listed("orderBy=CreatedAtDesc"))[0] == names[-1]
    found, path = [], "~/onlineEndpoints?count=2&orderBy=CreatedAtAsc"
    for _ in range(3):
        page = (await api.get(path)).body
        found += [item["name"] for item in page["value"]]
        path = page.get("nextLink", "").removeprefix(api.base)
    assert (found, path) == (names, "")


@pytest.mark.parametrize(
    "query",
    ["count=0", "count=-1", "count=1000000000", "count=x", "$skip=-1", "orderBy=Name", "$top=1.5"],
)
async def test_a_bad_list_query_is_refused(api: Api, query: str) -> None:
    reply = await api.get(f"~/onlineEndpoints?{query}")
    assert reply.status == 400
    assert reply.error["target"] in query


async def test_a_wrong_split_names_its_field_and_changes_nothing(api: Api, endpoint: str) -> None:
    path = f"~/onlineEndpoints/{endpoint}"
    etag = (await api.get(path)).headers["ETag"]
    for field, value in (
        ("traffic", {"blue": 100}),
        ("traffic", {f"d-{n}": 5 for n in range(21)}),
        ("mirrorTraffic", {"blue": 51}),
    ):
        reply = await api.put(path, {"properties": {field: value}})
        assert reply.status == 400
        assert reply.error["target"].startswith(f"/properties/{field}")
    assert (await api.get(path)).headers["ETag"] == etag


async def test_keys_are_listed_given_and_made_anew(api: Api, unique: Unique) -> None:
    name = unique("ep")
    given = {"primaryKey": "p" * 32, "secondaryKey": "s" * 32}
    body = {"properties": {"keys": given}}
    created = await api.put(f"~/onlineEndpoints/{name}", body)
    assert b"pppp" not in created.raw
    path = f"~/onlineEndpoints/{name}"
    listed = (await api.post(f"{path}/listKeys")).body
    assert listed == given
    # The SDK sends the present key along; it must not come back as the new one.
    anew = {"keyType": "Secondary", "keyValue": listed["secondaryKey"]}
    reply = await api.post(f"{path}/regenerateKeys", anew)
    assert reply.status == 200
    after = (await api.post(f"{path}/listkeys")).body
    assert after["primaryKey"] == listed["primaryKey"]
    assert after["secondaryKey"] != listed["secondaryKey"]
    assert after["secondaryKey"].encode() not in reply.raw
    refused = await api.post(f"{path}/regenerateKeys", {"keyType": "Third"})
    assert (refused.status, refused.error["target"]) == (400, "/keyType")


async def test_deleting_is_202_then_204(api: Api, endpoint: str) -> None:
    path = f"~/onlineEndpoints/{endpoint}"
    deleted = await api.delete(path)
    assert deleted.status == 202
    assert (await follow(api, deleted)).body["status"] in ("InProgress", "Succeeded")
    assert (await api.get(path)).status == 404
    assert (await api.delete(path)).status == 204


async def test_another_workspace_sees_nothing(api: Api, endpoint: str) -> None:
    """Not even that it exists: the answer is the same as for a name that nobody uses."""
    foreign = WORKSPACE.replace("/local", "/other")
    for suffix in ("", "/deployments", "/instances", "/traffic"):
        mine = await api.get(f"{foreign}/onlineEndpoints/{endpoint}{suffix}")
        none = await api.get(f"{foreign}/onlineEndpoints/nothing-here{suffix}")
        assert mine.status == none.status == 404
        assert mine.raw.replace(endpoint.encode(), b"nothing-here") == none.raw
    assert (await api.post(f"{foreign}/onlineEndpoints/{endpoint}/listKeys")).status == 404
    assert (await api.get(f"{foreign}/onlineEndpoints")).body["value"] == []


# --- deployments -------------------------------------------------------------------------------


async def test_a_deployment_is_created_and_becomes_ready(
    api: Api, world: World, endpoint: str
) -> None:
    created = await put_deployment(api, endpoint, "blue")
    assert created.status == 201
    assert created.body["properties"]["provisioningState"] == "Creating"
    assert created.body["properties"]["model"] == f"{WORKSPACE}/models/m/versions/1"
    assert (await follow(api, created)).body["status"] == "InProgress"
    waiting = await api.get(created.headers["Location"].removeprefix(api.base))
    assert (waiting.status, waiting.headers["Retry-After"]) == (202, "1")

    await world.report(endpoint, "blue", "succeeded", ready_instances=2)
    assert (await follow(api, created)).body["status"] == "Succeeded"
    read = await api.get(f"~/onlineEndpoints/{endpoint}/deployments/blue")
    assert read.body["properties"]["readyInstances"] == 2
    assert read.body["properties"]["provisioningState"] == "Succeeded"
    listed = await api.get(f"~/onlineEndpoints/{endpoint}/deployments")
    assert [item["name"] for item in listed.body["value"]] == ["blue"]


async def test_a_failure_shows_on_operation_and_resource(
    api: Api, world: World, endpoint: str
) -> None:
    created = await put_deployment(api, endpoint, "blue")
    error = WireError(code=ErrorCode.USER_SCRIPT_INIT_FAILED, message="score.py line 3: boom")
    await world.report(endpoint, "blue", "failed", error=error)
    operation = (await follow(api, created)).body
    assert operation["status"] == "Failed"
    assert operation["error"]["code"] == "UserScriptInitFailed"
    assert "line 3" in operation["error"]["message"]
    result = await api.get(created.headers["Location"].removeprefix(api.base))
    assert (result.status, result.error["code"]) == (400, "UserScriptInitFailed")
    read = await api.get(f"~/onlineEndpoints/{endpoint}/deployments/blue")
    assert read.body["properties"]["error"]["code"] == "UserScriptInitFailed"


async def test_scaling_by_patch_keeps_the_rest(api: Api, world: World, endpoint: str) -> None:
    await put_deployment(api, endpoint, "blue", environmentVariables={"A": "1"})
    await world.report(endpoint, "blue", "succeeded", ready_instances=2)
    path = f"~/onlineEndpoints/{endpoint}/deployments/blue"
    reply = await api.patch(path, {"sku": {"capacity": 3}, "tags": {"x": "y"}})
    assert reply.status == 200, reply.body
    assert reply.body["sku"]["capacity"] == 3
    assert reply.body["tags"] == {"x": "y"}
    assert reply.body["properties"]["environmentVariables"] == {"A": "1"}
    refused = await api.patch(path, {"sku": {"capacity": 51}})
    assert (refused.status, refused.error["target"]) == (400, "/sku/capacity")


async def test_a_deployment_is_stopped_and_started(api: Api, world: World, endpoint: str) -> None:
    await put_deployment(api, endpoint, "blue")
    await world.report(endpoint, "blue", "succeeded", ready_instances=2)
    path = f"~/onlineEndpoints/{endpoint}/deployments/blue"
    assert (await api.get(path)).body["properties"]["powerState"] == "Running"
    asked = await api.send("POST", f"{path}/stop")
    assert (asked.status, asked.raw) == (202, b"")
    assert (await follow(api, asked)).body["status"] == "InProgress"
    await world.report(endpoint, "blue", "succeeded")
    assert (await follow(api, asked)).body["status"] == "Succeeded"
    stored = (await api.get(path)).body
    assert stored["properties"]["powerState"] == "Stopped"
    assert (await api.put(path, stored)).status == 200, "what was read can be written back"
    assert (await api.get(path)).body["properties"]["powerState"] == "Stopped"
    assert (await api.send("POST", f"{path}/start")).status == 202
    assert (await api.get(path)).body["properties"]["powerState"] == "Running"


async def test_a_deployment_with_live_traffic_is_not_deleted(
    api: Api, world: World, endpoint: str
) -> None:
    await put_deployment(api, endpoint, "blue")
    await world.report(endpoint, "blue", "succeeded", ready_instances=2)
    traffic = {"properties": {"traffic": {"blue": 100}}}
    assert (await api.put(f"~/onlineEndpoints/{endpoint}", traffic)).status == 200
    path = f"~/onlineEndpoints/{endpoint}/deployments/blue"
    refused = await api.delete(path)
    assert (refused.status, refused.error["code"]) == (409, "ResourceConflict")
    await api.put(f"~/onlineEndpoints/{endpoint}", {"properties": {"traffic": {}}})
    assert (await api.delete(path)).status == 202
    await world.report(endpoint, "blue", "gone")
    assert (await api.delete(path)).status == 204


async def test_a_model_of_another_workspace_is_not_found(api: Api, endpoint: str) -> None:
    foreign = f"{WORKSPACE.replace('/local', '/other')}/models/m/versions/1"
    reply = await put_deployment(api, endpoint, "blue", model=foreign)
    assert (reply.status, reply.error["target"]) == (404, "/properties/model")


async def test_a_missing_reference_names_its_field(api: Api, endpoint: str) -> None:
    reply = await put_deployment(api, endpoint, "blue", model="azureml:nothing:7")
    assert reply.status in (400, 404)
    assert reply.error["target"] == "/properties/model"


async def test_logs_are_read_by_tail_and_cursor(api: Api, world: World, endpoint: str) -> None:
    await put_deployment(api, endpoint, "blue")
    lines = world.logs[f"{endpoint}/blue/inference-server"] = ["one", "two"]
    path = f"~/onlineEndpoints/{endpoint}/deployments/blue/getLogs"
    first = (await api.post(path, {"containerType": "InferenceServer", "tail": 1})).body
    assert first["content"] == "two\n"
    lines.append("three")
    later = await api.post(f"{path}?cursor={first['cursor']}")
    assert later.body["content"] == "three\n"
    assert (await api.post(path, {"containerType": "storageinitializer"})).body["content"] == ""
    for body, target in (({"tail": 0}, "/tail"), ({"containerType": "x"}, "/containerType")):
        refused = await api.post(path, body)
        assert (refused.status, refused.error["target"]) == (400, target)
    assert (await api.post(path.replace("blue", "green"))).status == 404


async def test_a_log_reader_can_wait_for_new_lines(api: Api, world: World, endpoint: str) -> None:
    await put_deployment(api, endpoint, "blue")
    path = f"~/onlineEndpoints/{endpoint}/deployments/blue/getLogs?cursor=0&wait=30"
    waiting = asyncio.create_task(api.post(path))
    world.logs[f"{endpoint}/blue/inference-server"] = ["at last"]
    assert (await waiting).body["content"] == "at last\n"
    assert (await api.post(path.replace("30", "31"))).status == 400


async def test_sizes_and_instances_are_told(api: Api, world: World, endpoint: str) -> None:
    await put_deployment(api, endpoint, "blue")
    world.instances = [
        provisioning.Instance(
            id=f"i-{deployment}", endpoint=endpoint, deployment=deployment, spec="h", state="ready"
        )
        for deployment in ("blue", "green")
    ]
    path = f"~/onlineEndpoints/{endpoint}"
    sku = (await api.get(f"{path}/deployments/blue/skus")).body["value"][0]
    assert sku["capacity"]["maximum"] == 7  # what the host has room for
    ids = [i["id"] for i in (await api.get(f"{path}/instances")).body["value"]]
    assert ids == ["i-blue", "i-green"]
    mine = (await api.get(f"{path}/deployments/blue/instances")).body["value"]
    assert [(item["id"], item["state"]) for item in mine] == [("i-blue", "ready")]


async def test_a_quarantined_instance_is_shown_with_the_time_left(
    api: Api, world: World, endpoint: str
) -> None:
    await put_deployment(api, endpoint, "blue")
    world.instances = [
        provisioning.Instance(
            id=each, endpoint=endpoint, deployment="blue", spec="abc", state="ready"
        )
        for each in ("i1", "i2")
    ]
    out = {"i2-1": 12.5}  # one of its model processes
    world.traffic = {"blue": routing.DeploymentTraffic(ready_instances=1, quarantined=out)}
    reply = await api.get(f"~/onlineEndpoints/{endpoint}/deployments/blue/instances")
    times = [item.get("quarantinedForS") for item in reply.body["value"]]
    assert times == [None, 12.5]
    traffic = await api.get(f"~/onlineEndpoints/{endpoint}/traffic")
    assert traffic.body["deployments"]["blue"]["quarantined"] == out


async def test_traffic_compares_declared_and_observed(
    api: Api, world: World, endpoint: str
) -> None:
    for name in ("blue", "green"):
        await put_deployment(api, endpoint, name)
        await world.report(endpoint, name, "succeeded", ready_instances=2)
    body = {"properties": {"traffic": {"blue": 90, "green": 10}}}
    assert (await api.put(f"~/onlineEndpoints/{endpoint}", body)).status == 200
    world.traffic = {
        "blue": routing.DeploymentTraffic(requests=80, statuses={200: 79, 424: 1}),
        "green": routing.DeploymentTraffic(requests=20, statuses={200: 20}),
    }
    reply = await api.get(f"~/onlineEndpoints/{endpoint}/traffic")
    blue = reply.body["deployments"]["blue"]
    assert (reply.body["routers"], reply.body["requests"]) == (1, 100)
    assert (blue["declaredPercent"], blue["observedPercent"]) == (90, 80.0)
    assert blue["statuses"] == {"200": 79, "424": 1}


# --- assets ------------------------------------------------------------------------------------


async def test_versions_are_registered_once_and_never_change(api: Api, unique: Unique) -> None:
    path = f"~/models/{unique('m')}"
    body = {"properties": {"modelUri": f"uploads/{HASH}/m", "modelType": "custom_model"}}
    assert (await api.get(path)).status == 404
    assert (await api.get(f"{path}/versions")).body["value"] == []
    assert (await api.put(f"{path}/versions/1", body)).status == 201
    assert (await api.put(f"{path}/versions/1", body)).status == 200
    other = {"properties": {"modelUri": f"uploads/{HASH}/other"}}
    refused = await api.put(f"{path}/versions/1", other)
    assert refused.status == 409
    assert (await api.put(f"{path}/versions/2", other)).status == 201
    container = (await api.get(path)).body["properties"]
    assert (container["latestVersion"], container["nextVersion"]) == ("2", "3")
    newest = await api.get(f"{path}/versions?$orderBy=createdtime desc&$top=1")
    assert [item["name"] for item in newest.body["value"]] == ["2"]
    assert (await api.get(f"{path}/labels/latest")).body["name"] == "2"
    read = (await api.get(f"{path}/versions/1")).body
    assert read["properties"]["modelUri"] == f"uploads/{HASH}/m"
    assert read["properties"]["flavors"] == {}
    assert (await api.get(f"{path}/versions/9")).status == 404


async def test_versions_are_paged_newest_first(api: Api, unique: Unique) -> None:
    name = unique("m")
    path = f"~/models/{name}/versions"
    for number in range(1, 6):
        body = {"properties": {"modelUri": f"uploads/{HASH}/{number}"}}
        assert (await api.put(f"{path}/{number}", body)).status == 201
    for query, expected in (
        ("count=2", ["5", "4", "3", "2", "1"]),
        ("$top=2&$orderBy=createdtime desc", ["5", "4", "3", "2", "1"]),
        ("$top=2&$orderBy=createdtime asc", ["1", "2", "3", "4", "5"]),
    ):
        found, following = [], f"{path}?{query}"
        while following:
            page = (await api.get(following)).body
            found += [item["name"] for item in page["value"]]
            following = page.get("nextLink", "").removeprefix(api.base)
        assert found == expected
    containers = (await api.get("~/models?$top=1")).body
    assert [item["name"] for item in containers["value"]] == [name]
    assert "nextLink" not in containers


async def test_code_is_found_by_its_hash(api: Api, unique: Unique) -> None:
    name, sha256 = unique("c"), unique("").encode().hex().ljust(64, "0")[-64:]
    path = f"~/codes/{name}/versions"
    body = {"properties": {"codeUri": f"uploads/{sha256}", "properties": {"hash_sha256": sha256}}}
    query = f"{path}?hash={sha256}&hashVersion=202208"
    assert (await api.get(query)).body["value"] == []
    assert (await api.put(f"{path}/1", body)).status == 201
    assert [item["name"] for item in (await api.get(query)).body["value"]] == ["1"]
    elsewhere = f"~/codes/{unique('never-made')}/versions?hash={sha256}&hashVersion=202208"
    found = (await api.get(elsewhere)).body["value"]
    assert [item["properties"]["codeUri"] for item in found] == [f"uploads/{sha256}"]
    assert (await api.get(f"{path}?hash=xyz")).status == 400


async def test_an_environment_keeps_the_text_of_its_conda_file(api: Api, unique: Unique) -> None:
    path = f"~/environments/{unique('e')}/versions/1"
    body = {"properties": {"image": "ubuntu", "condaFile": "dependencies:\n- pip\n"}}
    assert (await api.put(path, body)).status == 201
    assert (await api.get(path)).body["properties"]["condaFile"] == "dependencies:\n- pip\n"


@pytest.mark.parametrize("name", ["..", "a%20b", "-a", "%2A", "a" * 256])
async def test_a_bad_asset_name_is_refused(api: Api, name: str) -> None:
    url = URL(api.url(f"~/models/{name}/versions/1"), encoded=True)
    headers = {"Authorization": "Bearer t0ken-of-the-admin"}
    async with api.session.put(url, json={"properties": {}}, headers=headers) as reply:
        assert reply.status in (400, 404)


# --- the system --------------------------------------------------------------------------------


async def test_status_names_the_services_that_answer(api: Api, endpoint: str) -> None:
    await put_deployment(api, endpoint, "blue")
    status = (await api.get("/status")).body
    assert (status["endpoints"], status["deployments"], status["readyInstances"]) == (1, 1, 0)
    assert status["capacity"] == {
        "total": {"cores": 2, "memoryGib": 7, "gpus": 1},
        "taken": {"cores": 0.5, "memoryGib": 0.5, "gpus": 0},
    }
    names = {service["name"] for service in status["services"]}
    assert {"headgate-gateway", "headgate-registry", "headgate-router"} <= names
    assert status["bus"] == {"connected": True}
    assert status["urls"] == {"gateway": api.base, "scoring": SCORING_URL}


async def test_the_workspace_and_the_product_say_who_they_are(api: Api) -> None:
    workspace = (await api.get("~")).body
    assert workspace["id"] == WORKSPACE
    assert workspace["systemData"]["createdAt"]
    assert (await api.get("/")).body["product"] == "Headgate"
