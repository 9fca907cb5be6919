"""Batch endpoints and deployments between the contracts and ARM's JSON."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.azure import arm_batch, arm_ids
from headgate.azure.arm_ids import Context
from headgate_contracts.batch import (
    BatchDefaults,
    BatchDeployment,
    BatchDeploymentSpec,
    BatchEndpoint,
    BatchEndpointSpec,
    BatchResources,
    RetrySettings,
)
from headgate_contracts.errors import HeadgateError
from headgate_contracts.resources import CodeConfiguration

CONTEXT = Context("local", subscription="sub", resource_group="rg")
WHOLE = BatchDeploymentSpec(
    name="one",
    endpoint_name="night",
    description="d",
    tags={"a": "1"},
    properties={"p": "q"},
    model="azureml:m:1",
    code_configuration=CodeConfiguration(code="azureml:c:1", scoring_script="s.py"),
    environment="azureml:e:2",
    environment_variables={"X": "1"},
    compute="azureml:cluster",
    resources=BatchResources(instance_count=3, instance_type="big"),
    max_concurrency_per_instance=2,
    mini_batch_size=4,
    error_threshold=5,
    retry_settings=RetrySettings(max_retries=6, timeout=90),
    logging_level="warning",
    output_action="summary_only",
    output_file_name="out.csv",
)


def refused(body: dict[str, Any]) -> str:
    with pytest.raises(HeadgateError) as caught:
        arm_batch.deployment_spec("night", "one", {"properties": body})
    return caught.value.error.target


def test_a_body_says_everything_and_nothing_twice() -> None:
    body = arm_batch.deployment_body(WHOLE)
    assert arm_batch.deployment_spec("night", "one", body) == WHOLE
    least = BatchDeploymentSpec(name="one", endpoint_name="night")
    assert arm_batch.deployment_body(least) == {"location": "local", "properties": {}}


def test_a_resource_is_complete_and_can_be_sent_back() -> None:
    value = BatchDeployment(workspace="local", spec=WHOLE, revision=3)
    resource = arm_batch.deployment_resource(value, CONTEXT, operation_url="https://x/op")
    properties = resource["properties"]
    assert properties["model"] == {
        "referenceType": "Id",
        "assetId": CONTEXT.asset_id("models", "m", "1"),
    }
    assert properties["compute"] == f"{CONTEXT.workspace_id}/computes/cluster"
    assert properties["retrySettings"] == {"maxRetries": 6, "timeout": "PT1M30S"}
    assert arm_batch.deployment_spec("night", "one", resource, workspace="LOCAL") == WHOLE

    spec = BatchEndpointSpec(name="night", defaults=BatchDefaults(deployment_name="one"))
    endpoint = BatchEndpoint(workspace="local", spec=spec)
    resource = arm_batch.endpoint_resource(endpoint, CONTEXT, "https://x/jobs")
    assert resource["properties"]["scoringUri"] == "https://x/jobs"
    assert arm_batch.endpoint_spec("night", resource) == spec


@pytest.mark.parametrize("kind", ["Model", "model", "MODEL"])
def test_a_deployment_of_a_model_may_say_so(kind: str) -> None:
    body = {"properties": {"deploymentConfiguration": {"deploymentConfigurationType": kind}}}
    assert arm_batch.deployment_spec("night", "one", body).type == "model"


@pytest.mark.parametrize("value", ["PipelineComponent", None, 3])
def test_anything_else_is_refused(value: object) -> None:
    body = {"deploymentConfiguration": {"deploymentConfigurationType": value}}
    assert refused(body) == "/properties/deploymentConfiguration"


@pytest.mark.parametrize("word", ["info", "Info", "INFO"])
def test_words_are_read_whatever_their_case(word: str) -> None:
    body = {"properties": {"loggingLevel": word, "outputAction": "appendrow"}}
    spec = arm_batch.deployment_spec("night", "one", body)
    assert (spec.logging_level, spec.output_action) == ("info", "append_row")
    for mode in ("aadToken", "AADToken", "aad_token"):
        assert arm_batch.endpoint_spec("night", {"properties": {"authMode": mode}})


@pytest.mark.parametrize(
    "text",
    [
        "cluster",
        "azureml:cluster",
        f"{CONTEXT.workspace_id}/computes/cluster",
        f"azureml:{CONTEXT.workspace_id.upper()}/COMPUTES/cluster",
    ],
)
def test_a_compute_is_named_in_short_or_by_its_id(text: str) -> None:
    assert arm_ids.compute_reference(text) == "azureml:cluster"


@given(st.text(max_size=80))
def test_no_text_is_a_compute_by_accident(text: str) -> None:
    try:
        found = arm_ids.compute_reference(text)
    except ValueError:
        return
    assert arm_ids.compute_reference(found) == found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["model", "compute", "resources", "retrySettings", "deploymentConfiguration", "tags", "x"]
)


@given(st.dictionaries(FIELDS, JSON, max_size=4))
def test_any_body_is_read_or_refused(properties: dict[str, Any]) -> None:
    try:
        arm_batch.deployment_spec("night", "one", {"properties": properties}, workspace="local")
    except HeadgateError as error:
        assert error.error.target.startswith("/properties")
