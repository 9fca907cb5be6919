"""``headgate batch-endpoint invoke``: from flags, a file and ``--set`` to one command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from headgate.cli.errors import UsageError
from headgate_contracts import limits
from headgate_contracts.jobs import JOB_NAME_RULE, SubmitJob

if TYPE_CHECKING:
    from headgate.client import Client

_NUMBERS = (
    *("mini_batch_size", "mini_batch_bytes", "mini_batch_rows", "error_threshold", "priority"),
    *("max_retries", "timeout", "instance_count", "max_concurrency_per_instance"),
)


def settings_of(pairs: Sequence[str]) -> dict[str, str]:
    """``--set`` as values by their dotted paths."""
    found: dict[str, str] = {}
    for pair in pairs:
        path, separator, value = pair.partition("=")
        if not separator or not path:
            raise UsageError(f"--set {pair!r}: write <path>=<value>")
        found[path.strip()] = value
    return found


def command_of(
    workspace: str,
    endpoint: str,
    *,
    deployment: str,
    names: Mapping[str, Any],
    flags: Mapping[str, Any],
    pairs: Sequence[str],
    inputs: Mapping[str, Mapping[str, str]],
    output: str,
) -> SubmitJob:
    """The invocation that is meant. ``--set`` counts more than flags.

    Raises UsageError that names the flag or path.
    """
    overrides = {name: value for name, value in flags.items() if value is not None}
    names = dict(names)
    sources: dict[str, dict[str, str]] = {k: dict(v) for k, v in inputs.items()}
    for path, value in settings_of(pairs).items():
        first, _, rest = path.partition(".")
        last = path.rpartition(".")[2]
        if first == "inputs" and rest:
            source = sources.setdefault(rest.partition(".")[0], {"type": "uri_folder"})
            source["uri" if last == "path" else last] = value
        elif first == "outputs" and last in ("path", "uri"):
            output = value
        elif last in ("output_file_name", *_NUMBERS):
            overrides[last] = _number(path, value) if last in _NUMBERS else value
        elif last in ("job_name", "experiment_name"):
            names["name" if last == "job_name" else last] = value
        else:
            raise UsageError(f"--set {path}: a job has no such setting")
    try:
        return SubmitJob.model_validate(
            {
                "workspace": workspace,
                "endpoint": endpoint,
                "deployment": deployment or None,
                "inputs": sources,
                "outputs": {"score": {"uri": output}} if output else {},
                "overrides": overrides,
                **names,
            }
        )
    except ValidationError as error:
        raise UsageError("; ".join(_problems(error))) from None


def _problems(error: ValidationError) -> Iterator[str]:
    """What is wrong with each value, by the name that a user gives it."""
    from headgate.azure.yaml_shapes import explained

    for detail in error.errors(include_url=False):
        place = [str(part) for part in detail["loc"] if part != "overrides"]
        name, rule = ".".join(place), None
        if place == ["name"]:
            name, rule = "job_name", JOB_NAME_RULE
        elif place in (["endpoint"], ["deployment"]):
            rule = limits.NAME_RULE
        yield f"{name}: {explained(detail, rule)}"


def _number(path: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise UsageError(f"--set {path}={value}: a whole number is expected") from None


def local(uri: str) -> Path:
    return Path(uri).expanduser()


async def uploaded(client: Client, uri: str) -> str:
    """The address of an input; what is a file or folder of this machine is uploaded first."""
    from headgate.cli.progress import upload_bar
    from headgate.client.uploads import upload

    if "://" in uri or uri.startswith("azureml:"):
        return uri
    path = local(uri)
    if not path.exists():
        raise UsageError(
            f"--input {uri!r}: there is no such file or folder, and it is no address "
            "(azureml://datastores/<datastore>/paths/<path>, azureml:<name>:<version>)"
        )
    sent = await upload(client, path, keep_name=False, bar=upload_bar)
    return sent.uri if path.is_dir() else f"{sent.uri}/{path.name}"


def kind_of(uri: str, asked: str) -> str:
    """uri_file or uri_folder: as asked, else what a local path is, else a folder."""
    if asked:
        kind = asked.replace("-", "_").lower()
        if kind not in ("uri_file", "uri_folder"):
            raise UsageError(f"--input-type {asked!r}: there are uri_file and uri_folder")
        return kind
    return "uri_file" if local(uri).is_file() else "uri_folder"
