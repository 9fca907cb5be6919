"""The client's calls about data, datastores, computes, workspaces, and archived assets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar
from urllib.parse import quote

from headgate.azure import arm, arm_data, arm_storage
from headgate.azure.arm_fields import Json
from headgate.azure.arm_ids import PROVIDER
from headgate.azure.arm_resources import next_version
from headgate.azure.yaml_storage import LocalData
from headgate.client.api import Client, Found
from headgate.client.http import API_VERSION, Answer, not_understood
from headgate.client.uploads import Bar, silent_bar, upload
from headgate_contracts import limits
from headgate_contracts.assets import AssetKind, DataSpec, View
from headgate_contracts.envelope import Value
from headgate_contracts.errors import HeadgateError
from headgate_contracts.resources import EnvironmentSpec, ModelSpec
from headgate_contracts.storage import ComputeSpec, DatastoreSpec

S = TypeVar("S", bound=Value)
_VIEWS: dict[View, str] = {"active": "ActiveOnly", "archived": "ArchivedOnly", "all": "All"}


def read_view(*, archived_only: bool, include_archived: bool) -> View:
    """What a list shows, from ``az``'s two flags."""
    if archived_only:
        return "archived"
    return "all" if include_archived else "active"


class Storage:
    """What a session with a Headgate can be asked. Methods raise HeadgateError."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._context = client.context

    async def instance_types(self) -> list[Json]:
        """The sizes that an instance can have."""
        path = (
            f"/subscriptions/{self._context.subscription}/providers/{PROVIDER}"
            f"/locations/{self._context.location}/vmSizes"
        )
        answer = await self._client.http.send("GET", path, query={"api-version": API_VERSION})
        items = answer.object.get("value")
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise not_understood()
        return items

    # --- assets --------------------------------------------------------------------------------

    async def containers(self, kind: AssetKind, view: View = "active") -> list[Json]:
        """What there is of a kind of asset: one entry per name."""
        return [body async for body in self._pages(f"/{kind}", listViewType=_VIEWS[view])]

    async def models(self, name: str, view: View = "active") -> list[Found[ModelSpec]]:
        """Versions of one model, newest first."""
        return await self._versions("models", name, view, arm.model_spec)

    async def environments(self, name: str, view: View = "active") -> list[Found[EnvironmentSpec]]:
        """Versions of one environment, newest first."""
        return await self._versions("environments", name, view, arm.environment_spec)

    async def data(self, name: str, view: View = "active") -> list[Found[DataSpec]]:
        """Versions of one data asset, newest first."""
        return await self._versions("data", name, view, arm_data.data_spec)

    async def get_data(self, name: str, version: str) -> Found[DataSpec]:
        """One version, or the one with a label such as ``@latest``."""
        answer = await self._send("GET", _version_path("data", name, version))
        return _found(answer, lambda of, body: arm_data.data_spec(name, of, body))

    async def create_data(self, local: LocalData, bar: Bar = silent_bar) -> Found[DataSpec]:
        """Uploads what is local and registers it; without a version, as the next number."""
        spec = local.spec
        if local.path is not None:
            sent = await upload(self._client, local.path, keep_name=True, bar=bar)
            spec = spec.model_copy(update={"path": f"{sent.uri}/{local.path.name}"})
        if not spec.version:
            known = [found.spec.version for found in await self.data(spec.name, "all")]
            spec = spec.model_copy(update={"version": next_version(known)})
        path = _version_path("data", spec.name, spec.version)
        answer = await self._send("PUT", path, body=arm_data.data_body(spec))
        return _found(answer, lambda of, body: arm_data.data_spec(spec.name, of, body))

    async def labelled_version(self, kind: AssetKind, name: str, label: str) -> str:
        """The version that a label means now."""
        answer = await self._send("GET", _version_path(kind, name, f"@{label}"))
        return str(answer.object.get("name", ""))

    async def archive(
        self, kind: AssetKind, name: str, version: str = "", *, is_archived: bool
    ) -> None:
        """Hides a version from lists or shows it again; all versions when none is given."""
        path = _version_path(kind, name, version) if version else _name_path(kind, name)
        body = (await self._send("GET", path)).object
        body["properties"] = {**body.get("properties", {}), "isArchived": is_archived}
        await self._send("PUT", path, body=body)

    async def delete_asset(self, kind: AssetKind, name: str, version: str = "") -> bool:
        """Deletes a version, or all of a name; whether there was any."""
        path = _version_path(kind, name, version) if version else _name_path(kind, name)
        return (await self._send("DELETE", path)).is_removal

    async def _versions(
        self, kind: AssetKind, name: str, view: View, read: Callable[[str, str, Json], S]
    ) -> list[Found[S]]:
        pages = self._pages(f"{_name_path(kind, name)}/versions", listViewType=_VIEWS[view])
        return [
            _found(Answer(200, {}, body), lambda version, item: read(name, version, item))
            async for body in pages
        ]

    # --- datastores ----------------------------------------------------------------------------

    async def put_datastore(
        self, spec: DatastoreSpec, secret: str, etag: str = ""
    ) -> Found[DatastoreSpec]:
        body = arm_storage.datastore_body(spec, secret)
        answer = await self._send("PUT", _name_path("datastores", spec.name), body=body, etag=etag)
        return _found(answer, arm_storage.datastore_spec)

    async def get_datastore(self, name: str) -> Found[DatastoreSpec]:
        answer = await self._send("GET", _name_path("datastores", name))
        return _found(answer, arm_storage.datastore_spec)

    async def list_datastores(self) -> list[Found[DatastoreSpec]]:
        return [
            _found(Answer(200, {}, body), arm_storage.datastore_spec)
            async for body in self._pages("/datastores")
        ]

    async def delete_datastore(self, name: str) -> bool:
        """Whether there was one."""
        return (await self._send("DELETE", _name_path("datastores", name))).is_removal

    # --- computes ------------------------------------------------------------------------------

    async def put_compute(self, spec: ComputeSpec, etag: str = "") -> Found[ComputeSpec]:
        body = arm_storage.compute_body(spec)
        answer = await self._send("PUT", _name_path("computes", spec.name), body=body, etag=etag)
        return _found(answer, arm_storage.compute_spec)

    async def get_compute(self, name: str) -> Found[ComputeSpec]:
        answer = await self._send("GET", _name_path("computes", name))
        return _found(answer, arm_storage.compute_spec)

    async def list_computes(self) -> list[Found[ComputeSpec]]:
        return [
            _found(Answer(200, {}, body), arm_storage.compute_spec)
            async for body in self._pages("/computes")
        ]

    async def compute_nodes(self, name: str) -> list[Json]:
        """The nodes of one compute."""
        answer = await self._send("POST", f"{_name_path('computes', name)}/listNodes")
        return list(answer.object.get("nodes") or ())

    async def delete_compute(self, name: str) -> bool:
        """Whether there was one."""
        return (await self._send("DELETE", _name_path("computes", name))).is_removal

    # --- workspaces ----------------------------------------------------------------------------

    async def get_workspace(self) -> Json:
        return (await self._send("GET", "")).object

    async def list_workspaces(self) -> list[Json]:
        """Those that the caller may see."""
        above, _, _ = self._context.workspace_id.rpartition("/")
        return [body async for body in self._pages_at(above)]

    # --- the wire ------------------------------------------------------------------------------

    async def _send(
        self, method: str, path: str, *, body: Json | None = None, etag: str = ""
    ) -> Answer:
        return await self._client.http.send(
            method,
            f"{self._context.workspace_id}{path}",
            query={"api-version": API_VERSION},
            body=body,
            headers={"If-Match": etag} if etag else {},
        )

    def _pages(self, path: str, **query: str) -> AsyncIterator[Json]:
        return self._pages_at(f"{self._context.workspace_id}{path}", query)

    async def _pages_at(
        self, path: str, query: Mapping[str, str] | None = None
    ) -> AsyncIterator[Json]:
        """Every item of a list, page after page."""
        first = {"api-version": API_VERSION, "count": str(limits.PAGE_SIZE_MAX), **(query or {})}
        answer = await self._client.http.send("GET", path, query=first)
        while True:
            items = answer.object.get("value")
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                raise not_understood()
            for item in items:
                yield item
            if not (following := answer.object.get("nextLink")):
                return
            answer = await self._client.http.send("GET", str(following))


def _name_path(kind: str, name: str) -> str:
    return f"/{kind}/{quote(name, safe='')}"


def _version_path(kind: str, name: str, version: str) -> str:
    if version.startswith("@"):
        return f"{_name_path(kind, name)}/labels/{quote(version[1:], safe='')}"
    return f"{_name_path(kind, name)}/versions/{quote(version, safe='')}"


def _found(answer: Answer, read: Callable[[str, Json], S]) -> Found[S]:
    body = answer.object
    try:
        return Found(read(body["name"], body), body, answer.headers.get("ETag", ""))
    except (HeadgateError, LookupError, TypeError, ValueError, AttributeError):
        raise not_understood() from None
