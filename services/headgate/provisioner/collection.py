"""Data collection: what a worker is told, where its files go and when. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from headgate.azure import storage_uris
from headgate.azure.arm_ids import Context
from headgate_contracts import collection
from headgate_contracts.envelope import Value
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import DeploymentSpec
from headgate_contracts.storage import DEFAULT_DATASTORE

LINES = ".jsonl"
GROWN_BY = 1.25
STALE_S = 60.0
RETRY_FIRST_S = 5.0
RETRY_MAX_S = 300.0

_DATASTORE = re.compile(r"/datastores/(?P<name>[^/]+)/paths/", re.IGNORECASE)
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,126}\Z")
_PARTS_MAX = 7  # collection, year, month, day, hour, minute, file


class Target(Value):
    """Whose data it is, and the address of the folder of each collection."""

    workspace: str
    endpoint: str
    deployment: str
    spec: str
    folders: dict[str, str]


@dataclass(frozen=True, slots=True)
class Found:
    """A file of an instance: ``path`` is below its folder, and below the target's folder too."""

    path: str
    size_bytes: int
    closed: bool

    @property
    def collection(self) -> str:
        return self.path.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Sent:
    """What of a file is in the store."""

    size_bytes: int
    events: int
    at: float


def folders_of(spec: DeploymentSpec, paths: Mapping[str, str]) -> dict[str, str]:
    """The folder of each collection that collects; ``paths`` are those of their data assets."""
    if spec.data_collector is None:
        return {}
    found: dict[str, str] = {}
    for name in spec.data_collector.enabled:
        path = collection.default_path(spec.endpoint_name, spec.name, name)
        default = f"azureml://datastores/{DEFAULT_DATASTORE}/paths/{path}"
        found[name] = paths.get(name, default).rstrip("/")
    return found


def target_of(
    spec: DeploymentSpec, workspace: str, version: str, folders: Mapping[str, str]
) -> Target | None:
    """Where the data of a version goes; None when it collects nothing."""
    if not folders:
        return None
    return Target(
        workspace=workspace,
        endpoint=spec.endpoint_name,
        deployment=spec.name,
        spec=version,
        folders=dict(folders),
    )


def told(spec: DeploymentSpec, workspace: str, folders: Mapping[str, str]) -> str:
    """What the worker collects, as it reads it; empty when that is nothing."""
    wanted = spec.data_collector
    if wanted is None or not wanted.enabled:
        return ""
    collections = {
        name: {"rate": each.sampling_rate, "address": folders[name]}
        for name, each in wanted.enabled.items()
    }
    return json.dumps(
        {
            "source": Context(workspace).deployment_id(spec.endpoint_name, spec.name),
            "rolling_rate": wanted.rolling_rate,
            "capture_headers": wanted.request_logging.capture_headers,
            "collections": collections,
        }
    )


def datastore_of(address: str) -> str:
    """The datastore that an address names; BadArgument when it names none."""
    match = _DATASTORE.search(address)
    if match is None:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"collected data goes to a datastore, azureml://datastores/<name>/paths/<path>, "
            f"not to {address[:200]!r}; change the path of the collection's data asset",
            target="data_collector",
        )
    return match["name"]


def key_of(target: Target, path: str) -> str:
    """Where in the store a file goes. Raises HeadgateError for a folder that nobody can have."""
    folder, _, rest = path.partition("/")
    return f"{storage_uris.to_key(target.folders[folder], target.workspace)}/{rest}"


def is_ours(target: Target, path: str) -> bool:
    """Whether a file may be one of a worker's: the script can write into the folder as well."""
    parts = path.split("/")
    known = parts[0] in target.folders and 2 < len(parts) <= _PARTS_MAX
    return known and all(_PART.match(part) for part in parts[1:])


def is_due(found: Found, sent: Sent | None, now: float) -> bool:
    """Whether a file is sent now. The whole of it replaces what was sent, so not for every line."""
    if sent is None or found.closed:
        return True
    if found.size_bytes <= sent.size_bytes:
        return False
    return found.size_bytes >= sent.size_bytes * GROWN_BY or now - sent.at >= STALE_S


def whole_lines(path: str, data: bytes) -> bytes:
    """What of a file can be sent: a line may be half written, an object of its own never is."""
    return data[: data.rfind(b"\n") + 1] if path.endswith(LINES) else data


def retry_s(failures: int) -> float:
    """How long to wait after so many failures in a row."""
    return min(RETRY_MAX_S, RETRY_FIRST_S * 2.0 ** min(failures - 1, 16))
