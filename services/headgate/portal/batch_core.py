"""What the studio's pages about batch jobs decide and compute. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headgate.portal.core import moment
from headgate_contracts.batch import BatchDeploymentSpec
from headgate_contracts.jobs import JobInput, JobOverrides, SubmitJob

RUNNING = ("NotStarted", "Preparing", "Queued", "Running")
RESUMABLE = ("Paused", "Failed", "Canceled")
RETRIABLE = (*RUNNING, *RESUMABLE, "Completed")

# Worst first: what a group is called after. The words are those of the picture's legend.
STATES = {
    "failed": "given up",
    "retrying": "to be tried again",
    "running": "with the nodes",
    "waiting": "waiting",
    "done": "done",
}


def job_row(told: Mapping[str, Any]) -> dict[str, str]:
    """A batch job as a line of a table."""
    fields = told.get("properties") or {}
    return {
        "name": str(told.get("name", "")),
        "status": str(fields.get("status", "")),
        "endpoint": str(fields.get("endpointName", "")),
        "deployment": str(fields.get("deploymentName", "")),
        "done": done_text(fields.get("progress") or {}),
        "created": moment(str(fields.get("createdDateTime", ""))),
    }


def done_text(progress: Mapping[str, Any]) -> str:
    """How many mini-batches are done; more may come while the input is being listed."""
    more = "" if progress.get("isListed") else "+"
    return f"{progress.get('settledMiniBatches', 0)} of {progress.get('miniBatches', 0)}{more}"


def output_of(told: Mapping[str, Any]) -> str:
    """Where a job's output is; empty while that is not known."""
    first = next(iter((told.get("outputs") or {}).values()), None) or {}
    return str(first.get("uri", ""))


def about(told: Mapping[str, Any]) -> str:
    """What a job was made of, in a line."""
    source = next(iter((told.get("inputs") or {}).values()), None) or {}
    parts = [
        f"{told.get('endpointName', '')} / {told.get('deploymentName', '')}",
        f"reads {source.get('uri', '')}",
        f"writes {output_of(told)}",
    ]
    return " · ".join(parts)


def deployment_text(spec: BatchDeploymentSpec) -> str:
    """How the jobs of a deployment are run, in a line."""
    has_rows = spec.output_action == "append_row"
    retries = spec.retry_settings
    parts = [
        f"{spec.mini_batch_size} files per mini-batch",
        f"{spec.resources.instance_count} nodes with {spec.max_concurrency_per_instance} processes",
        f"{retries.max_retries} further attempts of {retries.timeout} s",
        f"compute {spec.compute or 'of this host'}",
        f"output {spec.output_file_name}" if has_rows else "output by the script",
    ]
    return " · ".join(parts)


def letter_row(told: Mapping[str, Any]) -> dict[str, str]:
    """A mini-batch that was given up as a line of a table."""
    error = told.get("error")
    text = error.get("message", "") if isinstance(error, Mapping) else error
    return {
        "number": str(told.get("number", "")),
        "files": ", ".join(map(str, told.get("files") or ())),
        "items": str(told.get("items", "")),
        "attempts": str(told.get("attempts", "")),
        "error": str(text or ""),
    }


def node_row(told: Mapping[str, Any]) -> dict[str, str]:
    """A node as a line of a table."""
    error = told.get("error") or {}
    return {
        "name": str(told["id"]),
        "state": str(told["state"]),
        "job": str(told["job"]),
        "compute": str(told["compute"] or "of this host"),
        "of": f"{told['endpoint']} / {told['deployment']}",
        "processes": str(told["processes"]),
        "since": moment(str(told["startedAt"])),
        "error": f"{error['code']}: {error['message']}" if error else "",
    }


# --- the picture of a job's mini-batches -------------------------------------------------------


def totals(groups: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """How many mini-batches are in which state, and how many were tried more than once."""
    found = dict.fromkeys((*STATES, "retried"), 0)
    for group in groups:
        for state in found:
            found[state] += group.get(state, 0)
    return found


def summary(counts: Mapping[str, int]) -> str:
    """The same as a sentence."""
    parts = [f"{counts[state]:,} {words}" for state, words in STATES.items() if counts[state]]
    if not parts:
        return "no mini-batch yet"
    again = f"; {counts['retried']:,} needed another attempt" if counts["retried"] else ""
    return ", ".join(parts) + again


def cells(groups: Sequence[Mapping[str, int]], size: int) -> str:
    """HTML of the picture: a cell for each group, filled as far as it is done.

    Nothing but numbers and words of ours goes into it.
    """
    return "".join(_cell(group, size) for group in groups)


def _cell(group: Mapping[str, int], size: int) -> str:
    counts = totals([group])
    worst = next((state for state in STATES if counts[state]), "waiting")
    number = sum(counts[state] for state in STATES)
    done = round(100 * counts["done"] / number) if number else 0
    first = int(group["first"])
    name = str(first) if size == 1 else f"{first} to {first + number - 1}"
    again = " again" if counts["retried"] else ""
    return (
        f'<i class="{worst}{again}" style="--d:{done}%" data-n="{first}" '
        f'title="{name}: {summary(counts)}"></i>'
    )


# --- invoking ----------------------------------------------------------------------------------

OVERRIDES = {
    "mini_batch_size": "Files per mini-batch",
    "instance_count": "Nodes",
    "max_retries": "Further attempts",
    "timeout": "Seconds per attempt",
    "error_threshold": "Items that may fail",
    "priority": "Priority",
}


def invocation(
    *,
    workspace: str,
    endpoint: str,
    deployment: str,
    name: str,
    uri: str,
    is_file: bool,
    file_name: str,
    overrides: Mapping[str, float | None],
) -> SubmitJob:
    """The job that the form asks for; what is left empty is as the deployment says.

    Raises ValidationError that names the field.
    """
    given: dict[str, Any] = {k: int(v) for k, v in overrides.items() if v is not None}
    if file_name:
        given["output_file_name"] = file_name
    return SubmitJob(
        workspace=workspace,
        endpoint=endpoint,
        deployment=deployment or None,
        name=name or None,
        inputs={"input": JobInput(type="uri_file" if is_file else "uri_folder", uri=uri)},
        overrides=JobOverrides(**given),
    )
