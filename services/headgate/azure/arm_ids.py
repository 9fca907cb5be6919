"""Azure Resource Manager ids and the references between resources.

A contract reference is ``azureml:<name>:<version>`` or ``azureml:<name>@<label>``; Azure's REST
writes the same as a full resource id. Both are accepted, whatever the case of the id's segments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from headgate_contracts import limits

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


def workspace_of(text: str) -> str | None:
    """The workspace named by a full resource id; None for any other text."""
    match = _FULL.match(text)
    return match["workspace"] if match else None
