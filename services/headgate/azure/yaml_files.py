"""Azure's YAML files for endpoints, deployments (online and batch), models and environments.

Each loader gives what the file asks for, checked, with local paths resolved; whatever is wrong is
reported together, each with file, line, column and field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from headgate.azure import yaml_batch, yaml_collection, yaml_nodes
from headgate.azure.arm_ids import reference
from headgate.azure.local_paths import LocalPathError, LocalPaths
from headgate.azure.yaml_nodes import Mapping, Node, Place, Scalar
from headgate.azure.yaml_shapes import Findings, Problem, nearest, plain, shaped
from headgate.azure.yaml_values import (
    D,
    EnvironmentFile,
    LocalDeployment,
    LocalEnvironment,
    LocalModel,
    ModelFile,
)
from headgate_contracts import limits
from headgate_contracts.batch import BatchDeploymentSpec, BatchEndpointSpec
from headgate_contracts.envelope import Value
from headgate_contracts.resources import DeploymentSpec, EndpointSpec

T = TypeVar("T")
M = TypeVar("M", bound=Value)


class YamlFileError(Exception):
    """The file is not usable; ``problems`` says why, each with its place."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class Kind:
    """What may stand in a file of one kind besides the fields of its spec."""

    title: str
    schemas: tuple[str, ...]
    warned: dict[str, str] = field(default_factory=dict)


_READ_ONLY = "is set by Headgate; ignored"
_READ_ONLY_FIELDS = ("id", "location", "provisioning_state", "creation_context")
_KUBERNETES = "belongs to Kubernetes endpoints; ignored, instances run here like managed ones"

ENDPOINT = Kind(
    "online endpoint",
    ("managedonlineendpoint", "kubernetesonlineendpoint", "onlineendpoint"),
    dict.fromkeys(
        ("id", "location", "kind", "scoring_uri", "openapi_uri", "provisioning_state"), _READ_ONLY
    ),
)
DEPLOYMENT = Kind(
    "managed online deployment",
    ("managedonlinedeployment", "kubernetesonlinedeployment", "onlinedeployment"),
    dict.fromkeys(("id", "location", "provisioning_state"), _READ_ONLY)
    | {
        "type": _KUBERNETES,
        "resources": _KUBERNETES,
        "private_network_connection": "has no meaning here; ignored",
        "package_model": "has no meaning here; ignored",
    },
)
BATCH_ENDPOINT = Kind(
    "batch endpoint",
    ("batchendpoint",),
    dict.fromkeys(
        (*_READ_ONLY_FIELDS, "kind", "scoring_uri", "openapi_uri"),
        _READ_ONLY,
    ),
)
BATCH_DEPLOYMENT = Kind(
    "batch deployment of a model",
    ("modelbatchdeployment", "batchdeployment"),
    dict.fromkeys(_READ_ONLY_FIELDS, _READ_ONLY),
)
MODEL = Kind(
    "model",
    ("model",),
    dict.fromkeys(("id", "creation_context"), _READ_ONLY)
    | dict.fromkeys(("stage", "flavors", "datastore"), "has no meaning here; ignored"),
)
ENVIRONMENT = Kind(
    "environment", ("environment",), dict.fromkeys(("id", "creation_context"), _READ_ONLY)
)
_SCHEMA_TITLES = {
    name: kind.title
    for kind in (ENDPOINT, DEPLOYMENT, BATCH_ENDPOINT, BATCH_DEPLOYMENT, MODEL, ENVIRONMENT)
    for name in kind.schemas
} | {
    "pipelinecomponentbatchdeployment": "batch deployment of a pipeline component",
    "modelversionpackage": "model package",
}

_SECRET_NAME = re.compile(
    r"secret|passw|token|api_?key|access_?key|account_?key|private_?key|credential|conn(ection)?_?str",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"AKIA[0-9A-Z]{16}|gh[pousr]_\w{20}|sk-[\w-]{20}|eyJ[\w-]{10,}\.[\w-]+\.|AccountKey="
    r"|-----BEGIN [A-Z ]*PRIVATE KEY|xox[abp]-|://[^/\s:@]+:[^/\s@]+@"
)
_REFERENCE = re.compile(r"\$\{\{.*\}\}\Z", re.DOTALL)


class YamlFile:
    """One file being read. The loaders below may be called once, after the changes."""

    def __init__(self, root: Node, paths: LocalPaths) -> None:
        if not isinstance(root, Mapping):
            place = root.place
            raise YamlFileError([Problem(place, "", "the file must hold a mapping of fields")])
        self.root = root
        self.findings = Findings()
        self._paths = paths

    @classmethod
    def open(cls, path: Path, *, allow_outside: bool = False) -> YamlFile:
        """Reads ``path``. Raises YamlFileError."""
        try:
            if not path.is_file():
                missing = "does not exist" if not path.exists() else "is not a file"
                raise YamlFileError([Problem(Place(str(path)), "", missing)])
            with path.open("rb") as stream:
                raw = stream.read(limits.YAML_BYTES_MAX + 1)
        except OSError as error:
            reason = error.strerror or str(error)
            raise YamlFileError(
                [Problem(Place(str(path)), "", f"cannot be read: {reason}")]
            ) from None
        return cls.of_text(raw, path, allow_outside=allow_outside)

    @classmethod
    def of_text(cls, raw: bytes, path: Path, *, allow_outside: bool = False) -> YamlFile:
        """What the file ``path`` holds, or would hold. Raises YamlFileError."""
        try:
            root = yaml_nodes.read(raw, str(path))
        except yaml_nodes.YamlTextError as error:
            raise YamlFileError([Problem(error.place, "", error.message)]) from None
        return cls(root, LocalPaths.of(path, allow_outside=allow_outside))

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(map(str, self.findings.warnings))

    def endpoint(self) -> EndpointSpec:
        """The file as an online endpoint. Raises YamlFileError."""
        self._screen(ENDPOINT)
        if (compute := self.root.items.get("compute")) is not None:
            self.findings.warn(compute.place, "compute", _KUBERNETES)
        return self._finished(shaped(self.root, EndpointSpec, "", self.findings))

    def model(self) -> LocalModel:
        """The file as a model. Raises YamlFileError."""
        self._screen(MODEL)
        self._require_name()
        return self._finished(self._model(self.root, ""))

    def environment(self) -> LocalEnvironment:
        """The file as an environment. Raises YamlFileError."""
        self._screen(ENVIRONMENT)
        self._require_name()
        return self._finished(self._environment(self.root, ""))

    def deployment(self, *, check_script: bool = True) -> LocalDeployment[DeploymentSpec]:
        """The file as a managed online deployment. Raises YamlFileError."""
        self._screen(DEPLOYMENT)
        inline = yaml_collection.lift(self.root, self.findings)
        local = self._deployment(DeploymentSpec, check_script)
        spec, data = yaml_collection.with_data(local.spec, inline)
        return replace(local, spec=spec, data=data)

    def batch_endpoint(self) -> BatchEndpointSpec:
        """The file as a batch endpoint. Raises YamlFileError."""
        self._screen(BATCH_ENDPOINT)
        return self._finished(shaped(self.root, BatchEndpointSpec, "", self.findings))

    def batch_deployment(
        self, *, check_script: bool = True
    ) -> LocalDeployment[BatchDeploymentSpec]:
        """The file as a batch deployment, in the newer or the older layout.

        Raises YamlFileError.
        """
        if (problem := yaml_batch.pipeline_problem(self.root)) is not None:
            raise YamlFileError([problem])
        self._screen(BATCH_DEPLOYMENT)
        yaml_batch.lift_settings(self.root, self.findings)
        yaml_batch.name_compute(self.root, self.findings)
        return self._deployment(BatchDeploymentSpec, check_script)

    def _deployment(self, kind: type[D], check_script: bool) -> LocalDeployment[D]:
        model = environment = None
        if isinstance(inline := self.root.items.get("model"), Mapping):
            model = self._model(self._popped("model", inline), "model")
        if isinstance(inline := self.root.items.get("environment"), Mapping):
            environment = self._environment(self._popped("environment", inline), "environment")
        self._check_reference("model")
        self._check_reference("environment")
        self._look_for_secrets()
        spec: D | None = shaped(self.root, kind, "", self.findings)
        code = self._code(spec, check_script)
        return LocalDeployment(self._finished(spec), code, model, environment)

    def typed(self, model: type[M], kind: Kind) -> M:
        """The file as ``model``, for kinds that are nothing but fields. Raises YamlFileError."""
        self._screen(kind)
        self._require_name()
        return self._finished(shaped(self.root, model, "", self.findings))

    def local(self, name: str, text: str) -> Path:
        """What the field ``name`` names on this machine. Raises YamlFileError."""
        return self._finished(self._resolved(self.root, name, "", self._paths.any_at, text))

    def _finished(self, value: T | None) -> T:
        """``value``, or everything that was found wrong."""
        if self.findings.problems or value is None:
            raise YamlFileError(self.findings.problems)
        return value

    def _popped(self, name: str, inline: Mapping) -> Mapping:
        del self.root.items[name]
        return inline

    def _screen(self, kind: Kind) -> None:
        """Takes out what is no field of the spec: ``$schema`` and fields that only warn."""
        if (named := self.root.items.pop("$schema", None)) is not None:
            self._check_schema(named, kind)
        for name, text in kind.warned.items():
            node = self.root.items.pop(name, None)
            if node is None or (name == "type" and plain(node) == "managed"):
                continue
            self.findings.warn(self.root.key_places[name], name, text)

    def _check_schema(self, named: Node, kind: Kind) -> None:
        text = named.text if isinstance(named, Scalar) else ""
        name = text.rsplit("/", 1)[-1].removesuffix(".json").removesuffix(".schema").lower()
        if name in kind.schemas:
            return
        if title := _SCHEMA_TITLES.get(name):
            message = f"this file says that it holds a {title}; expected here: {kind.title}"
            raise YamlFileError([Problem(named.place, "$schema", message)])
        if hint := nearest(name, kind.schemas):
            self.findings.warn(named.place, "$schema", f"{name!r} is not known{hint}")

    def _require_name(self) -> None:
        node = self.root.items.get("name")
        if node is None or (isinstance(node, Scalar) and node.is_null):
            self.findings.refuse(self.root.place, "name", "is required")

    def _model(self, node: Mapping, path: str) -> LocalModel | None:
        for name in ("stage", "flavors", "datastore"):
            if path and node.items.pop(name, None) is not None:
                self.findings.warn(node.key_places[name], f"{path}.{name}", MODEL.warned[name])
        fields: ModelFile | None = shaped(node, ModelFile, path, self.findings)
        if fields is None:
            return None
        local = self._resolved(node, "path", path, self._paths.any_at, fields.path)
        return None if local is None else LocalModel(fields, local)

    def _environment(self, node: Mapping, path: str) -> LocalEnvironment | None:
        fields: EnvironmentFile | None = shaped(node, EnvironmentFile, path, self.findings)
        if fields is None:
            return None
        if not (fields.image or fields.conda_file or fields.build):
            self.findings.refuse(node.place, path, "says nothing: give image, conda_file or build")
        conda: str | None = None
        if isinstance(fields.conda_file, dict):
            conda = _dumped(fields.conda_file)
        elif fields.conda_file is not None:
            file = self._resolved(node, "conda_file", path, self._paths.file_at, fields.conda_file)
            conda = self._conda_text(node, path, file) if file else None
        build: Path | None = None
        if fields.build is not None:
            inner = node.items["build"]
            assert isinstance(inner, Mapping)
            dotted = f"{path}.build" if path else "build"
            build = self._resolved(inner, "path", dotted, self._paths.folder_at, fields.build.path)
        return LocalEnvironment(fields, conda, build)

    def _conda_text(self, node: Mapping, path: str, file: Path) -> str | None:
        """The text of a conda file, which must be a mapping of its own."""
        field_path = f"{path}.conda_file" if path else "conda_file"
        try:
            with file.open("rb") as stream:
                raw = stream.read(limits.YAML_BYTES_MAX + 1)
            content = yaml_nodes.read(raw, str(file))
        except yaml_nodes.YamlTextError as error:
            self.findings.refuse(error.place, field_path, error.message)
        except OSError as error:
            place = node.items["conda_file"].place
            self.findings.refuse(place, field_path, f"cannot be read: {error.strerror}")
        else:
            if isinstance(content, Mapping):
                return raw.decode("utf-8-sig")
            self.findings.refuse(content.place, field_path, "a conda file must hold a mapping")
        return None

    def _code(
        self, spec: DeploymentSpec | BatchDeploymentSpec | None, check_script: bool
    ) -> Path | None:
        """The code folder, when it is a local one; the script must be in it."""
        node = self.root.items.get("code_configuration")
        if spec is None or spec.code_configuration is None or not isinstance(node, Mapping):
            return None
        code, script = spec.code_configuration.code, spec.code_configuration.scoring_script
        path = "code_configuration"
        if code.startswith(("azureml:", "/subscriptions/")):
            self._refer(node.items["code"], f"{path}.code", "codes", code)
            return None
        folder = self._resolved(node, "code", path, self._paths.folder_at, code)
        if folder is None:
            return None
        inside = (folder / script).resolve()
        if Path(script).is_absolute() or not inside.is_relative_to(folder):
            problem = f"{script!r} must lie inside the code folder"
        elif check_script and not inside.is_file():
            names = [str(file.relative_to(folder)) for file in sorted(folder.glob("*.py"))]
            problem = f"{script!r} is no file in {code!r}{nearest(script, names)}"
        else:
            return folder
        self.findings.refuse(node.items["scoring_script"].place, f"{path}.scoring_script", problem)
        return None

    def _resolved(
        self, node: Mapping, name: str, path: str, resolve: Callable[[str], Path], text: str
    ) -> Path | None:
        try:
            return resolve(text)
        except LocalPathError as error:
            dotted = f"{path}.{name}" if path else name
            self.findings.refuse(node.items[name].place, dotted, str(error))
            return None

    def _check_reference(self, name: Literal["model", "environment"]) -> None:
        node = self.root.items.get(name)
        if isinstance(node, Scalar) and not node.is_null:
            self._refer(node, name, f"{name}s", node.text)

    def _refer(self, node: Node, path: str, kind: str, text: str) -> None:
        if text.startswith("azureml://registries/"):
            message = (
                "Azure's shared registries cannot be reached from here; register the "
                f"{kind.removesuffix('s')} with 'headgate {kind.removesuffix('s')} create' or "
                "define it inline"
            )
            self.findings.refuse(node.place, path, message)
            return
        try:
            reference(kind, text)
        except ValueError as error:
            self.findings.refuse(node.place, path, str(error))

    def _look_for_secrets(self) -> None:
        node = self.root.items.get("environment_variables")
        for name, value in node.items.items() if isinstance(node, Mapping) else ():
            if not isinstance(value, Scalar) or not value.text or _REFERENCE.match(value.text):
                continue
            if _SECRET_NAME.search(name) or _SECRET_VALUE.search(value.text):
                self.findings.warn(
                    value.place,
                    f"environment_variables.{name}",
                    "looks like a secret; whoever can read the deployment can read it",
                )


def _dumped(content: dict[str, Any]) -> str:
    """An inline conda definition as the text of a file; its scalars stay text."""
    import yaml

    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
