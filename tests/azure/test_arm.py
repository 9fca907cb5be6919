"""Contract resources survive the way to ARM JSON and back, and mistakes are named by pointer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.azure import arm, arm_fields, arm_ids, arm_resources
from headgate.azure.arm_ids import Context
from headgate_contracts import collection as c
from headgate_contracts import resources as r
from headgate_contracts.errors import ErrorCode, ErrorDetail, HeadgateError, WireError

CONTEXT = Context(workspace="local", scoring_url="https://127.0.0.1:8901")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.from_regex(r"[a-z][a-z0-9]{2,10}(-[a-z0-9]{1,8})?", fullmatch=True)
asset_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,12}", fullmatch=True)
tags = st.dictionaries(texts, texts, max_size=3)
percents = st.dictionaries(names, st.integers(0, 100), max_size=3)


def properties() -> st.SearchStrategy[dict[str, str]]:
    taken = {arm.ENDPOINT_ID_PROPERTY, arm.OPERATION_PROPERTY.lower(), arm.CODE_HASH_PROPERTY}
    return st.dictionaries(texts.filter(lambda key: key.lower() not in taken), texts, max_size=3)


def references(kind: str) -> st.SearchStrategy[str]:
    return st.builds("azureml:{}{}{}".format, asset_names, st.sampled_from(":@"), asset_names)


probes = st.builds(r.Probe, **dict.fromkeys(r.Probe.model_fields, st.integers(1, 100_000)))
endpoints = st.builds(
    r.EndpointSpec,
    name=names,
    description=texts,
    tags=tags,
    properties=properties(),
    compute=st.none() | texts,
    identity=st.none()
    | st.builds(
        r.Identity,
        user_assigned_identities=st.lists(texts, max_size=2, unique=True).map(tuple),
    ),
    traffic=percents,
    mirror_traffic=percents,
)
collectors = st.builds(
    c.DataCollector,
    collections=st.dictionaries(
        st.sampled_from(["request", "response", "model_inputs", "Model_Outputs", "a-b_c"]),
        st.builds(
            c.Collection,
            enabled=st.booleans(),
            sampling_rate=st.floats(0, 1),
            data=st.none() | references("data"),
            client_id=st.none() | texts,
        ),
        min_size=1,
    ),
    rolling_rate=st.sampled_from(["minute", "hour", "day", "month", "year"]),
    request_logging=st.builds(
        c.RequestLogging, capture_headers=st.lists(asset_names, max_size=3).map(tuple)
    ),
)
deployments = st.builds(
    r.DeploymentSpec,
    name=names,
    endpoint_name=names,
    description=texts,
    tags=tags,
    properties=properties(),
    model=st.none() | references("models"),
    model_mount_path=st.none() | texts,
    code_configuration=st.none()
    | st.builds(r.CodeConfiguration, code=references("codes"), scoring_script=texts.filter(bool)),
    environment=st.none() | references("environments"),
    environment_variables=st.dictionaries(
        st.from_regex(r"[A-G_][A-Z0-9_]{0,8}", fullmatch=True), texts, max_size=3
    ),
    instance_type=texts,
    request_settings=st.builds(r.RequestSettings),
    batching=st.none() | st.builds(r.Batching, max_wait_ms=st.integers(0, 60_000)),
    scale_settings=st.builds(r.ScaleSettings, polling_interval=st.none() | st.integers(1, 100_000)),
    liveness_probe=probes,
    startup_probe=st.none() | probes,
    data_collector=st.none() | collectors,
)
routes = st.builds(r.InferenceRoute, path=texts.map("/{}".format))
model_specs = st.builds(
    r.ModelSpec,
    name=asset_names,
    version=asset_names,
    path=texts,
    description=texts,
    tags=tags,
    properties=properties(),
)
environment_specs = st.builds(
    r.EnvironmentSpec,
    name=asset_names,
    version=asset_names,
    image=st.none() | texts,
    conda_file=st.none() | texts,
    build=st.none() | st.builds(r.EnvironmentBuild, path=texts, dockerfile_path=texts),
    inference_config=st.none()
    | st.builds(r.InferenceConfig, scoring_route=st.none() | routes, liveness_route=routes),
    description=texts,
    tags=tags,
    properties=properties(),
)
code_specs = st.builds(
    r.CodeSpec,
    name=asset_names,
    version=asset_names,
    path=texts,
    sha256=st.sampled_from(["", "ab" * 32]),
    description=texts,
    tags=tags,
    properties=properties(),
)


def over_the_wire(body: dict[str, Any]) -> Any:
    return json.loads(json.dumps(body))


@given(endpoints)
def test_an_endpoint_round_trips_as_body_and_as_resource(spec: r.EndpointSpec) -> None:
    assert arm.endpoint_spec(spec.name, over_the_wire(arm.endpoint_body(spec))) == spec
    resource = over_the_wire(
        arm_resources.endpoint_resource(
            r.Endpoint(workspace="local", spec=spec), CONTEXT, operation_url="https://x/op"
        )
    )
    back = arm.endpoint_spec(spec.name, resource)
    assert back == spec.model_copy(update={"identity": spec.identity or r.Identity()})


@given(deployments)
def test_a_deployment_round_trips_as_body_and_as_resource(spec: r.DeploymentSpec) -> None:
    """Also through full resource ids, which is how the resource writes its references."""
    body = over_the_wire(arm.deployment_body(spec))
    assert arm.deployment_spec(spec.endpoint_name, spec.name, body) == spec
    deployment = r.Deployment(
        workspace="local",
        spec=spec,
        error=WireError(code=ErrorCode.OUT_OF_QUOTA, message="full"),
    )
    resource = over_the_wire(
        arm_resources.deployment_resource(deployment, CONTEXT, operation_url="https://x/op")
    )
    back = arm.deployment_spec(spec.endpoint_name, spec.name, resource, workspace="LOCAL")
    assert back == spec


@given(model_specs)
def test_a_model_round_trips(spec: r.ModelSpec) -> None:
    resource = arm_resources.asset_resource(r.Model(workspace="local", spec=spec), CONTEXT)
    for body in (arm.model_body(spec), resource):
        assert arm.model_spec(spec.name, spec.version, over_the_wire(body)) == spec


@given(environment_specs)
def test_an_environment_round_trips(spec: r.EnvironmentSpec) -> None:
    resource = arm_resources.asset_resource(r.Environment(workspace="local", spec=spec), CONTEXT)
    for body in (arm.environment_body(spec), resource):
        assert arm.environment_spec(spec.name, spec.version, over_the_wire(body)) == spec


@given(code_specs)
def test_a_code_version_round_trips_with_its_hash(spec: r.CodeSpec) -> None:
    resource = arm_resources.asset_resource(r.Code(workspace="local", spec=spec), CONTEXT)
    for body in (arm.code_body(spec), resource):
        assert arm.code_spec(spec.name, spec.version, over_the_wire(body)) == spec


@given(st.integers(0, 10**16))
def test_durations_round_trip(ns: int) -> None:
    assert arm_fields.read_duration(arm_fields.write_duration(ns)) == ns


def test_durations_are_written_as_azure_writes_them() -> None:
    seconds = 1_000_000_000
    written = [arm_fields.write_duration(int(s * seconds)) for s in (0, 0.5, 5, 60, 90, 3600)]
    assert written == ["PT0S", "PT0.5S", "PT5S", "PT1M", "PT1M30S", "PT1H"]


@pytest.mark.parametrize("text", ["", "P", "PT", "5", "PT5", "PT-5S", "P1Y", "PT1.S", "PT\u0665S"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an ISO 8601 duration"):
        arm_fields.read_duration(text)


def test_a_deployment_looks_as_azure_documents_it() -> None:
    spec = r.DeploymentSpec(
        name="blue",
        endpoint_name="digits",
        model="azureml:digits:1",
        code_configuration=r.CodeConfiguration(code="azureml:c:2", scoring_script="score.py"),
        environment="azureml:sklearn@latest",
        instance_count=3,
        batching=r.Batching(max_rows=64, max_wait_ms=5),
    )
    resource = arm_resources.deployment_resource(
        r.Deployment(workspace="local", spec=spec, created_at=1.5, updated_at=2), CONTEXT
    )
    prefix = CONTEXT.workspace_id
    assert resource["id"] == f"{prefix}/onlineEndpoints/digits/deployments/blue"
    assert resource["sku"] == {"name": "Default", "capacity": 3}
    assert resource["systemData"]["createdAt"] == "1970-01-01T00:00:01.500000Z"
    properties = resource["properties"]
    assert properties["endpointComputeType"] == "Managed"
    assert properties["model"] == f"{prefix}/models/digits/versions/1"
    assert properties["environmentId"] == f"{prefix}/environments/sklearn/labels/latest"
    assert properties["codeConfiguration"] == {
        "codeId": f"{prefix}/codes/c/versions/2",
        "scoringScript": "score.py",
    }
    assert properties["requestSettings"] == {
        "requestTimeout": "PT5S",
        "maxConcurrentRequestsPerInstance": 1,
        "maxQueueWait": "PT0.5S",
    }
    assert properties["batching"] == {"maxRows": 64, "maxWait": "PT0.005S"}
    assert properties["livenessProbe"]["initialDelay"] == "PT10S"
    assert properties["scaleSettings"] == {"scaleType": "Default"}
    assert properties["egressPublicNetworkAccess"] == "Enabled"


def test_only_what_differs_from_the_defaults_is_sent() -> None:
    assert arm.endpoint_body(r.EndpointSpec(name="abc")) == {
        "location": "local",
        "properties": {},
    }


@pytest.mark.parametrize("word", ["Key", "key", "KEY"])
def test_enumerations_are_read_without_regard_to_case(word: str) -> None:
    spec = arm.endpoint_spec("abc", {"properties": {"authMode": word}})
    assert spec.auth_mode is r.AuthMode.KEY


@pytest.mark.parametrize("word", ["AMLToken", "amltoken", "aml_token", "amlToken"])
def test_token_modes_have_several_spellings(word: str) -> None:
    spec = arm.endpoint_spec("abc", {"properties": {"authMode": word}})
    assert spec.auth_mode is r.AuthMode.AML_TOKEN


@pytest.mark.parametrize(
    "text",
    [
        "azureml:digits:1",
        "digits:1",
        f"{CONTEXT.workspace_id}/models/digits/versions/1",
        f"azureml:{CONTEXT.workspace_id}/models/digits/versions/1",
        f"{CONTEXT.workspace_id}/Models/digits/Versions/1".replace("resourceG", "RESOURCEg"),
    ],
)
def test_a_reference_may_be_short_or_a_full_id(text: str) -> None:
    assert arm_ids.reference("models", text) == "azureml:digits:1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "azureml:",
        "azureml:digits",
        "azureml:digits:",
        "azureml:a/b:1",
        "azureml:digits:1\n",
        "../../etc/passwd",
        f"{CONTEXT.workspace_id}/environments/digits/versions/1",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"reference|expected"):
        arm_ids.reference("models", text)


def test_a_reference_into_another_workspace_is_not_found() -> None:
    foreign = Context(workspace="other").asset_id("models", "digits", "1")
    with pytest.raises(HeadgateError) as caught:
        arm.deployment_spec("ep1", "blue", {"properties": {"model": foreign}}, workspace="local")
    assert caught.value.error.code is ErrorCode.RESOURCE_NOT_FOUND
    assert caught.value.error.target == "/properties/model"


@pytest.mark.parametrize(
    ("body", "pointer", "says"),
    [
        ([], "", "an object is expected"),
        ({"properties": 3}, "/properties", "an object is expected"),
        ({"sku": {"capacity": 51}}, "/sku/capacity", "50"),
        ({"sku": {"capacity": -1}}, "/sku/capacity", "0"),
        ({"sku": {"capacity": "3"}}, "/sku/capacity", "integer"),
        ({"sku": {"capacity": True}}, "/sku/capacity", "integer"),
        ({"sku": {"capacity": 10**30}}, "/sku/capacity", "50"),
        ({"tags": {"a": 1}}, "/tags/a", "string"),
        ({"tags": {"a": "b" * 1025}}, "/tags", "1024"),
        ({"tags": {str(i): "" for i in range(51)}}, "/tags", "50"),
        ({"surprise": 1}, "/surprise", "no such field"),
        ({"properties": {"modle": "x"}}, "/properties/modle", "did you mean 'model'"),
        ({"properties": {"a/b~c": 1}}, "/properties/a~1b~0c", "no such field"),
        ({"properties": {"model": 5}}, "/properties/model", "reference"),
        ({"properties": {"model": "nonsense"}}, "/properties/model", "azureml:<name>"),
        ({"properties": {"endpointComputeType": "Kubernetes"}}, None, "only Managed"),
        (
            {"properties": {"requestSettings": {"requestTimeout": "PT3M1S"}}},
            "/properties/requestSettings/requestTimeout",
            "180000",
        ),
        (
            {"properties": {"requestSettings": {"requestTimeout": 5000}}},
            "/properties/requestSettings/requestTimeout",
            "ISO 8601",
        ),
        (
            {"properties": {"requestSettings": {"requestTimeout": "PT0.0005S"}}},
            "/properties/requestSettings/requestTimeout",
            "whole number of milliseconds",
        ),
        (
            {"properties": {"livenessProbe": {"period": "PT0S"}}},
            "/properties/livenessProbe/period",
            "1",
        ),
        (
            {"properties": {"codeConfiguration": {"codeId": "azureml:c:1"}}},
            "/properties/codeConfiguration/scoringScript",
            "required",
        ),
        (
            {"properties": {"environmentVariables": {"HEADGATE_X": ""}}},
            "/properties/environmentVariables",
            "reserved",
        ),
        ({"properties": {"description": "x" * 5001}}, "/properties/description", "5000"),
        ({"properties": {"appInsightsEnabled": "yes"}}, None, "boolean"),
    ],
)
def test_a_mistake_is_named_by_its_json_pointer(body: Any, pointer: str | None, says: str) -> None:
    with pytest.raises(HeadgateError) as caught:
        arm.deployment_spec("ep1", "blue", body)
    error = caught.value.error
    assert error.code is ErrorCode.BAD_ARGUMENT
    assert says in error.message
    assert pointer is None or error.target == pointer


def test_all_mistakes_are_told_at_once() -> None:
    body = {"sku": {"capacity": 51}, "properties": {"livenessProbe": {"timeout": "PT0S"}}}
    with pytest.raises(HeadgateError) as caught:
        arm.deployment_spec("ep1", "blue", body)
    pointers = {detail.target for detail in caught.value.error.details}
    assert pointers == {"/sku/capacity", "/properties/livenessProbe/timeout"}


@pytest.mark.parametrize("value", [33.3, -1, 101, "50", True, None, {}])
def test_a_traffic_share_is_a_whole_number_of_percent(value: Any) -> None:
    with pytest.raises(HeadgateError) as caught:
        arm.endpoint_spec("abc", {"properties": {"traffic": {"blue": value}}})
    assert caught.value.error.target == "/properties/traffic/blue"


@pytest.mark.parametrize(
    "name",
    [
        "ab",
        "a" * 33,
        "1abc",
        "a--b",
        "ab-",
        "a.b",
        "a*b",
        "a>b",
        "a b",
        "a\r\nb",
        "a\0b",
        "a/b",
        "..",
        "Abc",
        "\u0430b\u0441",
        "",
    ],
)
def test_a_bad_name_is_told_with_the_rule(name: str) -> None:
    for read in (arm.endpoint_spec, lambda n, b: arm.deployment_spec("ep1", n, b)):
        with pytest.raises(HeadgateError) as caught:
            read(name, {})
        assert caught.value.error.code is ErrorCode.INVALID_NAME
        assert "3 to 32 characters" in caught.value.error.message


def test_keys_are_read_only_where_they_count() -> None:
    body = {"properties": {"keys": {"primaryKey": "a", "secondaryKey": "b"}}}
    assert arm.endpoint_spec("abc", body) == r.EndpointSpec(name="abc")
    assert arm.endpoint_keys(body) == r.EndpointKeys(primary_key="a", secondary_key="b")
    assert arm.endpoint_keys({}) is None
    with pytest.raises(HeadgateError) as caught:
        arm.endpoint_keys({"properties": {"keys": {"primaryKey": "a"}}})
    assert caught.value.error.target == "/properties/keys/secondaryKey"


def test_a_key_choice_is_read_as_the_client_writes_it() -> None:
    assert arm.key_choice({"keyType": "Secondary", "keyValue": "old"}) == (
        r.KeyType.SECONDARY,
        "old",
    )
    body = arm.key_choice_body(r.KeyType.PRIMARY)
    assert arm.key_choice(body) == (r.KeyType.PRIMARY, "")


def test_an_error_round_trips() -> None:
    error = WireError(
        code=ErrorCode.BAD_ARGUMENT,
        message="no",
        target="/x",
        details=(ErrorDetail(code="BadArgument", message="no", target="/x"),),
    )
    assert arm_resources.error_of(over_the_wire(arm_resources.error_body(error))) == error
    assert arm_resources.error_of({"value": []}) is None
    assert arm_resources.error_of("text") is None


def test_the_next_version_is_one_more_than_the_highest_number() -> None:
    assert arm_resources.next_version([]) == "1"
    assert arm_resources.next_version(["2", "10", "beta"]) == "11"
