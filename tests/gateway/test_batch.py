"""Batch endpoints and deployments over HTTP, with the real registry behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.harness import WORKSPACE, Api, Reply
from headgate.gateway import app
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate_contracts.jobs import JobInput, JobReply, SubmitJob

pytestmark = pytest.mark.usefixtures("registry", "batch")
Unique = Callable[[str], str]
Connect = Callable[[str], Awaitable[Bus]]
HASH = "cd" * 32
FRONTEND = "/mferp/managementfrontend"


@pytest.fixture
async def endpoint(api: Api, registry: Service, unique: Unique) -> str:
    """The name of a batch endpoint that exists."""
    name = unique("be")
    reply = await api.put(f"~/batchEndpoints/{name}", {"location": "local", "tags": {"a": "1"}})
    assert reply.status == 201, reply.body
    return name


@pytest.fixture
async def assets(api: Api, registry: Service) -> None:
    """What deployments refer to."""
    code = {"codeUri": f"uploads/{HASH}", "properties": {"hash_sha256": HASH}}
    model = {"modelUri": f"uploads/{HASH}/m.pkl"}
    mlflow = {"modelUri": f"uploads/{HASH}/m", "modelType": "mlflow_model"}
    for path, body in (
        ("codes/c", code),
        ("models/m", model),
        ("models/mlflow", mlflow),
        ("environments/e", {"image": "i"}),
    ):
        reply = await api.put(f"~/{path}/versions/1", {"properties": body})
        assert reply.status == 201, reply.body
    compute = {"properties": {"computeType": "AmlCompute"}}
    assert (await api.put("~/computes/batch-cluster", compute)).status in (200, 201)


def from_the_client(**properties: Any) -> dict[str, Any]:
    """A body as azure-ai-ml sends it."""
    return {
        "location": "local",
        "tags": {},
        "properties": {
            "description": None,
            "environmentId": f"{WORKSPACE}/environments/e/versions/1",
            "model": {"referenceType": "Id", "assetId": f"{WORKSPACE}/models/m/versions/1"},
            "codeConfiguration": {
                "codeId": f"{WORKSPACE}/codes/c/versions/1",
                "scoringScript": "batch_driver.py",
            },
            "outputFileName": "predictions.csv",
            "outputAction": "AppendRow",
            "errorThreshold": -1,
            "resources": {"instanceCount": 2, "properties": {}},
            "retrySettings": {"maxRetries": 3, "timeout": "PT30S"},
            "loggingLevel": "info",
            "miniBatchSize": 10,
            "maxConcurrencyPerInstance": 1,
            "compute": f"{WORKSPACE}/computes/batch-cluster",
            "properties": {},
            **properties,
        },
    }


async def deploy(api: Api, endpoint: str, name: str = "one", **properties: Any) -> Reply:
    return await api.put(
        f"~/batchEndpoints/{endpoint}/deployments/{name}", from_the_client(**properties)
    )


async def follow(api: Api, reply: Reply) -> Reply:
    return await api.get(reply.headers["Azure-AsyncOperation"].removeprefix(api.base))


# --- endpoints ---------------------------------------------------------------------------------


async def test_an_endpoint_is_created_and_read(api: Api, unique: Unique) -> None:
    name = unique("be")
    created = await api.put(
        f"~/batchEndpoints/{name}?api-version=2023-10-01",
        {"location": "x", "tags": {"t": "1"}, "properties": {"authMode": "aadToken"}},
    )
    assert created.status == 201
    body = created.body
    assert body["id"] == f"{WORKSPACE}/batchEndpoints/{name}"
    assert body["type"] == "Microsoft.MachineLearningServices/workspaces/batchEndpoints"
    assert body["properties"]["authMode"] == "AADToken"
    assert body["properties"]["defaults"] == {}
    assert body["properties"]["scoringUri"] == f"{api.base}{WORKSPACE}/batchEndpoints/{name}/jobs"
    operation = await follow(api, created)
    assert operation.body["status"] == "Succeeded"
    assert operation.body["properties"]["resource"] == f"batchEndpoints/{name}"

    read = await api.get(f"~/batchEndpoints/{name}")
    assert read.status == 200
    assert read.headers["ETag"] == created.headers["ETag"]
    assert read.body["systemData"]["createdAt"].endswith("Z")
    # What was read can be sent back as it is.
    again = await api.put(f"~/batchEndpoints/{name}", read.body)
    assert again.status == 200
    assert again.headers["ETag"] == read.headers["ETag"]


async def test_the_conditions_of_a_write(api: Api, endpoint: str, unique: Unique) -> None:
    path = f"~/batchEndpoints/{endpoint}"
    tag = (await api.get(path)).headers["ETag"]
    taken = await api.put(path, {}, headers={"If-None-Match": "*"})
    assert (taken.status, taken.error["code"]) == (412, "ResourceAlreadyExists")
    assert (await api.put(path, {"tags": {"b": "2"}}, headers={"If-Match": tag})).status == 200
    late = await api.put(path, {}, headers={"If-Match": tag})
    assert (late.status, late.error["code"]) == (412, "PreconditionFailed")
    absent = f"~/batchEndpoints/{unique('be')}"
    assert (await api.put(absent, {}, headers={"If-Match": "*"})).status == 412
    late = await api.patch(path, {"tags": {}}, headers={"If-Match": tag})
    assert late.status == 412


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"properties": {"authMode": "Key"}}, "/properties/authMode"),
        ({"properties": {"traffic": {}}}, "/properties/traffic"),
        (
            {"properties": {"defaults": {"deploymentName": "UPPER"}}},
            "/properties/defaults/deploymentName",
        ),
        (
            {"properties": {"defaults": {"deploymentName": "missing"}}},
            "/properties/defaults/deploymentName",
        ),
    ],
)
async def test_a_bad_endpoint_is_refused_by_its_field(
    api: Api, endpoint: str, body: dict[str, Any], pointer: str
) -> None:
    reply = await api.put(f"~/batchEndpoints/{endpoint}", body)
    assert reply.status == 400
    assert reply.error["target"] == pointer


async def test_a_patch_changes_what_it_names(api: Api, endpoint: str, assets: None) -> None:
    assert (await deploy(api, endpoint)).status == 201
    reply = await api.patch(
        f"~/batchEndpoints/{endpoint}", {"properties": {"defaults": {"deploymentName": "one"}}}
    )
    assert reply.status == 200
    assert reply.body["properties"]["defaults"] == {"deploymentName": "one"}
    assert reply.body["tags"] == {"a": "1"}
    reply = await api.patch(f"~/batchEndpoints/{endpoint}", {"tags": {"a": None, "b": "2"}})
    assert reply.body["tags"] == {"b": "2"}
    assert reply.body["properties"]["defaults"] == {"deploymentName": "one"}
    refused = await api.patch(f"~/batchEndpoints/{endpoint}", {"sku": {}})
    assert (refused.status, refused.error["target"]) == (400, "/sku")


async def test_lists_are_filtered_ordered_and_paged(api: Api, unique: Unique) -> None:
    names = [unique("be") for _ in range(3)]
    for name in names:
        assert (await api.put(f"~/batchEndpoints/{name}", {"tags": {name: "x"}})).status == 201
    found = await api.get(f"~/batchEndpoints?tags={names[1]}")
    assert [item["name"] for item in found.body["value"]] == [names[1]]
    shown: list[str] = []
    url = "~/batchEndpoints?orderBy=CreatedAtDesc&count=2"
    while url:
        page = await api.get(url)
        shown += [item["name"] for item in page.body["value"]]
        url = page.body.get("nextLink", "").removeprefix(api.base)
    assert [name for name in shown if name in names] == names[::-1]


async def test_batch_endpoints_have_no_keys(api: Api, endpoint: str) -> None:
    reply = await api.post(f"~/batchEndpoints/{endpoint}/listkeys")
    assert (reply.status, reply.error["code"]) == (400, "BadArgument")
    assert "token" in reply.error["message"]


async def test_online_and_batch_endpoints_share_their_names(
    api: Api, endpoint: str, unique: Unique
) -> None:
    reply = await api.put(f"~/onlineEndpoints/{endpoint}", {})
    assert (reply.status, reply.error["code"]) == (409, "ResourceAlreadyExists")
    other = unique("ep")
    assert (await api.put(f"~/onlineEndpoints/{other}", {})).status == 201
    assert (await api.put(f"~/batchEndpoints/{other}", {})).status == 409


async def test_another_workspace_sees_nothing(api: Api, endpoint: str, assets: None) -> None:
    await deploy(api, endpoint)
    other = WORKSPACE.replace("/workspaces/local", "/workspaces/elsewhere")
    for path in (
        f"/batchEndpoints/{endpoint}",
        f"/batchEndpoints/{endpoint}/deployments",
        f"/batchEndpoints/{endpoint}/deployments/one",
        f"/batchEndpoints/{endpoint}/jobs",
    ):
        assert (await api.get(other + path)).status == 404, path
    assert (await api.get(f"{other}/batchEndpoints")).body["value"] == []
    assert (await api.delete(f"{other}/batchEndpoints/{endpoint}")).status == 204
    assert (await api.get(f"~/batchEndpoints/{endpoint}")).status == 200


# --- deployments -------------------------------------------------------------------------------


async def test_a_deployment_comes_back_as_it_was_sent(
    api: Api, endpoint: str, assets: None
) -> None:
    created = await deploy(api, endpoint)
    assert created.status == 201, created.body
    read = await api.get(f"~/batchEndpoints/{endpoint}/deployments/one")
    properties = read.body["properties"]
    sent = from_the_client()["properties"]
    for field in ("environmentId", "model", "codeConfiguration", "compute", "retrySettings"):
        assert properties[field] == sent[field], field
    assert properties["resources"] == {"instanceCount": 2}
    assert properties["loggingLevel"] == "Info"
    assert properties["provisioningState"] == "Succeeded"
    assert "deploymentConfiguration" not in properties
    assert read.body["id"] == f"{WORKSPACE}/batchEndpoints/{endpoint}/deployments/one"
    again = await api.put(f"~/batchEndpoints/{endpoint}/deployments/one", read.body)
    assert again.status == 200
    assert again.headers["ETag"] == created.headers["ETag"]


async def test_the_server_fills_defaults(api: Api, endpoint: str, assets: None) -> None:
    body = {"properties": {"model": {"referenceType": "id", "assetId": "azureml:mlflow@latest"}}}
    reply = await api.put(f"~/batchEndpoints/{endpoint}/deployments/two", body)
    assert reply.status == 201, reply.body
    properties = reply.body["properties"]
    assert properties["model"]["assetId"] == f"{WORKSPACE}/models/mlflow/versions/1"
    assert properties["miniBatchSize"] == 10
    assert properties["errorThreshold"] == -1
    assert properties["retrySettings"] == {"maxRetries": 3, "timeout": "PT30S"}
    assert properties["outputAction"] == "AppendRow"
    assert properties["outputFileName"] == "predictions.csv"
    assert properties["resources"] == {"instanceCount": 1}


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        ({"errorThreshold": -2}, "/properties/errorThreshold"),
        ({"miniBatchSize": 0}, "/properties/miniBatchSize"),
        ({"retrySettings": {"timeout": "PT0S"}}, "/properties/retrySettings/timeout"),
        ({"retrySettings": {"maxRetries": -1}}, "/properties/retrySettings/maxRetries"),
        ({"outputAction": "Nothing"}, "/properties/outputAction"),
        ({"outputFileName": "../p.csv"}, "/properties/outputFileName"),
        ({"loggingLevel": "loud"}, "/properties/loggingLevel"),
        ({"resources": {"instanceCount": 0}}, "/properties/resources/instanceCount"),
        ({"model": {"referenceType": "DataPath", "path": "x"}}, "/properties/model"),
        ({"model": "azureml:m:1"}, "/properties/model"),
        ({"model": None}, "/properties/model"),
        ({"codeConfiguration": None}, "/properties/codeConfiguration"),
        ({"environmentId": None}, "/properties/environmentId"),
        (
            {"codeConfiguration": {"codeId": "azureml:c:1", "scoringScript": "../x.py"}},
            "/properties/codeConfiguration/scoringScript",
        ),
        (
            {"deploymentConfiguration": {"deploymentConfigurationType": "PipelineComponent"}},
            "/properties/deploymentConfiguration",
        ),
        ({"compute": "not a name"}, "/properties/compute"),
        ({"compute": "azureml:nowhere"}, "/properties/compute"),
        ({"environmentId": "azureml:unknown:1"}, "/properties/environmentId"),
    ],
)
async def test_a_bad_deployment_is_refused_by_its_field(
    api: Api, endpoint: str, assets: None, changed: dict[str, Any], pointer: str
) -> None:
    reply = await deploy(api, endpoint, **changed)
    assert reply.status == 400, reply.body
    assert reply.error["target"] == pointer
    assert (await api.get(f"~/batchEndpoints/{endpoint}/deployments")).body["value"] == []


async def test_references_into_another_workspace_are_refused(
    api: Api, endpoint: str, assets: None
) -> None:
    other = WORKSPACE.replace("/workspaces/local", "/workspaces/elsewhere")
    for changed, pointer in (
        (
            {"model": {"referenceType": "Id", "assetId": f"{other}/models/m/versions/1"}},
            "/properties/model/assetId",
        ),
        ({"compute": f"{other}/computes/c"}, "/properties/compute"),
    ):
        reply = await deploy(api, endpoint, **changed)
        assert (reply.status, reply.error["target"]) == (404, pointer)


async def test_the_default_deployment_stays_until_another_is_it(
    api: Api, endpoint: str, assets: None
) -> None:
    for name in ("one", "two"):
        assert (await deploy(api, endpoint, name)).status == 201
    path = f"~/batchEndpoints/{endpoint}"
    body = {"properties": {"defaults": {"deploymentName": "one"}}}
    assert (await api.put(path, body)).status == 200
    refused = await api.delete(f"{path}/deployments/one")
    assert (refused.status, refused.error["code"]) == (409, "ResourceConflict")
    assert "--defaults" in refused.error["message"]
    body = {"properties": {"defaults": {"deploymentName": "two"}}}
    assert (await api.put(path, body)).status == 200
    deleted = await api.delete(f"{path}/deployments/one")
    assert deleted.status == 202
    assert (await follow(api, deleted)).body["status"] == "Succeeded"
    assert (await api.get(f"{path}/deployments/one")).status == 404
    assert (await api.delete(f"{path}/deployments/one")).status == 204


async def test_an_endpoint_goes_with_its_deployments(api: Api, endpoint: str, assets: None) -> None:
    await deploy(api, endpoint)
    await api.patch(
        f"~/batchEndpoints/{endpoint}", {"properties": {"defaults": {"deploymentName": "one"}}}
    )
    assert (await api.delete(f"~/batchEndpoints/{endpoint}")).status == 202
    assert (await api.get(f"~/batchEndpoints/{endpoint}/deployments/one")).status == 404
    assert (await api.put(f"~/batchEndpoints/{endpoint}", {})).status == 201
    assert (await api.get(f"~/batchEndpoints/{endpoint}/deployments")).body["value"] == []


# --- jobs --------------------------------------------------------------------------------------


async def test_there_are_no_jobs(api: Api, endpoint: str, assets: None) -> None:
    await deploy(api, endpoint)
    below = f"{WORKSPACE}/batchEndpoints/{endpoint}"
    for path in (
        f"{WORKSPACE}/jobs",
        f"{below}/jobs",
        f"{below}/deployments/one/jobs",
        f"{FRONTEND}{below}/jobs?api-version=2020-09-01-dataplanepreview",
        f"{FRONTEND}{below}/deployments/one/jobs",
    ):
        reply = await api.get(path)
        assert (reply.status, reply.body) == (200, {"value": []}), path
    for path in ("~/jobs/none", f"{FRONTEND}{below}x/jobs", f"{below}/deployments/none/jobs"):
        assert (await api.get(path)).status == 404, path


async def test_an_invocation_is_read_whatever_the_case_of_its_fields(
    api: Api, endpoint: str, assets: None
) -> None:
    await deploy(api, endpoint)
    uri = (await api.get(f"~/batchEndpoints/{endpoint}")).body["properties"]["scoringUri"]
    path = uri.removeprefix(api.base)
    place = "azureml://datastores/workspaceblobstore/paths/in"
    body = {
        "Properties": {
            "InputData": {"x": {"JobInputType": "UriFolder", "Uri": place}},
            "RetrySettings": {"MaxRetries": 1, "timeout": "PT1M"},
            "MiniBatchSize": 3,
            "properties": {"experimentName": "trial"},
        }
    }
    reply = await api.post(path, body)
    assert (reply.status, reply.error["code"]) == (400, "BadArgument")
    assert "no valid deployment" in reply.error["message"]
    headers = {"azureml-model-deployment": "one", "repeatability_request-id": "once"}
    made = await api.post(path, body, headers=headers)
    assert made.status == 201, made.body
    properties = made.body["properties"]
    assert (properties["status"], properties["experimentName"]) == ("Queued", "trial")
    again = await api.post(path, body, headers=headers)
    assert (again.status, again.body["name"]) == (200, made.body["name"])
    job = f"~/jobs/{made.body['name']}"
    assert (await api.post(f"{job}/cancel", {})).status in (200, 202)
    listed = await api.get(f"~/batchEndpoints/{endpoint}/jobs")
    assert [each["name"] for each in listed.body["value"]] == [made.body["name"]]
    assert (await api.get(f"{job}/deadLetters")).body == {"value": []}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "/properties"),
        ({"properties": {"inputData": []}}, "/properties/inputData"),
        ({"properties": {"inputData": {}}}, "exactly one input"),
        ({"properties": {"inputData": {"x": {"jobInputType": "mltable", "uri": "a"}}}}, "UriFile"),
        ({"properties": {"inputData": {"x": {"uri": "http://169.254.169.254/"}}}}, "not allowed"),
        ({"properties": {"inputData": {"x": {"uri": "file:///etc"}}}}, "not allowed"),
        ({"properties": {"inputData": {"x": {"uri": "s3://b/k"}}}}, "not allowed"),
        ({"properties": {"inputData": {"x": {"uri": "uploads/../x"}}}}, "no place in a datastore"),
        ({"properties": {"miniBatchSize": 0, "inputData": {}}}, "/properties/miniBatchSize: "),
        (
            {"properties": {"retrySettings": {"maxRetries": 5_000}, "inputData": {}}},
            "/properties/retrySettings/maxRetries: ",
        ),
        ({"properties": {"inputData": {"x": {"uri": ""}}}}, "/properties/inputData/x/uri: "),
        (
            {"properties": {"outputFileName": "a/b", "inputData": {}}},
            "/properties/outputFileName: a file name without a path",
        ),
    ],
)
async def test_bad_invocations_are_refused(
    api: Api, endpoint: str, assets: None, said: dict[str, Any], words: str
) -> None:
    await deploy(api, endpoint)
    reply = await api.post(
        f"~/batchEndpoints/{endpoint}/jobs", said, headers={"azureml-model-deployment": "one"}
    )
    assert reply.status == 400, reply.body
    assert words in reply.error["message"], reply.error


async def test_only_what_exists_is_invoked(api: Api) -> None:
    body = {"properties": {"inputData": {"x": {"uri": "azureml:none:1"}}}}
    missing = await api.post("~/batchEndpoints/none-such/jobs", body)
    assert missing.status == 404


async def test_an_endpoint_without_public_access_takes_jobs_from_listed_networks_and_the_bus(
    connect: Connect, settings: Settings, api: Api, endpoint: str, assets: None
) -> None:
    await deploy(api, endpoint)
    path = f"~/batchEndpoints/{endpoint}"
    shown = (await api.get(path)).body
    assert shown["properties"]["publicNetworkAccess"] == "Enabled"
    shown["properties"]["publicNetworkAccess"] = "Disabled"
    assert (await api.put(path, shown)).status == 200
    # Azure's clients know no such field: what they send must not open it again.
    del shown["properties"]["publicNetworkAccess"]
    assert (await api.put(path, {**shown, "tags": {"b": "2"}})).status == 200
    assert (await api.get(path)).body["properties"]["publicNetworkAccess"] == "Disabled"

    uri = "azureml://datastores/workspaceblobstore/paths/in"
    body = {"properties": {"inputData": {"x": {"jobInputType": "UriFolder", "uri": uri}}}}
    headers = {"azureml-model-deployment": "one"}
    refused = await api.post(f"{path}/jobs", body, headers=headers)
    assert (refused.status, refused.error["code"]) == (403, "Forbidden")
    assert "private_networks" in refused.error["message"]
    for networks, status in (("10.0.0.0/8", 403), ("10.0.0.0/8 127.0.0.0/8", 201)):
        listing = settings.model_copy(update={"private_networks": networks})
        gateway = await app.build(
            listing, await connect("gateway"), SystemClock(), tls=None, scoring_url=""
        )
        await gateway.start()
        inside = Api(api.session, gateway.listener.url)
        made = await inside.post(f"{path}/jobs", body, headers=headers)
        assert made.status == status, made.body
        await gateway.stop()
    command = SubmitJob(
        workspace=settings.workspace,
        endpoint=endpoint,
        deployment="one",
        inputs={"x": JobInput(uri=uri)},
    )
    assert (await (await connect("probe")).ask(command, JobReply)).created
