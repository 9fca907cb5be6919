"""Batch jobs as Azure writes them: invocations, job resources, what its run history says.

Names of fields count whatever their case: Azure's documents and its clients differ there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from headgate.azure.arm_fields import SECONDS, Json
from headgate.azure.arm_ids import Context
from headgate.azure.arm_resources import timestamp
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.jobs import (
    Job,
    JobOverrides,
    JobStatus,
    MiniBatchesReply,
    SubmitJob,
)

# One of a job's outputs has a name, and Azure's clients ask for it by that.
OUTPUT_NAME = "score"
_KINDS = {"urifolder": "uri_folder", "urifile": "uri_file"}
# As it is written in a body -> as we say it.
_OVERRIDES = {
    "miniBatchSize": "mini_batch_size",
    "miniBatchBytes": "mini_batch_bytes",
    "miniBatchRows": "mini_batch_rows",
    "errorThreshold": "error_threshold",
    "outputFileName": "output_file_name",
    "maxConcurrencyPerInstance": "max_concurrency_per_instance",
    "priority": "priority",
}
_POINTERS = {
    **{ours: theirs for theirs, ours in _OVERRIDES.items()},
    "instance_count": "resources/instanceCount",
    "max_retries": "retrySettings/maxRetries",
    "timeout": "retrySettings/timeout",
    "inputs": "inputData",
    "outputs": "outputData",
    "experiment_name": "experimentName",
    "display_name": "displayName",
}

INVOCATION: Json = {
    "type": "object",
    "required": ["properties"],
    "properties": {
        "properties": {
            "type": "object",
            "description": "inputData {name: {jobInputType, uri}}, outputData, overrides",
        }
    },
}


def _bad(pointer: str, message: str) -> HeadgateError:
    return HeadgateError(ErrorCode.BAD_ARGUMENT, f"{pointer}: {message}", target=pointer)


def _fields(value: Any, pointer: str) -> dict[str, Any]:
    """An object by the lower-case names of its fields."""
    if not isinstance(value, Mapping):
        raise _bad(pointer, "an object is expected")
    return {str(name).lower(): item for name, item in value.items() if item is not None}


def invocation(
    workspace: str, endpoint: str, body: Any, *, deployment: str | None, repeat_id: str
) -> SubmitJob:
    """The command that an invocation means. Raises HeadgateError that names the field."""
    at = "/properties"
    said = _fields(_fields(body, "").get("properties"), at)
    more = _fields(said.get("properties", {}), f"{at}/properties")
    inputs = {
        name: _input(item, f"{at}/inputData/{name}")
        for name, item in _named(said.get("inputdata", {}), f"{at}/inputData")
    }
    outputs = {
        name: {"uri": _fields(item, f"{at}/outputData/{name}").get("uri", "")}
        for name, item in _named(said.get("outputdata", {}), f"{at}/outputData")
    }
    try:
        return SubmitJob(
            workspace=workspace,
            endpoint=endpoint,
            deployment=deployment or None,
            name=said.get("name") or None,
            inputs=inputs,
            outputs=outputs,
            overrides=_overrides(said),
            display_name=said.get("displayname", ""),
            experiment_name=said.get("experimentname") or more.get("experimentname", ""),
            description=said.get("description", ""),
            tags=said.get("tags", {}),
            repeat_id=repeat_id,
        )
    except ValidationError as error:
        first = error.errors()[0]
        field, *rest = map(str, first["loc"])
        place = "/".join([_POINTERS.get(field, field), *rest])
        raise _bad(f"{at}/{place}", first["msg"].removeprefix("Value error, ")) from None


def _named(value: Any, pointer: str) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        raise _bad(pointer, "an object with one entry for each name is expected")
    return [(str(name)[:100], item) for name, item in value.items()]


def _input(value: Any, pointer: str) -> Json:
    said = _fields(value, pointer)
    kind = str(said.get("jobinputtype", "UriFolder"))
    wanted = _KINDS.get(kind.replace("_", "").lower())
    if wanted is None:
        raise _bad(
            f"{pointer}/jobInputType",
            f"a job of a model deployment reads UriFolder or UriFile, not {kind[:40]!r}",
        )
    return {"type": wanted, "uri": said.get("uri", "")}


def _overrides(said: Mapping[str, Any]) -> JobOverrides:
    given = {
        ours: said[theirs.lower()] for theirs, ours in _OVERRIDES.items() if theirs.lower() in said
    }
    for place in ("compute", "resources"):
        found = _fields(said.get(place, {}), f"/properties/{place}")
        if "instancecount" in found:
            given["instance_count"] = found["instancecount"]
    retry = _fields(said.get("retrysettings", {}), "/properties/retrySettings")
    if "maxretries" in retry:
        given["max_retries"] = retry["maxretries"]
    if "timeout" in retry:
        try:
            given["timeout"] = SECONDS.load(retry["timeout"])
        except ValueError as error:
            raise _bad("/properties/retrySettings/timeout", str(error)) from None
    return JobOverrides.model_validate(given)


def invocation_body(command: SubmitJob) -> Json:
    """The body that means the command, as our own client sends it."""
    overrides = command.overrides.model_dump(exclude_none=True)
    names = {ours: theirs for theirs, ours in _OVERRIDES.items()}
    properties: Json = {names[name]: value for name, value in overrides.items() if name in names}
    if "instance_count" in overrides:
        properties["compute"] = {"instanceCount": overrides["instance_count"]}
    retry = {
        wire: value
        for wire, value in (
            ("maxRetries", overrides.get("max_retries")),
            ("timeout", SECONDS.dump(overrides["timeout"]) if "timeout" in overrides else None),
        )
        if value is not None
    }
    if retry:
        properties["retrySettings"] = retry
    kinds = {"uri_folder": "UriFolder", "uri_file": "UriFile"}
    properties["inputData"] = {
        name: {"jobInputType": kinds[item.type], "uri": item.uri}
        for name, item in command.inputs.items()
    }
    if command.outputs:
        properties["outputData"] = {
            name: {"jobOutputType": "UriFolder", "uri": item.uri}
            for name, item in command.outputs.items()
        }
    for name, value in (
        ("name", command.name),
        ("displayName", command.display_name),
        ("experimentName", command.experiment_name),
    ):
        if value:
            properties[name] = value
    return {"properties": properties}


# --- resources ---------------------------------------------------------------------------------


def job_id(context: Context, name: str) -> str:
    return f"{context.workspace_id}/jobs/{name}"


def job_resource(job: Job, context: Context, studio_url: str) -> Json:
    """A job as Azure shows it: a pipeline of one step. ``progress`` is ours."""
    properties: Json = {
        "jobType": "Pipeline",
        "status": job.status.value,
        "displayName": job.display_name,
        "experimentName": job.experiment_name,
        "description": job.description,
        "tags": {**job.tags, "azureml.batchrun": "true", "azureml.deploymentname": job.deployment},
        "properties": job.properties,
        "isArchived": False,
        "inputs": {
            "input": {
                "jobInputType": job.input.type,
                "uri": job.input.uri,
                "mode": "ReadOnlyMount",
            }
        },
        "outputs": {
            OUTPUT_NAME: {
                "jobOutputType": "uri_folder",
                "uri": job.output.uri,
                "mode": "ReadWriteMount",
            }
        },
        "services": {"Studio": {"jobServiceType": "Studio", "endpoint": studio_url}},
        "settings": {},
        "jobs": {},
        "endpointName": job.endpoint,
        "deploymentName": job.deployment,
        "interactionEndpoints": {"Studio": {"jobEndpointType": "Studio", "endpoint": studio_url}},
        "createdDateTime": timestamp(job.created_at),
        "progress": progress(job),
    }
    for name, at in (("startTimeUtc", job.started_at), ("endTimeUtc", job.ended_at)):
        if at is not None:
            properties[name] = timestamp(at)
    if job.error is not None:
        properties["error"] = {"code": job.error.code.value, "message": job.error.message}
    changed = job.ended_at or job.started_at or job.created_at
    return {
        "id": job_id(context, job.name),
        "name": job.name,
        "type": "Microsoft.MachineLearningServices/workspaces/jobs",
        "properties": properties,
        "systemData": {
            "createdAt": timestamp(job.created_at),
            "createdBy": job.created_by,
            "createdByType": "User",
            "lastModifiedAt": timestamp(changed),
        },
    }


def progress(job: Job) -> Json:
    """How far a job is, in numbers."""
    counts = job.counts
    said: Json = {
        "isListed": counts.is_listed,
        "miniBatches": counts.mini_batches,
        "settledMiniBatches": counts.settled,
        "failedMiniBatches": counts.failed_mini_batches,
        "items": counts.items,
        "succeededItems": counts.succeeded,
        "failedItems": counts.failed,
        "rows": counts.rows,
        "retries": counts.retries,
        "nodes": job.nodes,
    }
    if job.mini_batches_per_s is not None:
        said["miniBatchesPerSecond"] = round(job.mini_batches_per_s, 3)
    if job.left_s is not None:
        said["secondsLeft"] = round(job.left_s, 1)
    return said


def mini_batches(reply: MiniBatchesReply) -> Json:
    """Groups of neighbouring mini-batches, and how many there are of each state."""
    return {
        "groupSize": reply.size,
        "value": [group.model_dump(mode="json") for group in reply.groups],
    }


# --- run history -------------------------------------------------------------------------------


def run(job: Job) -> Json:
    """A run as the run history lists it; its only step has the job's own name."""
    return {
        "runId": job.name,
        "parentRunId": job.name,
        "rootRunId": job.name,
        "displayName": "batchscoring",
        "status": job.status.value,
        "runType": "azureml.StepRun",
        "createdUtc": timestamp(job.created_at),
        "tags": {"azureml.batchrun": "true"},
        "properties": {},
        "outputs": {OUTPUT_NAME: {"assetId": asset_of(job), "type": "uri_folder"}},
    }


def asset_of(job: Job) -> str:
    """What the output of a job is called where its address is asked for."""
    return f"azureml:{job.name}:{OUTPUT_NAME}"


def job_of_asset(asset: str) -> str | None:
    """The job whose output that is; None for anything else."""
    name = asset.removeprefix("azureml:").removesuffix(f":{OUTPUT_NAME}")
    return name if asset == f"azureml:{name}:{OUTPUT_NAME}" else None


def run_details(job: Job, log_files: Mapping[str, str]) -> Json:
    """What a stream of a job polls. ``log_files``: name -> address."""
    said: Json = {
        "runId": job.name,
        "status": job.status.value,
        "logFiles": dict(log_files),
        "properties": {},
        "warnings": [],
    }
    for name, at in (("startTimeUtc", job.started_at), ("endTimeUtc", job.ended_at)):
        if at is not None:
            said[name] = timestamp(at)
    if job.status is JobStatus.FAILED and job.error is not None:
        said["error"] = {
            "error": {"code": job.error.code.value, "message": job.error.message, "details": []}
        }
    return said
