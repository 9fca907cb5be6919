"""What ``headgate apply`` would do: wanted and stored compared, one step per resource.

A field that a file leaves out gets its default, as if the resource were made anew; traffic,
mirroring and the default deployment alone stay as they are unless the file says something of them,
because they are moved while a deployment is rolled out. They come last: they need deployments.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from headgate.azure.yaml_kinds import ResourceKind
from headgate.azure.yaml_values import D, LocalDeployment, LocalEnvironment, LocalModel
from headgate.cli.apply_files import Wanted
from headgate.client import Client, Found
from headgate.client.assets import planned, planned_environment, planned_model
from headgate.client.autoscale import Autoscale
from headgate_contracts.autoscale import AutoscaleSpec
from headgate_contracts.batch import BatchDefaults, BatchDeploymentSpec, BatchEndpointSpec
from headgate_contracts.envelope import Value
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import (
    DeploymentSpec,
    EndpointSpec,
    EnvironmentSpec,
    Identity,
    ModelSpec,
    ProvisioningState,
)

S = TypeVar("S", bound=Value)
_TRAFFIC = ("traffic", "mirror_traffic")
_DEFAULTS = ("defaults",)
_LAST = {
    ResourceKind.ENDPOINT: ("traffic", _TRAFFIC),
    ResourceKind.BATCH_ENDPOINT: ("default", _DEFAULTS),
}
"""What of an endpoint is set when its deployments are there: as one step of this name."""


class Action(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    RETRY = "retry"
    NOTHING = "unchanged"


@dataclass(frozen=True, slots=True)
class Step:
    """What has to be done for one resource; ``fields`` differ from what is stored."""

    wanted: Wanted
    action: Action
    fields: tuple[str, ...] = ()
    etag: str = ""
    endpoint: EndpointSpec | None = field(default=None, repr=False)
    batch_endpoint: BatchEndpointSpec | None = field(default=None, repr=False)
    part: str = ""

    @property
    def kind(self) -> str:
        return self.part or self.wanted.kind.value

    def described(self) -> dict[str, object]:
        """The step as a row for people and programs."""
        return {
            "action": self.action.value,
            "kind": self.kind,
            "name": self.wanted.name,
            "fields": list(self.fields),
            "file": str(self.wanted.file),
        }


def difference(stored: Value | None, wanted: Value) -> tuple[str, ...]:
    """Names of the fields that differ; none when nothing is stored."""
    if stored is None:
        return ()
    old, new = stored.model_dump(), wanted.model_dump()
    return tuple(name for name in new if new[name] != old.get(name))


def action_for(fields: Sequence[str], *, exists: bool, failed: bool = False) -> Action:
    """What to do about a difference; a resource that failed is tried again as it is."""
    if not exists:
        return Action.CREATE
    if fields:
        return Action.UPDATE
    return Action.RETRY if failed else Action.NOTHING


def as_stored(wanted: EndpointSpec, stored: EndpointSpec | None) -> EndpointSpec:
    """The endpoint as it would be stored: with what the server adds or nobody may take away."""
    kept = {} if stored is None else dict(stored.properties)
    shares = {name: {} if stored is None else getattr(stored, name) for name in _TRAFFIC}
    return wanted.model_copy(
        update={
            "identity": wanted.identity or (stored.identity if stored else None) or Identity(),
            "properties": {**kept, **wanted.properties},
            **shares,
        }
    )


def with_traffic(spec: EndpointSpec, wanted: EndpointSpec, mentions: Iterable[str]) -> EndpointSpec:
    """The stored endpoint with the shares that the file says something of."""
    shares = {
        name: {part: share for part, share in getattr(wanted, name).items() if share}
        for name in _TRAFFIC
        if name in mentions
    }
    return spec.model_copy(update=shares)


def batch_as_stored(
    wanted: BatchEndpointSpec, stored: BatchEndpointSpec | None
) -> BatchEndpointSpec:
    """The batch endpoint as it would be stored, with the default that it has now."""
    if stored is None:
        return wanted.model_copy(update={"defaults": BatchDefaults()})
    kept = {
        "properties": {**stored.properties, **wanted.properties},
        "public_network_access": wanted.public_network_access or stored.public_network_access,
        "defaults": stored.defaults,
    }
    return wanted.model_copy(update=kept)


class Planner:
    """Compares with what one Headgate has."""

    def __init__(self, client: Client, wanted: Sequence[Wanted]) -> None:
        self._client = client
        self._wanted = wanted
        self._fresh: dict[tuple[str, str], str] = {}  # (kind, name) -> version that will be newest

    async def plan(self) -> list[Step]:
        """One step per resource in the order of doing. Changes nothing."""
        steps = [await self._step(each) for each in self._wanted]
        for each in self._wanted:
            part, fields = _LAST.get(each.kind, ("", ()))
            if each.mentions & set(fields):
                steps.append(await self._last(each, part))
        return steps

    async def _step(self, wanted: Wanted) -> Step:
        match wanted.local:
            case EndpointSpec() as spec:
                return await self._endpoint(wanted, spec)
            case BatchEndpointSpec() as batch:
                return await self._batch_endpoint(wanted, batch)
            case LocalDeployment() as local:
                return await self._deployment(wanted, local)
            case LocalModel() as model:
                planned_spec: ModelSpec | EnvironmentSpec = await planned_model(self._client, model)
                return await self._asset(wanted, planned_spec, self._client.get_model)
            case LocalEnvironment() as environment:
                planned_spec = await planned_environment(self._client, environment)
                return await self._asset(wanted, planned_spec, self._client.get_environment)
            case AutoscaleSpec() as setting:
                return await self._autoscale(wanted, setting)

    async def _autoscale(self, wanted: Wanted, spec: AutoscaleSpec) -> Step:
        found = await _existing(Autoscale(self._client).get(spec.name))
        fields = difference(found.spec if found else None, spec)
        action = action_for(fields, exists=found is not None)
        return Step(wanted, action, fields, found.etag if found else "")

    async def _endpoint(self, wanted: Wanted, spec: EndpointSpec) -> Step:
        found = await _existing(self._client.get_endpoint(spec.name))
        stored = None
        if found is not None:
            stored = found.spec.model_copy(update={"identity": found.spec.identity or Identity()})
        spec = as_stored(spec, stored)
        fields = difference(stored, spec)
        action = action_for(fields, exists=found is not None)
        return Step(wanted, action, fields, found.etag if found else "", endpoint=spec)

    async def _batch_endpoint(self, wanted: Wanted, spec: BatchEndpointSpec) -> Step:
        found = await _existing(self._client.get_batch_endpoint(spec.name))
        stored = found.spec if found else None
        spec = batch_as_stored(spec, stored)
        fields = difference(stored, spec)
        action = action_for(fields, exists=found is not None)
        return Step(wanted, action, fields, found.etag if found else "", batch_endpoint=spec)

    async def _last(self, wanted: Wanted, part: str) -> Step:
        """What waits for the deployments: compared with what the endpoint has now."""
        fields: tuple[str, ...]
        if isinstance(wanted.local, BatchEndpointSpec):
            batch = await _existing(self._client.get_batch_endpoint(wanted.name))
            now = batch.spec.defaults if batch else BatchDefaults()
            fields = () if now == wanted.local.defaults else _DEFAULTS
        else:
            assert isinstance(wanted.local, EndpointSpec)
            found = await _existing(self._client.get_endpoint(wanted.name))
            stored = found.spec if found else EndpointSpec(name=wanted.name)
            spec = with_traffic(stored, wanted.local, wanted.mentions)
            fields = tuple(
                name for name in _TRAFFIC if getattr(stored, name) != getattr(spec, name)
            )
        return Step(wanted, Action.UPDATE if fields else Action.NOTHING, fields, part=part)

    async def _deployment(self, wanted: Wanted, local: LocalDeployment[D]) -> Step:
        spec = await self._exact(await planned(self._client, local))
        found = await _existing(self._stored(spec))
        if found is None:
            await self._require_endpoint(wanted, spec)
            return Step(wanted, Action.CREATE, difference(None, spec))
        if isinstance(spec, DeploymentSpec) and spec.scale_settings.follows_load:
            # The count is the load's; the file says where it begins.
            spec = spec.model_copy(update={"instance_count": _count_of(found.spec)})
        merged = {**found.spec.properties, **spec.properties}
        fields = difference(found.spec, spec.model_copy(update={"properties": merged}))
        failed = found.state == ProvisioningState.FAILED
        return Step(wanted, action_for(fields, exists=True, failed=failed), fields, found.etag)

    async def _stored(self, spec: D) -> Found[D]:
        """The deployment of this name, of the same kind."""
        where = spec.endpoint_name, spec.name
        if isinstance(spec, BatchDeploymentSpec):
            return await self._client.get_batch_deployment(*where)
        return await self._client.get_deployment(*where)

    async def _require_endpoint(
        self, wanted: Wanted, spec: DeploymentSpec | BatchDeploymentSpec
    ) -> None:
        endpoint = spec.endpoint_name
        if isinstance(spec, BatchDeploymentSpec):
            kind = ResourceKind.BATCH_ENDPOINT
            found = await _existing(self._client.get_batch_endpoint(endpoint)) is not None
        else:
            kind = ResourceKind.ENDPOINT
            found = await _existing(self._client.get_endpoint(endpoint)) is not None
        if found or any(each.kind is kind and each.name == endpoint for each in self._wanted):
            return
        raise HeadgateError(
            ErrorCode.RESOURCE_NOT_FOUND,
            f"{wanted.file}: there is no {kind} {endpoint!r}, and no file here makes it",
            target="endpoint_name",
        )

    async def _asset(
        self,
        wanted: Wanted,
        spec: ModelSpec | EnvironmentSpec,
        get: Callable[[str, str], Awaitable[Found[S]]],
    ) -> Step:
        self._fresh[f"{wanted.kind}s", spec.name] = spec.version
        found = await _existing(get(spec.name, spec.version))
        fields = difference(found.spec if found else None, spec)
        content = set(fields) - {"description", "tags", "properties"}
        if found is not None and content:
            raise HeadgateError(
                ErrorCode.RESOURCE_CONFLICT,
                f"{wanted.file}: version {spec.version} of the {wanted.kind} {spec.name!r} exists "
                f"with other content ({', '.join(sorted(content))}); versions never change: give "
                "another version, or none to get the next one",
                target="version",
            )
        return Step(wanted, action_for(fields, exists=found is not None), fields)

    async def _exact(self, spec: D) -> D:
        """References with a label as the versions that they mean when the time comes."""
        changes = {}
        for name, kind in (("model", "models"), ("environment", "environments")):
            text = getattr(spec, name) or ""
            asset, separator, label = text.removeprefix("azureml:").partition("@")
            if not separator:
                continue
            version = self._fresh.get((kind, asset)) if label == "latest" else None
            if version is None:
                get = self._client.get_model if name == "model" else self._client.get_environment
                version = (await get(asset, f"@{label}")).spec.version
            changes[name] = f"azureml:{asset}:{version}"
        return spec.model_copy(update=changes)


def _count_of(stored: DeploymentSpec | BatchDeploymentSpec) -> int:
    return stored.instance_count if isinstance(stored, DeploymentSpec) else 1


async def _existing(asked: Awaitable[Found[S]]) -> Found[S] | None:
    try:
        return await asked
    except HeadgateError as error:
        if error.error.code is ErrorCode.RESOURCE_NOT_FOUND:
            return None
        raise
