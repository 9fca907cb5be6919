"""Which places jobs may read and write: pure, from what was asked and what is allowed.

Everything in the workspace's own datastores is. Anything else must begin with one of the prefixes
of a setting, up to a whole part: ``s3://bucket/in`` allows ``s3://bucket/in/x``, not
``s3://bucket/inside``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from headgate.azure import storage_uris
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.nodes import Place

OBJECT_SCHEMES = ("s3", "gs", "az", "abfss", "file")
_ASSET = re.compile(
    r"(?:azureml:(?!//)|.*/workspaces/(?P<workspace>[^/]+)/data/)"
    r"(?P<name>[A-Za-z0-9][\w.-]*)(?:(?::|/versions/)(?P<version>[\w.-]+)|@(?P<label>[\w.-]+))\Z",
    re.IGNORECASE,
)


def asset_reference(uri: str, workspace: str) -> tuple[str, str] | None:
    """Name and version of the data asset that ``uri`` names; None when it names none.

    The version is ``latest`` for a label, of which that is the only one.
    """
    match = _ASSET.match(uri)
    if match is None or uri.startswith(("http://", "https://")):
        return None
    if match["workspace"] and match["workspace"].lower() != workspace:
        raise HeadgateError(
            ErrorCode.RESOURCE_NOT_FOUND, "there is no such data asset in this workspace"
        )
    if match["label"] and match["label"] != "latest":
        raise HeadgateError(
            ErrorCode.RESOURCE_NOT_FOUND,
            f"data assets have the label latest alone, not {match['label'][:40]!r}",
        )
    return match["name"], match["version"] or "latest"


def place_of(uri: str, workspace: str, allowed: Sequence[str], *, target: str) -> Place:
    """Where ``uri`` is. Raises HeadgateError(UriNotAllowed) that says what would be allowed."""
    scheme = uri.partition(":")[0].lower()
    if scheme == "azureml" or "://" not in uri or _is_own(uri, scheme):
        try:
            return Place(path=storage_uris.to_key(uri, workspace), workspace=workspace)
        except HeadgateError as error:
            raise HeadgateError(error.error.code, str(error), target=target) from None
    if scheme not in OBJECT_SCHEMES:
        raise _refused(uri, "this kind of address", allowed, target)
    parts = urlsplit(uri)
    segments = [unquote(part) for part in parts.path.split("/") if part]
    if parts.query or parts.fragment or parts.username or ".." in segments or "." in segments:
        raise _refused(uri, "an address with such parts", allowed, target)
    if not any(_covers(prefix, uri) for prefix in allowed):
        raise _refused(uri, "this address", allowed, target)
    root = f"{scheme}://{parts.netloc}"
    if scheme == "file":  # a store is a folder, and a place lies in it
        return Place(url=f"file:///{'/'.join(segments[:1])}", path="/".join(segments[1:]))
    return Place(url=root, path="/".join(segments))


def is_web(uri: str) -> bool:
    """Whether it is an address of a web server, and not of a blob of ours."""
    scheme = uri.partition(":")[0].lower()
    return scheme in ("https", "http") and not _is_own(uri, scheme)


def _is_own(uri: str, scheme: str) -> bool:
    """Whether it is the address of a blob on our own gateway, as Azure's client writes it."""
    if scheme not in ("https", "http"):
        return False
    first = unquote(urlsplit(uri).path.strip("/").partition("/")[0]).lower()
    return first.endswith(storage_uris.HOST_SUFFIX) or first == storage_uris.DEFAULT_DATASTORE


def _covers(prefix: str, uri: str) -> bool:
    prefix = prefix.rstrip("/")
    return uri == prefix or uri.startswith(f"{prefix}/")


def _refused(uri: str, what: str, allowed: Sequence[str], target: str) -> HeadgateError:
    shown = uri.partition("?")[0][:100]
    listed = ", ".join(allowed) or "none"
    return HeadgateError(
        ErrorCode.URI_NOT_ALLOWED,
        f"{shown!r}: {what} is not allowed here. Allowed are datastores of the workspace "
        f"(azureml://datastores/<datastore>/paths/<path>), data assets (azureml:<name>:<version>) "
        f"and what the administrator lists; listed: {listed}",
        target=target,
    )


def overlap(source: Place, to: Place) -> bool:
    """Whether one lies within the other: outputs would be read as inputs, or replace them."""
    if (source.url, source.datastore) != (to.url, to.datastore):
        return False
    one, other = f"{source.path.strip('/')}/", f"{to.path.strip('/')}/"
    return one.startswith(other) or other.startswith(one)
