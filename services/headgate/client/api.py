"""The client's calls: one method per thing that can be asked of Headgate."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from urllib.parse import quote, urlsplit

from headgate.azure import arm, arm_batch, arm_resources
from headgate.azure.arm_fields import Json
from headgate.azure.arm_ids import Context
from headgate.client.http import API_VERSION, Answer, Http, not_understood
from headgate.client.target import Target
from headgate_contracts import limits
from headgate_contracts.batch import BatchDeploymentSpec, BatchEndpointSpec
from headgate_contracts.envelope import Value
from headgate_contracts.errors import HeadgateError, WireError
from headgate_contracts.resources import (
    CodeSpec,
    DeploymentSpec,
    EndpointKeys,
    EndpointSpec,
    EnvironmentSpec,
    KeyType,
    ModelSpec,
    OperationStatus,
)

S = TypeVar("S", bound=Value)
T = TypeVar("T")
_QUERY = {"api-version": API_VERSION}


@dataclass(frozen=True, slots=True)
class Found(Generic[S]):
    """A stored resource: its spec, the whole ARM resource, and the tag that names its revision."""

    spec: S
    body: Json
    etag: str = ""

    @property
    def properties(self) -> Json:
        return dict(self.body.get("properties") or {})

    @property
    def state(self) -> str:
        return str(self.properties.get("provisioningState", ""))

    @property
    def error(self) -> WireError | None:
        return arm_resources.error_of(self.properties)


@dataclass(frozen=True, slots=True)
class Started:
    """A long-running operation under way; without an address there is nothing to wait for."""

    id: str = ""
    url: str = ""
    retry_after_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Progress:
    """One look at an operation."""

    status: OperationStatus
    percent_complete: float
    retry_after_s: float
    error: WireError | None = None


class Client:
    """A session with one Headgate. Every method raises HeadgateError."""

    def __init__(self, target: Target) -> None:
        self.http = Http(target)
        self.context = Context(target.workspace, subscription="local")
        self._base = self.context.workspace_id
        self.uploads = f"{self._base}/uploads"  # where folders are sent to, by their content

    async def __aenter__(self) -> Self:
        await self.http.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.http.__aexit__(kind, error, trace)

    # --- endpoints -----------------------------------------------------------------------------

    async def get_endpoint(self, name: str) -> Found[EndpointSpec]:
        return _endpoint(await self.get(_endpoint_path(name)))

    async def list_endpoints(self) -> list[Found[EndpointSpec]]:
        pages = self.pages("/onlineEndpoints")
        return [_endpoint(Answer(200, {}, body)) async for body in pages]

    async def create_endpoint(self, spec: EndpointSpec) -> Started:
        """Refused with ResourceAlreadyExists when there is one of this name."""
        return await self._put(_endpoint_path(spec.name), arm.endpoint_body(spec), _ONLY_NEW)

    async def update_endpoint(self, spec: EndpointSpec, etag: str) -> Started:
        """Refused with PreconditionFailed when somebody else changed it since it was read."""
        return await self._put(_endpoint_path(spec.name), arm.endpoint_body(spec), _if_match(etag))

    async def delete_endpoint(self, name: str) -> Started:
        return await self._delete(_endpoint_path(name))

    async def keys(self, endpoint: str) -> EndpointKeys:
        path = f"{_endpoint_path(endpoint)}/listKeys"
        answer = await self._send("POST", path, repeatable=True)
        return _read(lambda: arm.keys_of(answer.object))

    async def regenerate_key(self, endpoint: str, key_type: KeyType) -> Started:
        path = f"{_endpoint_path(endpoint)}/regenerateKeys"
        return _started(await self._send("POST", path, body=arm.key_choice_body(key_type)))

    async def traffic(self, endpoint: str) -> Json:
        """What the routers measured, per deployment."""
        return (await self.get(f"{_endpoint_path(endpoint)}/traffic")).object

    # --- deployments ---------------------------------------------------------------------------

    async def get_deployment(self, endpoint: str, name: str) -> Found[DeploymentSpec]:
        return found_deployment(endpoint, await self.get(_deployment_path(endpoint, name)))

    async def list_deployments(self, endpoint: str) -> list[Found[DeploymentSpec]]:
        pages = self.pages(f"{_endpoint_path(endpoint)}/deployments")
        return [found_deployment(endpoint, Answer(200, {}, body)) async for body in pages]

    async def create_deployment(self, spec: DeploymentSpec) -> Started:
        """Refused with ResourceAlreadyExists when there is one of this name."""
        path = _deployment_path(spec.endpoint_name, spec.name)
        return await self._put(path, arm.deployment_body(spec), _ONLY_NEW)

    async def update_deployment(self, spec: DeploymentSpec, etag: str) -> Started:
        """Refused with PreconditionFailed when somebody else changed it since it was read."""
        path = _deployment_path(spec.endpoint_name, spec.name)
        return await self._put(path, arm.deployment_body(spec), _if_match(etag))

    async def delete_deployment(self, endpoint: str, name: str) -> Started:
        return await self._delete(_deployment_path(endpoint, name))

    async def stop_deployment(self, endpoint: str, name: str) -> Started:
        """No instance and no cost from now on; what is stopped already stays so."""
        path = f"{_deployment_path(endpoint, name)}/stop"
        return _started(await self._send("POST", path, repeatable=True))

    async def start_deployment(self, endpoint: str, name: str) -> Started:
        path = f"{_deployment_path(endpoint, name)}/start"
        return _started(await self._send("POST", path, repeatable=True))

    async def logs(
        self,
        endpoint: str,
        name: str,
        *,
        container: str,
        tail: int,
        cursor: str = "",
        wait_s: int = 0,
        request_id: str = "",
        contains: str = "",
    ) -> tuple[str, str]:
        """Log text, and the cursor that asks only for what comes after it.

        Without any new text the answer is held back for up to ``wait_s``.
        """
        body: Json = {"containerType": container, "tail": tail}
        given = {"cursor": cursor, "requestId": request_id, "contains": contains}
        body |= {field: text for field, text in given.items() if text}
        answer = await self.http.send(
            "POST",
            f"{self._base}{_deployment_path(endpoint, name)}/getLogs",
            query={**_QUERY, "wait": str(wait_s)} if wait_s else _QUERY,
            body=body,
            repeatable=True,
        )
        return str(answer.object.get("content", "")), str(answer.object.get("cursor", ""))

    async def instances(self, endpoint: str, name: str) -> list[Json]:
        path = f"{_deployment_path(endpoint, name)}/instances"
        return [body async for body in self.pages(path)]

    # --- batch endpoints and deployments -------------------------------------------------------

    async def get_batch_endpoint(self, name: str) -> Found[BatchEndpointSpec]:
        return _found(await self.get(_batch_path(name)), arm_batch.endpoint_spec)

    async def list_batch_endpoints(self) -> list[Found[BatchEndpointSpec]]:
        pages = self.pages("/batchEndpoints")
        return [_found(Answer(200, {}, body), arm_batch.endpoint_spec) async for body in pages]

    async def put_batch_endpoint(self, spec: BatchEndpointSpec, etag: str = "") -> Started:
        """Make one, or with ``etag`` change the one that was read."""
        headers = _if_match(etag) or _ONLY_NEW
        return await self._put(_batch_path(spec.name), arm_batch.endpoint_body(spec), headers)

    async def delete_batch_endpoint(self, name: str) -> Started:
        return await self._delete(_batch_path(name))

    async def get_batch_deployment(self, endpoint: str, name: str) -> Found[BatchDeploymentSpec]:
        return _batch_deployment(endpoint, await self.get(_batch_path(endpoint, name)))

    async def list_batch_deployments(self, endpoint: str) -> list[Found[BatchDeploymentSpec]]:
        pages = self.pages(f"{_batch_path(endpoint)}/deployments")
        return [_batch_deployment(endpoint, Answer(200, {}, body)) async for body in pages]

    async def put_batch_deployment(self, spec: BatchDeploymentSpec, etag: str = "") -> Started:
        """Make one or replace what is there; with ``etag`` only the one that was read."""
        path = _batch_path(spec.endpoint_name, spec.name)
        return await self._put(path, arm_batch.deployment_body(spec), _if_match(etag))

    async def delete_batch_deployment(self, endpoint: str, name: str) -> Started:
        return await self._delete(_batch_path(endpoint, name))

    async def list_batch_jobs(self, endpoint: str, deployment: str = "") -> list[Json]:
        """The jobs of an endpoint, or of one of its deployments."""
        return [body async for body in self.pages(f"{_batch_path(endpoint, deployment)}/jobs")]

    # --- assets --------------------------------------------------------------------------------

    async def put_model(self, spec: ModelSpec) -> Found[ModelSpec]:
        path = _version_path("models", spec.name, spec.version)
        return _model(spec.name, await self._send("PUT", path, body=arm.model_body(spec)))

    async def put_environment(self, spec: EnvironmentSpec) -> Found[EnvironmentSpec]:
        path = _version_path("environments", spec.name, spec.version)
        body = arm.environment_body(spec)
        return _environment(spec.name, await self._send("PUT", path, body=body))

    async def put_code(self, spec: CodeSpec) -> None:
        path = _version_path("codes", spec.name, spec.version)
        await self._send("PUT", path, body=arm.code_body(spec), repeatable=True)

    async def get_model(self, name: str, version: str = "") -> Found[ModelSpec]:
        """One version; ``@latest`` or another label, or nothing for the newest."""
        return _model(name, await self.get(_version_path("models", name, version)))

    async def get_environment(self, name: str, version: str = "") -> Found[EnvironmentSpec]:
        """One version; ``@latest`` or another label, or nothing for the newest."""
        return _environment(name, await self.get(_version_path("environments", name, version)))

    async def list_models(self, name: str) -> list[Found[ModelSpec]]:
        """Versions of one model, newest first."""
        pages = self.pages(_versions_path("models", name))
        return [_model(name, Answer(200, {}, body)) async for body in pages]

    async def list_environments(self, name: str) -> list[Found[EnvironmentSpec]]:
        """Versions of one environment, newest first."""
        pages = self.pages(_versions_path("environments", name))
        return [_environment(name, Answer(200, {}, body)) async for body in pages]

    async def list_containers(self, kind: str) -> list[Json]:
        """What there is of a kind of asset: one entry per name."""
        return [body async for body in self.pages(f"/{kind}")]

    # --- operations, system --------------------------------------------------------------------

    async def look_at(self, started: Started) -> Progress:
        """How far a long-running operation has come."""
        answer = await self.http.send("GET", started.url)
        body = answer.object
        return _read(
            lambda: Progress(
                OperationStatus(body["status"]),
                float(body.get("percentComplete") or 0.0),
                _retry_after(answer.headers, default_s=1.0),
                arm_resources.error_of(body),
            )
        )

    async def status(self) -> Json:
        return (await self.http.send("GET", "/status")).object

    # --- the wire ------------------------------------------------------------------------------

    async def _send(
        self, method: str, path: str, *, body: Any = None, repeatable: bool | None = None
    ) -> Answer:
        return await self.http.send(
            method, f"{self._base}{path}", query=_QUERY, body=body, repeatable=repeatable
        )

    async def get(self, path: str) -> Answer:
        return await self._send("GET", path)

    async def _put(self, path: str, body: Json, headers: Mapping[str, str]) -> Started:
        return _started(
            await self.http.send(
                "PUT", f"{self._base}{path}", query=_QUERY, body=body, headers=headers
            )
        )

    async def _delete(self, path: str) -> Started:
        return _started(await self._send("DELETE", path))

    async def pages(self, path: str) -> AsyncIterator[Json]:
        """Every item of a list below the workspace, page after page."""
        answer = await self.http.send(
            "GET", f"{self._base}{path}", query={**_QUERY, "count": str(limits.PAGE_SIZE_MAX)}
        )
        while True:
            items = answer.object.get("value")
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                raise not_understood()
            for item in items:
                yield item
            if not (following := answer.object.get("nextLink")):
                return
            answer = await self.http.send("GET", str(following))


_ONLY_NEW = {"If-None-Match": "*"}


def _if_match(etag: str) -> dict[str, str]:
    return {"If-Match": etag} if etag else {}


def _endpoint_path(name: str) -> str:
    return f"/onlineEndpoints/{quote(name, safe='')}"


def _deployment_path(endpoint: str, name: str) -> str:
    return f"{_endpoint_path(endpoint)}/deployments/{quote(name, safe='')}"


def _batch_path(endpoint: str, deployment: str = "") -> str:
    path = f"/batchEndpoints/{quote(endpoint, safe='')}"
    return f"{path}/deployments/{quote(deployment, safe='')}" if deployment else path


def _versions_path(kind: str, name: str) -> str:
    return f"/{kind}/{quote(name, safe='')}/versions"


def _version_path(kind: str, name: str, version: str) -> str:
    if not version or version.startswith("@"):
        label = version.removeprefix("@") or "latest"
        return f"/{kind}/{quote(name, safe='')}/labels/{quote(label, safe='')}"
    return f"{_versions_path(kind, name)}/{quote(version, safe='')}"


def _read(parse: Callable[[], T]) -> T:
    """What ``parse`` makes of an answer; one error for everything that can be wrong with it."""
    try:
        return parse()
    except (HeadgateError, LookupError, TypeError, ValueError, AttributeError):
        raise not_understood() from None


def _found(answer: Answer, spec: Callable[[str, Json], S]) -> Found[S]:
    body = answer.object
    return _read(lambda: Found(spec(body["name"], body), body, answer.headers.get("ETag", "")))


def _endpoint(answer: Answer) -> Found[EndpointSpec]:
    return _found(answer, arm.endpoint_spec)


def found_deployment(endpoint: str, answer: Answer) -> Found[DeploymentSpec]:
    return _found(answer, lambda name, body: arm.deployment_spec(endpoint, name, body))


def _batch_deployment(endpoint: str, answer: Answer) -> Found[BatchDeploymentSpec]:
    return _found(answer, lambda name, body: arm_batch.deployment_spec(endpoint, name, body))


def _model(name: str, answer: Answer) -> Found[ModelSpec]:
    return _found(answer, lambda version, body: arm.model_spec(name, version, body))


def _environment(name: str, answer: Answer) -> Found[EnvironmentSpec]:
    return _found(answer, lambda version, body: arm.environment_spec(name, version, body))


def _started(answer: Answer) -> Started:
    url = answer.headers.get("Azure-AsyncOperation", "")
    identifier = urlsplit(url).path.rstrip("/").rsplit("/", 1)[-1]
    return Started(identifier, url, _retry_after(answer.headers, default_s=1.0))


def _retry_after(headers: Mapping[str, str], *, default_s: float) -> float:
    text = headers.get("Retry-After", "")
    return float(text) if text.isdigit() else default_s
