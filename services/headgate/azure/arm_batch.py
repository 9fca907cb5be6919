"""Batch endpoints and batch deployments as Azure Resource Manager writes them, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.azure import arm_ids
from headgate.azure.arm import (
    ENVELOPE_READ_ONLY,
    OPERATION_PROPERTY,
    PROPERTIES,
    loaded,
)
from headgate.azure.arm_fields import SECONDS, Field, Form, Json, Shape, choice, reference_to
from headgate.azure.arm_ids import LOCATION, Context
from headgate.azure.arm_resources import envelope
from headgate_contracts.batch import (
    BatchDeployment,
    BatchDeploymentSpec,
    BatchEndpoint,
    BatchEndpointSpec,
)

_IGNORED = (*ENVELOPE_READ_ONLY, "identity", "sku")
_MODEL = reference_to("models")


def _dump_model(reference: str) -> Json:
    return {"referenceType": "Id", "assetId": reference}


def _load_model(value: Any) -> str:
    if not isinstance(value, Mapping):
        raise ValueError("an object is expected: {referenceType: Id, assetId: <id of the model>}")
    kind = value.get("referenceType", "Id")
    if not isinstance(kind, str) or kind.lower() != "id":
        raise ValueError("referenceType is Id alone: register the model and name it by assetId")
    loaded_model: str = _MODEL.load(value.get("assetId"))
    return loaded_model


def _load_type(value: Any) -> str:
    kind = value.get("deploymentConfigurationType") if isinstance(value, Mapping) else None
    if not isinstance(kind, str) or kind.lower() != "model":
        raise ValueError(
            "deploymentConfigurationType is Model alone: models are deployed here, pipelines of "
            "components are not"
        )
    return "model"


def _load_compute(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a compute such as azureml:<name> is expected")
    return arm_ids.compute_reference(value)


ENDPOINT = Shape(
    Field("tags", "tags"),
    Field(
        "properties",
        "",
        Shape(
            Field("authMode", "auth_mode", choice({"aad_token": "AADToken"})),
            Field("description", "description"),
            Field("properties", "properties", PROPERTIES),
            Field("defaults", "defaults", Shape(Field("deploymentName", "deployment_name"))),
            Field(
                "publicNetworkAccess",
                "public_network_access",
                choice({"enabled": "Enabled", "disabled": "Disabled"}),
            ),
            ignored=("provisioningState", "scoringUri", "swaggerUri", "keys"),
        ),
    ),
    ignored=_IGNORED,
)

DEPLOYMENT = Shape(
    Field("tags", "tags"),
    Field(
        "properties",
        "",
        Shape(
            Field(
                "deploymentConfiguration",
                "type",
                Form(
                    lambda _: {"deploymentConfigurationType": "Model"},
                    _load_type,
                    {
                        "type": "object",
                        "properties": {"deploymentConfigurationType": {"const": "Model"}},
                        "required": ["deploymentConfigurationType"],
                    },
                ),
            ),
            Field("description", "description"),
            Field("properties", "properties", PROPERTIES),
            Field(
                "model",
                "model",
                Form(
                    _dump_model,
                    _load_model,
                    {
                        "type": "object",
                        "properties": {
                            "referenceType": {"const": "Id"},
                            "assetId": {"type": "string"},
                        },
                        "required": ["assetId"],
                    },
                ),
            ),
            Field(
                "codeConfiguration",
                "code_configuration",
                Shape(
                    Field("codeId", "code", reference_to("codes")),
                    Field("scoringScript", "scoring_script"),
                ),
            ),
            Field("environmentId", "environment", reference_to("environments")),
            Field("environmentVariables", "environment_variables"),
            Field(
                "compute",
                "compute",
                Form(lambda text: text, _load_compute, {"type": "string"}),
            ),
            Field(
                "resources",
                "resources",
                Shape(
                    Field("instanceCount", "instance_count"),
                    Field("instanceType", "instance_type"),
                    ignored=("properties",),
                ),
            ),
            Field("maxConcurrencyPerInstance", "max_concurrency_per_instance"),
            Field("miniBatchSize", "mini_batch_size"),
            Field("errorThreshold", "error_threshold"),
            Field(
                "retrySettings",
                "retry_settings",
                Shape(
                    Field("maxRetries", "max_retries"),
                    Field("timeout", "timeout", SECONDS),
                ),
            ),
            Field(
                "loggingLevel",
                "logging_level",
                choice({"debug": "Debug", "info": "Info", "warning": "Warning"}),
            ),
            Field(
                "outputAction",
                "output_action",
                choice({"append_row": "AppendRow", "summary_only": "SummaryOnly"}),
            ),
            Field("outputFileName", "output_file_name"),
            ignored=("provisioningState",),
        ),
    ),
    ignored=_IGNORED,
)
_REFERENCES = (
    "/properties/model/assetId",
    "/properties/environmentId",
    "/properties/codeConfiguration/codeId",
    "/properties/compute",
)


def _dumped(shape: Shape, spec: BatchEndpointSpec | BatchDeploymentSpec, *, full: bool) -> Json:
    """``type`` has one value only, and Azure's client takes its being there for a pipeline."""
    return shape.dump(spec.model_dump(mode="json", exclude_defaults=not full, exclude={"type"}))


def endpoint_body(spec: BatchEndpointSpec, location: str = LOCATION) -> Json:
    """The body that creates or replaces a batch endpoint. The name is in the address."""
    return {"location": location, **_dumped(ENDPOINT, spec, full=False)}


def endpoint_spec(name: str, body: Any) -> BatchEndpointSpec:
    """The batch endpoint that a body or resource describes."""
    return loaded(BatchEndpointSpec, ENDPOINT, body, {"name": name})


def deployment_body(spec: BatchDeploymentSpec, location: str = LOCATION) -> Json:
    """The body that creates or replaces a batch deployment. The names are in the address."""
    return {"location": location, **_dumped(DEPLOYMENT, spec, full=False)}


def deployment_spec(
    endpoint: str, name: str, body: Any, *, workspace: str | None = None
) -> BatchDeploymentSpec:
    """The batch deployment that a body or resource describes.

    With ``workspace``, resource ids that point into any other one are refused.
    """
    if workspace is not None:
        arm_ids.refuse_foreign(body, _REFERENCES, workspace)
    return loaded(BatchDeploymentSpec, DEPLOYMENT, body, {"name": name, "endpoint_name": endpoint})


# --- resources ---------------------------------------------------------------------------------


def jobs_path(context: Context, endpoint: str) -> str:
    """Where a batch endpoint takes invocations and lists its jobs."""
    return f"{context.batch_endpoint_id(endpoint)}/jobs"


def endpoint_resource(
    endpoint: BatchEndpoint, context: Context, jobs_url: str, *, operation_url: str = ""
) -> Json:
    """``jobs_url`` is the address of :func:`jobs_path` on the gateway."""
    spec = endpoint.spec
    body = _dumped(ENDPOINT, spec, full=True)
    properties = body["properties"]
    if operation_url:
        properties["properties"][OPERATION_PROPERTY] = operation_url
    properties |= {
        "provisioningState": endpoint.provisioning_state.value,
        "scoringUri": jobs_url,
    }
    identifier = context.batch_endpoint_id(spec.name)
    return {
        **envelope(identifier, spec.name, "batchEndpoints", endpoint),
        "location": context.location,
        **body,
    }


def deployment_resource(
    deployment: BatchDeployment, context: Context, *, operation_url: str = ""
) -> Json:
    """References are written as full resource ids, as Azure does."""
    spec = deployment.spec
    body = _dumped(DEPLOYMENT, spec, full=True)
    properties = body["properties"]
    if model := properties.get("model"):
        model["assetId"] = context.full_reference("models", model["assetId"])
    if environment := properties.get("environmentId"):
        properties["environmentId"] = context.full_reference("environments", environment)
    if code := properties.get("codeConfiguration"):
        code["codeId"] = context.full_reference("codes", code["codeId"])
    if compute := properties.get("compute"):
        properties["compute"] = context.compute_id(compute.removeprefix("azureml:"))
    if operation_url:
        properties["properties"][OPERATION_PROPERTY] = operation_url
    properties["provisioningState"] = deployment.provisioning_state.value
    identifier = context.batch_deployment_id(spec.endpoint_name, spec.name)
    return {
        **envelope(identifier, spec.name, "batchEndpoints/deployments", deployment),
        "location": context.location,
        **body,
    }
