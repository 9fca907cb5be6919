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
from headgate.azure.yaml_files import LocalDeployment, LocalEnvironment, LocalModel
from headgate.client.api import Client, Found
from headgate.client.uploads import Bar, silent_bar, upload
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import (
    CodeConfiguration,
    CodeSpec,
    DeploymentSpec,
    EnvironmentBuild,
    EnvironmentSpec,
    ModelSpec,
)

A = TypeVar("A", ModelSpec, EnvironmentSpec)

ANONYMOUS_ENVIRONMENT = "CliV2AnonymousEnvironment"
_CONTENT_NAME_CHARS = 32
_UNNAMED = "unnamed"  # stands in a spec until its content has given it a name
_UNNUMBERED = "0"


async def register_all(
    client: Client, local: LocalDeployment, bar: Bar = silent_bar
) -> DeploymentSpec:
    """Uploads and registers everything local of a deployment; its spec with references."""
    changes: dict[str, object] = {}
    if local.code is not None and local.spec.code_configuration is not None:
        sent = await upload(client.http, local.code, keep_name=False, bar=bar)
        name = sent.digest[:_CONTENT_NAME_CHARS]
        code = CodeSpec(name=name, version="1", path=sent.key, sha256=sent.digest)
        await client.put_code(code)
        changes["code_configuration"] = CodeConfiguration(
            code=f"azureml:{name}:1", scoring_script=local.spec.code_configuration.scoring_script
        )
    if local.model is not None:
        model = (await register_model(client, local.model, bar)).spec
        changes["model"] = f"azureml:{model.name}:{model.version}"
    if local.environment is not None:
        environment = (await register_environment(client, local.environment, bar)).spec
        changes["environment"] = f"azureml:{environment.name}:{environment.version}"
    return local.spec.model_copy(update=changes)


async def register_model(
    client: Client, local: LocalModel, bar: Bar = silent_bar
) -> Found[ModelSpec]:
    """Uploads a model file or folder, which keeps its own name, and registers it."""
    sent = await upload(client.http, local.path, keep_name=True, bar=bar)
    fields = local.fields
    spec = ModelSpec(
        name=fields.name or _UNNAMED,
        version=fields.version or _UNNUMBERED,
        path=f"{sent.key}/{local.path.name}",
        type=fields.type,
        description=fields.description,
        tags=fields.tags,
        properties=fields.properties,
    )
    if fields.name is None:
        spec = spec.model_copy(update={"name": _content_name(spec), "version": "1"})
    elif not fields.version:
        spec = _versioned(spec, await _existing(client.list_models(fields.name)))
    return await client.put_model(spec)


async def register_environment(
    client: Client, local: LocalEnvironment, bar: Bar = silent_bar
) -> Found[EnvironmentSpec]:
    """Registers an environment; the folder of a Docker build is uploaded."""
    fields = local.fields
    build = None
    if local.build is not None and fields.build is not None:
        sent = await upload(client.http, local.build, keep_name=False, bar=bar)
        build = EnvironmentBuild(path=sent.key, dockerfile_path=fields.build.dockerfile_path)
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
        spec = spec.model_copy(update={"version": _content_name(spec)})
    elif not fields.version:
        spec = _versioned(spec, await _existing(client.list_environments(fields.name)))
    return await client.put_environment(spec)


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
