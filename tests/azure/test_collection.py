"""``data_collector`` as Azure's files and Azure Resource Manager write it."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from headgate.azure import arm, arm_resources
from headgate.azure.arm_ids import Context
from headgate.azure.yaml_files import YamlFile, YamlFileError
from headgate.azure.yaml_values import LocalDeployment
from headgate_contracts.assets import DataSpec
from headgate_contracts.collection import Collection, DataCollector, RequestLogging
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import Deployment, DeploymentSpec

CONTEXT = Context(workspace="local")
DEFAULT = "azureml://datastores/workspaceblobstore/paths/modelDataCollector/digits/blue"


def read(folder: Path, text: str) -> LocalDeployment[DeploymentSpec]:
    path = folder / "file.yml"
    path.write_text("name: blue\nendpoint_name: digits\n" + dedent(text))
    return YamlFile.open(path).deployment()


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(YamlFileError) as caught:
        read(folder, text)
    return str(caught.value)


# --- files --------------------------------------------------------------------------------------


def test_a_file_as_azure_documents_it(tmp_path: Path) -> None:
    local = read(
        tmp_path,
        """\
        data_collector:
          sampling_rate: 0.25
          rolling_rate: Day
          request_logging:
            capture_headers: [X-Customer]
          collections:
            request:
              enabled: 'True'
            model_inputs:
              enabled: 'False'
              client_id: 7
              data:
                name: my_inputs
                path: azureml://datastores/workspaceblobstore/paths/mine
                version: 3
            model_outputs:
              enabled: true
              data: azureml:my_outputs@latest
        """,
    )
    assert local.spec.data_collector == DataCollector(
        collections={
            "request": Collection(sampling_rate=0.25, data="azureml:digits-blue-request:1"),
            "model_inputs": Collection(
                enabled=False, sampling_rate=0.25, client_id="7", data="azureml:my_inputs:3"
            ),
            "model_outputs": Collection(sampling_rate=0.25, data="azureml:my_outputs@latest"),
        },
        rolling_rate="day",
        request_logging=RequestLogging(capture_headers=("X-Customer",)),
    )
    assert local.data == (
        DataSpec(name="digits-blue-request", version="1", path=f"{DEFAULT}/request"),
        DataSpec(
            name="my_inputs", version="3", path="azureml://datastores/workspaceblobstore/paths/mine"
        ),
    )


def test_without_it_nothing_is_collected(tmp_path: Path) -> None:
    local = read(tmp_path, "instance_count: 1\n")
    assert local.spec.data_collector is None and local.data == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "data_collector: must be a mapping"),
        ("{rolling_rate: hour}", "data_collector.collections: is required"),
        ("{collections: {}}", "data_collector.collections"),
        ("{collections: {request: {enabled: maybe}}}", "request.enabled: must be true or false"),
        ("{sampling_rate: 2, collections: {request: {}}}", "sampling_rate: must be at most 1"),
        ("{rolling_rate: weekly, collections: {request: {}}}", "rolling_rate: must be one of"),
        ("{collections: {request: {enabledd: true}}}", "did you mean 'enabled'?"),
        ("{collections: {request: {data: {pth: x}}}}", "did you mean 'path'?"),
        ("{collections: {request: {data: nonsense}}}", "is no reference"),
        ("{collections: {a/b: {}}}", "data_collector.collections"),
        ("{collections: {request: {}, Request: {}}}", "differ only in case"),
        (
            "{collections: {a: {}, b: {}, c: {}, d: {}, e: {}, f: {}}}",
            "at most 5 collections besides request and response are allowed, not 6",
        ),
        (
            "{request_logging: {capture_headers: [Authorization]}, collections: {request: {}}}",
            "carries credentials, which are never collected",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    assert says in refusal(tmp_path, f"data_collector: {text}\n")


# --- ARM ----------------------------------------------------------------------------------------


def spec_of(collector: dict[str, Any], workspace: str | None = None) -> DeploymentSpec:
    body = {"properties": {"dataCollector": collector}}
    return arm.deployment_spec("digits", "blue", body, workspace=workspace)


def test_a_body_as_azures_client_sends_it() -> None:
    data_id = CONTEXT.asset_id("data", "digits-blue-request", "1")
    found = spec_of(
        {
            "collections": {
                "request": {
                    "dataCollectionMode": "enabled",
                    "samplingRate": 0.5,
                    "dataId": data_id,
                },
                "response": {"dataCollectionMode": "Disabled", "samplingRate": None},
            },
            "rollingRate": "hour",
            "requestLogging": {"captureHeaders": ["X-Customer"]},
        }
    )
    assert found.data_collector == DataCollector(
        collections={
            "request": Collection(sampling_rate=0.5, data="azureml:digits-blue-request:1"),
            "response": Collection(enabled=False),
        },
        request_logging=RequestLogging(capture_headers=("X-Customer",)),
    )
    shown = arm_resources.deployment_resource(Deployment(workspace="local", spec=found), CONTEXT)
    assert shown["properties"]["dataCollector"] == {
        "collections": {
            "request": {"dataCollectionMode": "Enabled", "samplingRate": 0.5, "dataId": data_id},
            "response": {"dataCollectionMode": "Disabled", "samplingRate": 1.0},
        },
        "rollingRate": "Hour",
        "requestLogging": {"captureHeaders": ["X-Customer"]},
    }


@pytest.mark.parametrize(
    ("collector", "pointer", "says"),
    [
        ({}, "", "required"),
        ({"collections": 3}, "/collections", "an object is expected"),
        ({"collections": {"request": 3}}, "/collections/request", "an object is expected"),
        (
            {"collections": {"request": {"dataCollectionMode": "Maybe"}}},
            "/collections/request/dataCollectionMode",
            "not one of Enabled, Disabled",
        ),
        (
            {"collections": {"request": {"samplingRate": 1.5}}},
            "/collections/request/samplingRate",
            "1",
        ),
        (
            {"collections": {"request": {"dataId": "nonsense"}}},
            "/collections/request/dataId",
            "is no reference",
        ),
        ({"collections": {"a b": {}}}, "/collections/a b", "pattern"),
        ({"collections": {"request": {}}, "rollingRate": "Week"}, "/rollingRate", "not one of"),
        (
            {"collections": {"request": {}}, "requestLogging": {"captureHeaders": ["Cookie"]}},
            "/requestLogging/captureHeaders",
            "never collected",
        ),
    ],
)
def test_mistakes_are_named_by_pointer(collector: dict[str, Any], pointer: str, says: str) -> None:
    with pytest.raises(HeadgateError) as caught:
        spec_of(collector)
    error = caught.value.error
    assert error.code is ErrorCode.BAD_ARGUMENT and says in error.message
    assert error.target.startswith(f"/properties/dataCollector{pointer}")


def test_data_of_another_workspace_is_not_found() -> None:
    foreign = Context(workspace="other").asset_id("data", "x", "1")
    with pytest.raises(HeadgateError) as caught:
        spec_of({"collections": {"request": {"dataId": foreign}}}, workspace="local")
    assert caught.value.error.code is ErrorCode.RESOURCE_NOT_FOUND
    target = "/properties/dataCollector/collections/request/dataId"
    assert caught.value.error.target == target
