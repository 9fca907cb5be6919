"""What a local deployment is made of: code in place, the model as a deployed one has it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from headgate.azure.yaml_values import LocalDeployment, LocalEnvironment, LocalModel
from headgate.provisioner import mlflow_models
from headgate.runtime.copies import remove_tree
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import DeploymentSpec, EnvironmentBuild, EnvironmentSpec


@dataclass(frozen=True, slots=True)
class Laid:
    """Where the worker finds code and model, and in which environment.

    Without a script the model is MLflow's, or the image has a server of its own; then there is
    no code either.
    """

    code: Path | None
    script: str
    variables: dict[str, str]
    environment: EnvironmentSpec | None
    notes: tuple[str, ...] = ()


def laid_out(local: LocalDeployment[DeploymentSpec], folder: Path) -> Laid:
    """Code from where it is edited, the model as a deployed one has it."""
    _refuse_registered(local)
    environment, configuration = _environment(local.environment), local.spec.code_configuration
    if local.code is not None and configuration is not None:
        code, script = local.code.absolute(), configuration.scoring_script
        variables = {"AML_APP_ROOT": str(code), "AZUREML_ENTRY_SCRIPT": script}
        if local.model is not None:
            variables["AZUREML_MODEL_DIR"] = str(_placed(local.model, folder))
        return Laid(code, script, variables, environment)
    if environment is not None and environment.inference_config is not None:
        place = {"AZUREML_MODEL_DIR": str(_placed(local.model, folder))} if local.model else {}
        return Laid(None, "", place, environment)
    if local.model is None or local.model.fields.type != "mlflow_model":
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            "the deployment has no code; it needs code_configuration with a folder of this "
            "machine in `code`, and `scoring_script`, unless its model is an mlflow_model",
            target="code_configuration",
        )
    directory = _placed(local.model, folder)
    inner = mlflow_models.find(directory)
    notes: tuple[str, ...] = ()
    if environment is None:
        needs = mlflow_models.needs(mlflow_models.reader(inner))
        environment = EnvironmentSpec(name="local", version="0", conda_file=needs.conda_file)
        notes = needs.notes
    variables = {
        "AML_APP_ROOT": str(inner),
        "AZUREML_MODEL_DIR": str(directory),
        "MLFLOW_MODEL_FOLDER": inner.relative_to(directory).as_posix(),
    }
    return Laid(inner, "", variables, environment, notes)


def _refuse_registered(local: LocalDeployment[DeploymentSpec]) -> None:
    spec = local.spec
    for what, reference, found in (
        ("code", spec.code_configuration and spec.code_configuration.code, local.code),
        ("model", spec.model, local.model),
        ("environment", spec.environment, local.environment),
    ):
        if reference and found is None:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"{what} {reference} is registered in a workspace; a local deployment takes files "
                "of this machine, so write its definition into the file",
                target=what,
            )


def _environment(local: LocalEnvironment | None) -> EnvironmentSpec | None:
    if local is None:
        return None
    fields, build = local.fields, None
    if local.build is not None and fields.build is not None:
        build = EnvironmentBuild(
            path=local.build.name, dockerfile_path=fields.build.dockerfile_path
        )
    return EnvironmentSpec(
        name=fields.name or "local",
        version=fields.version or "0",
        image=fields.image,
        conda_file=local.conda_file,
        build=build,
        inference_config=fields.inference_config,
    )


def _placed(model: LocalModel, folder: Path) -> Path:
    """The model laid out as a deployed one is. Real folders, for many walks follow no links."""
    place = folder / "model"
    remove_tree(place)
    inner = place / "azureml-models" / (model.fields.name or "local") / "1"
    inner.mkdir(parents=True)
    target = inner / model.path.name
    if model.path.is_dir():
        shutil.copytree(model.path, target, copy_function=_linked)
    else:
        _linked(str(model.path), str(target))
    return inner


def _linked(source: str, target: str) -> str:
    """The same file under another name; a copy where the file system cannot have that."""
    try:
        Path(target).hardlink_to(Path(source).resolve())
    except OSError:
        shutil.copy2(source, target)
    return target
