"""Registers what a YAML file defines locally, and replaces it by references.

An asset without a name is named by its content, so that deploying the same files twice registers
them once. One with a name and no version gets the newest version when that is the same, else the
next number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable
from typing import TypeVar

from headgate.azure.arm_resources import next_version
from headgate.azure.yaml_storage import LocalData
from headgate.azure.yaml_values import D, LocalDeployment, LocalEnvironment, LocalModel
from headgate.client.api import Client, Found
from headgate.client.storage import Storage
from headgate.client.uploads import Bar, Upload, measured, silent_bar, upload
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import (
    CodeConfiguration,
    CodeSpec,
    EnvironmentBuild,
    EnvironmentSpec,
    ModelSpec,
)

A = TypeVar("A", ModelSpec, EnvironmentSpec)

ANONYMOUS_ENVIRONMENT = "CliV2AnonymousEnvironment"
_CONTENT_NAME_CHARS = 32
_UNNAMED = "unnamed"  # stands in a spec until its content has given it a name
_UNNUMBERED = "0"


async def register_all(client: Client, local: LocalDeployment[D], bar: Bar = silent_bar) -> D:
    """Uploads and registers everything local of a deployment; its spec with references."""
    code = model = environment = None
    if local.code is not None:
        code = _code(await upload(client, local.code, keep_name=False, bar=bar))
        await client.put_code(code)
    if local.model is not None:
        model = (await register_model(client, local.model, bar)).spec
    if local.environment is not None:
        environment = (await register_environment(client, local.environment, bar)).spec
    for data in local.data:
        await Storage(client).create_data(LocalData(data))
    return _referring(local, code, model, environment)


async def planned(client: Client, local: LocalDeployment[D]) -> D:
    """The spec that :func:`register_all` would give; nothing is sent or registered."""
    code = model = environment = None
    if local.code is not None:
        code = _code(await measured(local.code, keep_name=False))
    if local.model is not None:
        model = await planned_model(client, local.model)
    if local.environment is not None:
        environment = await planned_environment(client, local.environment)
    return _referring(local, code, model, environment)


async def register_model(
    client: Client, local: LocalModel, bar: Bar = silent_bar
) -> Found[ModelSpec]:
    """Uploads a model file or folder, which keeps its own name, and registers it."""
    sent = await upload(client, local.path, keep_name=True, bar=bar)
    return await client.put_model(await _model(client, local, sent))


async def planned_model(client: Client, local: LocalModel) -> ModelSpec:
    """The version that :func:`register_model` would make or find."""
    return await _model(client, local, await measured(local.path, keep_name=True))


async def register_environment(
    client: Client, local: LocalEnvironment, bar: Bar = silent_bar
) -> Found[EnvironmentSpec]:
    """Registers an environment; the folder of a Docker build is uploaded."""
    sent = None
    if local.build is not None:
        sent = await upload(client, local.build, keep_name=False, bar=bar)
    return await client.put_environment(await _environment(client, local, sent))


async def planned_environment(client: Client, local: LocalEnvironment) -> EnvironmentSpec:
    """The version that :func:`register_environment` would make or find."""
    sent = None if local.build is None else await measured(local.build, keep_name=False)
    return await _environment(client, local, sent)


def _referring(
    local: LocalDeployment[D],
    code: CodeSpec | None,
    model: ModelSpec | None,
    environment: EnvironmentSpec | None,
) -> D:
    changes: dict[str, object] = {}
    if code is not None and local.spec.code_configuration is not None:
        changes["code_configuration"] = CodeConfiguration(
            code=f"azureml:{code.name}:{code.version}",
            scoring_script=local.spec.code_configuration.scoring_script,
        )
    if model is not None:
        changes["model"] = f"azureml:{model.name}:{model.version}"
    if environment is not None:
        changes["environment"] = f"azureml:{environment.name}:{environment.version}"
    return local.spec.model_copy(update=changes)


def _code(sent: Upload) -> CodeSpec:
    name = sent.digest[:_CONTENT_NAME_CHARS]
    return CodeSpec(name=name, version="1", path=sent.uri, sha256=sent.digest)


async def _model(client: Client, local: LocalModel, sent: Upload) -> ModelSpec:
    fields = local.fields
    spec = ModelSpec(
        name=fields.name or _UNNAMED,
        version=fields.version or _UNNUMBERED,
        path=f"{sent.uri}/{local.path.name}",
        type=fields.type,
        description=fields.description,
        tags=fields.tags,
        properties=fields.properties,
    )
    if fields.name is None:
        return spec.model_copy(update={"name": _content_name(spec), "version": "1"})
    if not fields.version:
        return _versioned(spec, await _existing(client.list_models(fields.name)))
    return spec


async def _environment(
    client: Client, local: LocalEnvironment, sent: Upload | None
) -> EnvironmentSpec:
    fields = local.fields
    build = None
    if sent is not None and fields.build is not None:
        build = EnvironmentBuild(path=sent.uri, dockerfile_path=fields.build.dockerfile_path)
    spec = EnvironmentSpec(
        name=fields.name or ANONYMOUS_ENVIRONMENT,
        version=fields.version or _UNNUMBERED,
        image=fields.image,
        conda_file=local.conda_file,
        build=build,
        inference_config=fields.inference_config,
        description=fields.description,
        tags=fields.tags,
        properties=fields.properties,
    )
    if fields.name is None:
        return spec.model_copy(update={"version": _content_name(spec)})
    if not fields.version:
        return _versioned(spec, await _existing(client.list_environments(fields.name)))
    return spec


def _content_name(spec: ModelSpec | EnvironmentSpec) -> str:
    content = spec.model_dump_json(exclude={"name", "version"})
    return hashlib.sha256(content.encode()).hexdigest()[:_CONTENT_NAME_CHARS]


def _versioned(spec: A, versions: list[Found[A]]) -> A:
    """``spec`` with the newest version's number when it is the same, else with the next."""
    if versions:
        newest = versions[0].spec
        same = spec.model_copy(update={"version": newest.version})
        if _content_name(same) == _content_name(newest):
            return same
    number = next_version([found.spec.version for found in versions])
    return spec.model_copy(update={"version": number})


async def _existing(listing: Awaitable[list[Found[A]]]) -> list[Found[A]]:
    """The versions there are; none when nobody has used the name yet."""
    try:
        return await listing
    except HeadgateError as error:
        if error.error.code is ErrorCode.RESOURCE_NOT_FOUND:
            return []
        raise
