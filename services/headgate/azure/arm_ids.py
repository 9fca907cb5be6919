"""Azure Resource Manager ids and the references between resources.

A contract reference is ``azureml:<name>:<version>`` or ``azureml:<name>@<label>``; Azure's REST
writes the same as a full resource id. Both are accepted, whatever the case of the id's segments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError

PROVIDER = "Microsoft.MachineLearningServices"
WORKSPACE_TYPE = f"{PROVIDER}/workspaces"
LOCATION = "local"
ASSET_KINDS = ("models", "environments", "codes")

_ASSET_NAME = limits.ASSET_NAME_PATTERN.strip("^$")
_ASSET_VERSION = limits.ASSET_VERSION_PATTERN.strip("^$")
_SHORT = re.compile(
    rf"(?:azureml:|(?!azureml[:@]))(?P<name>{_ASSET_NAME})(?::(?P<version>{_ASSET_VERSION})"
    rf"|@(?P<label>{_ASSET_VERSION}))\Z"
)
_FULL = re.compile(
    rf"(?:azureml:)?/subscriptions/[^/]+/resourceGroups/[^/]+/providers/{re.escape(PROVIDER)}"
    r"/workspaces/(?P<workspace>[^/]+)/(?P<kind>[a-z]+)"
    rf"/(?P<name>{_ASSET_NAME})/(?P<by>versions|labels)/(?P<version>{_ASSET_VERSION})/?\Z",
    re.IGNORECASE,
)
_COMPUTE = re.compile(
    rf"(?:azureml:)?/subscriptions/[^/]+/resourceGroups/[^/]+/providers/{re.escape(PROVIDER)}"
    rf"/workspaces/(?P<workspace>[^/]+)/computes/(?P<name>{_ASSET_NAME})/?\Z",
    re.IGNORECASE,
)
_SHORT_COMPUTE = re.compile(rf"(?:azureml:)?(?P<name>{_ASSET_NAME})\Z")


@dataclass(frozen=True, slots=True)
class Context:
    """Where a request was addressed: what resource ids and addresses are built from.

    Any subscription and resource group will do; the workspace is the tenant.
    """

    workspace: str
    subscription: str = "00000000-0000-0000-0000-000000000000"
    resource_group: str = "local"
    scoring_url: str = ""
    location: str = LOCATION

    @property
    def workspace_id(self) -> str:
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
            f"/providers/{WORKSPACE_TYPE}/{self.workspace}"
        )

    def endpoint_id(self, endpoint: str) -> str:
        return f"{self.workspace_id}/onlineEndpoints/{endpoint}"

    def deployment_id(self, endpoint: str, deployment: str) -> str:
        return f"{self.endpoint_id(endpoint)}/deployments/{deployment}"

    def batch_endpoint_id(self, endpoint: str) -> str:
        return f"{self.workspace_id}/batchEndpoints/{endpoint}"

    def batch_deployment_id(self, endpoint: str, deployment: str) -> str:
        return f"{self.batch_endpoint_id(endpoint)}/deployments/{deployment}"

    def compute_id(self, name: str) -> str:
        return f"{self.workspace_id}/computes/{name}"

    def container_id(self, kind: str, name: str) -> str:
        return f"{self.workspace_id}/{kind}/{name}"

    def asset_id(self, kind: str, name: str, version: str) -> str:
        return f"{self.container_id(kind, name)}/versions/{version}"

    def operation_id(self, operation: str) -> str:
        """Where a long-running operation tells how it goes."""
        return f"{self.workspace_id}/locations/{self.location}/mfeOperationsStatus/{operation}"

    def operation_result_id(self, operation: str) -> str:
        """Where a long-running operation says 202 until it has ended."""
        return f"{self.workspace_id}/locations/{self.location}/mfeOperationResults/{operation}"

    def full_reference(self, kind: str, reference: str) -> str:
        """A contract reference as a resource id; what is no short reference stays as it is."""
        match = _SHORT.match(reference)
        if match is None:
            return reference
        if match["label"]:
            return f"{self.container_id(kind, match['name'])}/labels/{match['label']}"
        return self.asset_id(kind, match["name"], match["version"])


def reference(kind: str, text: str) -> str:
    """The contract reference that ``text`` means; ValueError when it is none to such an asset."""
    if match := _FULL.match(text):
        if match["kind"].lower() != kind:
            raise ValueError(f"refers to {match['kind']}, but {kind} are expected here")
        separator = ":" if match["by"].lower() == "versions" else "@"
        return f"azureml:{match['name']}{separator}{match['version']}"
    if match := _SHORT.match(text):
        return text if text.startswith("azureml:") else f"azureml:{text}"
    if text.startswith("azureml://registries/"):
        return text
    raise ValueError(
        f"{text[:80]!r} is no reference; write azureml:<name>:<version>, azureml:<name>@latest "
        f"or a resource id .../workspaces/<workspace>/{kind}/<name>/versions/<version>"
    )


def compute_reference(text: str) -> str:
    """``azureml:<name>`` of the compute that ``text`` means; ValueError when it means none."""
    if match := _COMPUTE.match(text) or _SHORT_COMPUTE.match(text):
        return f"azureml:{match['name']}"
    raise ValueError(
        f"{text[:80]!r} is no compute; write azureml:<name> or a resource id "
        ".../workspaces/<workspace>/computes/<name>"
    )


def workspace_of(text: str) -> str | None:
    """The workspace named by a full resource id; None for any other text."""
    match = _FULL.match(text) or _COMPUTE.match(text)
    return match["workspace"] if match else None


def refuse_foreign(body: Any, pointers: Iterable[str], workspace: str) -> None:
    """Refuse resource ids of other workspaces at these places of a body.

    A short contract reference could not tell them from the workspace's own.
    """
    for pointer in pointers:
        value = body
        for step in pointer.split("/")[1:]:
            value = value.get(step) if isinstance(value, Mapping) else None
        other = workspace_of(value) if isinstance(value, str) else None
        if other is not None and other.lower() != workspace.lower():
            raise HeadgateError(
                ErrorCode.RESOURCE_NOT_FOUND,
                f"{pointer}: there is no such resource in the workspace {workspace!r}",
                target=pointer,
            )
