"""Where assets lie: Azure's addresses of blobs, and the keys of our object store. Pure.

What belongs to a workspace lies below ``workspaces/<workspace>/<container>/`` in the store; a
built-in datastore is the container of its name. Folders that our own client uploads are named by
their content: ``uploads/<digest>`` to clients, ``uploads/<workspace>/<digest>`` in the store.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import unquote, urlsplit

from headgate_contracts.errors import ErrorCode, HeadgateError

HOST_SUFFIX = ".blob.core.windows.net"
"""What clients put between an account and a container; here it is part of the path."""
DEFAULT_DATASTORE = "workspaceblobstore"

_LONG = re.compile(
    r"azureml://subscriptions/[^/]+/resourcegroups/[^/]+/(?:providers/[^/]+/)?workspaces/"
    r"(?P<workspace>[^/]+)/datastores/(?P<datastore>[^/]+)/paths/(?P<path>.*)\Z",
    re.IGNORECASE | re.DOTALL,
)
_SHORT = re.compile(
    r"azureml://datastores/(?P<datastore>[^/]+)/paths/(?P<path>.+)\Z", re.IGNORECASE | re.DOTALL
)
_UPLOAD = re.compile(r"uploads/(?P<digest>[0-9a-f]{64})(?P<rest>/.*)?\Z", re.DOTALL)


def folder_of(workspace: str, container: str = "") -> str:
    """The key of everything of a workspace, or of one of its containers."""
    return f"workspaces/{workspace}/{container}".rstrip("/")


def upload_folder(workspace: str, digest: str) -> str:
    """The key of a folder that was uploaded by its content."""
    return f"uploads/{workspace}/{digest}"


def to_key(uri: str, workspace: str) -> str:
    """The store's key for what a client names, inside its own workspace.

    Raises HeadgateError: ResourceNotFound for another workspace's, BadArgument for anything else.
    """
    own = folder_of(workspace)
    if match := _LONG.match(uri):
        if match["workspace"].lower() != workspace:
            raise _nothing_there()
        return _joined(own, match["datastore"].lower(), match["path"])
    if match := _SHORT.match(uri):
        return _joined(own, match["datastore"].lower(), match["path"])
    if uri.lower().startswith(("https://", "http://")):
        return _of_address(uri, workspace)
    if match := _UPLOAD.match(uri):
        return upload_folder(workspace, match["digest"]) + (match["rest"] or "")
    if uri.startswith(f"{own}/"):
        return uri
    if uri.startswith("workspaces/"):
        raise _nothing_there()
    raise HeadgateError(
        ErrorCode.BAD_ARGUMENT,
        f"{uri[:100]!r} is no place in a datastore of the workspace: "
        "azureml://datastores/<datastore>/paths/<path>; upload local files first",
        target="path",
    )


def in_datastore(uri: str, workspace: str) -> tuple[str, str]:
    """The datastore of its own workspace that ``uri`` names, and the path in it; else empty."""
    match = _LONG.match(uri)
    if match is not None and match["workspace"].lower() != workspace:
        return "", ""
    match = match or _SHORT.match(uri)
    return (match["datastore"], match["path"].strip("/")) if match else ("", "")


def _of_address(uri: str, workspace: str) -> str:
    """Of a blob's address only the path counts: its host is this gateway, as the client sees it."""
    parts = [unquote(part) for part in urlsplit(uri).path.strip("/").split("/")]
    account, _, _ = parts[0].lower().partition(HOST_SUFFIX)
    if parts[0].lower().endswith(HOST_SUFFIX):
        if account != workspace:
            raise _nothing_there()
        parts = parts[1:]
    elif parts[0].lower() != DEFAULT_DATASTORE:  # the client drops the account now and then
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            "this address is no blob of this gateway; upload the files to a datastore first",
            target="path",
        )
    return _joined(folder_of(workspace), parts[0], "/".join(parts[1:]))


def _joined(own: str, container: str, path: str) -> str:
    return "/".join(part for part in (own, container, path.strip("/")) if part)


def to_uri(key: str, workspace_id: str) -> str:
    """How clients read where an asset lies; ``workspace_id`` is the workspace's resource id."""
    parts = [*key.split("/", 3), ""]
    if parts[0] == "uploads":
        return "/".join(["uploads", *parts[2:-1]])
    if parts[0] != "workspaces" or len(parts) < 4:
        return key
    _, subscription, _, group, *_, workspace = workspace_id.strip("/").split("/")
    return (
        f"azureml://subscriptions/{subscription}/resourcegroups/{group}/workspaces/{workspace}"
        f"/datastores/{parts[2]}/paths/{parts[3]}"
    )


def upload_container(kind: str, name: str, version: str) -> str:
    """The container for the files of one version of an asset."""
    digest = hashlib.sha256(f"{kind}/{name}/{version}".encode()).hexdigest()
    return f"{kind}-{digest[:40]}"


def blob_address(origin: str, workspace: str, container: str) -> str:
    """The address of a container on the gateway at ``origin``."""
    return f"{origin}/{workspace}{HOST_SUFFIX}/{container}"


def _nothing_there() -> HeadgateError:
    return HeadgateError(
        ErrorCode.RESOURCE_NOT_FOUND, "there is no such datastore in this workspace", target="path"
    )
