"""Puts a local deployment into effect: environment, model, worker."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uv

from headgate.azure.yaml_values import LocalDeployment, LocalEnvironment, LocalModel
from headgate.local import workers
from headgate.local.folders import Folders, Kept
from headgate.local.workers import HOST, Launch
from headgate.provisioner import mlflow_models
from headgate.provisioner.building import Builds
from headgate.provisioner.venvs import Venvs
from headgate.runtime import ports
from headgate.runtime.copies import remove_tree
from headgate.runtime.settings import inherited
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.provisioning import EnvironmentEvent
from headgate_contracts.resources import DeploymentSpec, EnvironmentSpec

Say = Callable[[str], None]
DEBUGGER = "debugpy"
INSTALL_TIMEOUT_S = 300


class Deployer:
    """Local deployments of one data folder."""

    def __init__(self, data: Path) -> None:
        self.folders = Folders(data)
        self._data = data.absolute()
        builds = Builds(data / "environments", say=_no_event)
        self._environments = Venvs(builds, inherited())

    async def deploy(
        self,
        local: LocalDeployment[DeploymentSpec],
        file: str,
        say: Say,
        *,
        debug: bool = False,
        wait_for_debugger: bool = False,
    ) -> Kept:
        """Start the deployment, in place of the one that runs. Raises HeadgateError.

        What runs goes on until everything that the new one needs is there.
        """
        spec = local.spec
        folder = self.folders.of(spec.endpoint_name, spec.name)
        laid = await asyncio.to_thread(_laid_out, local, folder)
        for note in laid.notes:
            say(note)
        python = (await self._environments.base_for(laid.environment, say)).python
        packages = await self._debugger(python, say) if debug else None
        running = workers.find(folder)
        if running is not None:
            say(f"stopping the worker of before (process {running.pid})")
            await workers.stop(running)
        port = ports.choose(HOST, _same_port(running), setting="port")
        debug_port = ports.choose(HOST, 0, setting="debug_port", avoid=(port,)) if debug else 0
        kept = Kept(
            spec=spec,
            file=file,
            code=str(laid.code),
            script=laid.script,
            python=str(python),
            port=port,
            debug_port=debug_port,
        )
        self.folders.put_deployment(kept)
        launch = Launch(
            endpoint=spec.endpoint_name,
            deployment=spec.name,
            folder=folder,
            python=python,
            code=laid.code,
            port=port,
            variables={**spec.environment_variables, **laid.variables},
            debug_port=debug_port,
            wait_for_debugger=wait_for_debugger,
            packages=packages,
        )
        say("starting the worker")
        child = workers.start(launch, self._data / "worker")
        budget_s = None if debug else float(spec.readiness_probe.budget_s)
        if not wait_for_debugger:
            await workers.until_ready(launch, child, budget_s)
        child.returncode = 0  # it outlives us: nobody here waits for its end
        return kept

    async def delete(self, endpoint: str, name: str) -> None:
        """End the worker and forget the deployment; what it was made of stays."""
        running = workers.find(self.folders.of(endpoint, name))
        if running is not None:
            await workers.stop(running)
        await asyncio.to_thread(self.folders.remove_deployment, endpoint, name)

    async def delete_endpoint(self, name: str) -> None:
        self.folders.endpoint(name)
        for each in self.folders.deployments(name):
            await self.delete(name, each.spec.name)
        await asyncio.to_thread(self.folders.remove_endpoint, name)

    async def _debugger(self, python: Path, say: Say) -> Path:
        """A folder with debugpy for this interpreter, beside the environment and not in it."""
        version = await asyncio.to_thread(
            subprocess.run,
            [str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=True,
        )
        place = self._data / "debugger" / version.stdout.strip()
        if (place / DEBUGGER).is_dir():
            return place
        say(f"installing {DEBUGGER}")
        draft = place.with_name(f".{place.name}.draft")
        await asyncio.to_thread(remove_tree, draft)
        command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--target", str(draft)]
        done = await asyncio.to_thread(
            subprocess.run,
            [*command, "--python", str(python), DEBUGGER],
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            env=inherited(),
            check=False,
        )
        if done.returncode != 0:
            raise HeadgateError(
                ErrorCode.IMAGE_BUILD_FAILURE,
                f"{DEBUGGER} cannot be installed for {python}: {done.stderr.strip()[-1000:]}",
            )
        await asyncio.to_thread(draft.rename, place)
        return place


async def _no_event(event: EnvironmentEvent) -> None:
    """Nobody listens: there is no bus."""


def _same_port(running: workers.Worker | None) -> int:
    """An update keeps its address when it can, so that a client need not look again."""
    return running.port if running is not None and ports.is_free(HOST, running.port) else 0


@dataclass(frozen=True, slots=True)
class _Laid:
    """Where the worker finds code and model, and in which environment. No script: MLflow's."""

    code: Path
    script: str
    variables: dict[str, str]
    environment: EnvironmentSpec | None
    notes: tuple[str, ...] = ()


def _laid_out(local: LocalDeployment[DeploymentSpec], folder: Path) -> _Laid:
    """Code from where it is edited, the model as a deployed one has it."""
    _refuse_registered(local)
    environment, configuration = _environment(local.environment), local.spec.code_configuration
    if local.code is not None and configuration is not None:
        code, script = local.code.absolute(), configuration.scoring_script
        variables = {"AML_APP_ROOT": str(code), "AZUREML_ENTRY_SCRIPT": script}
        if local.model is not None:
            variables["AZUREML_MODEL_DIR"] = str(_placed(local.model, folder))
        return _Laid(code, script, variables, environment)
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
    return _Laid(inner, "", variables, environment, notes)


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
    fields = local.fields
    return EnvironmentSpec(
        name=fields.name or "local",
        version=fields.version or "0",
        image=fields.image,
        conda_file=local.conda_file,
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
