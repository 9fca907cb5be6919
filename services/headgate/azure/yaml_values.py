"""What a YAML file gives besides a specification: assets that lie in local files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field

from headgate_contracts.assets import DataSpec
from headgate_contracts.batch import BatchDeploymentSpec
from headgate_contracts.envelope import Value
from headgate_contracts.resources import (
    AssetName,
    AssetVersion,
    DeploymentSpec,
    Description,
    InferenceConfig,
    Tags,
)

D = TypeVar("D", DeploymentSpec, BatchDeploymentSpec)


class BuildContext(Value):
    path: str
    dockerfile_path: str = "Dockerfile"


class ModelFile(Value):
    """A model as a file or an inline definition says it; ``path`` as written."""

    name: AssetName | None = None
    version: AssetVersion = ""
    path: str = Field(min_length=1)
    type: Literal["custom_model", "mlflow_model", "triton_model"] = "custom_model"
    description: Description = ""
    tags: Tags = {}
    properties: Tags = {}


class EnvironmentFile(Value):
    """An environment as a file or an inline definition says it; ``conda_file`` as written."""

    name: AssetName | None = None
    version: AssetVersion = ""
    image: str | None = None
    conda_file: str | dict[str, Any] | None = None
    build: BuildContext | None = None
    inference_config: InferenceConfig | None = None
    os_type: Literal["linux"] = "linux"
    description: Description = ""
    tags: Tags = {}
    properties: Tags = {}


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model to upload."""

    fields: ModelFile
    path: Path


@dataclass(frozen=True, slots=True)
class LocalEnvironment:
    """An environment to register: the conda file's text and the build folder, where given."""

    fields: EnvironmentFile
    conda_file: str | None = None
    build: Path | None = None


@dataclass(frozen=True, slots=True)
class LocalDeployment(Generic[D]):
    """A deployment whose assets are references (inside ``spec``) or local and to be uploaded."""

    spec: D
    code: Path | None = None
    model: LocalModel | None = None
    environment: LocalEnvironment | None = None
    data: tuple[DataSpec, ...] = ()
