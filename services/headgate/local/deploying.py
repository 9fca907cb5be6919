"""Puts a local deployment into effect: environment, model, worker."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import uv

from headgate.azure.yaml_values import LocalDeployment, LocalEnvironment, LocalModel
from headgate.local import workers
from headgate.local.folders import Folders, Kept
from headgate.local.workers import HOST, Launch
from headgate.provisioner.environments import Environments
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
        self._environments = Environments(data / "environments", inherited(), say=_no_event)

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
        code = _local_code(local)
        folder = self.folders.of(spec.endpoint_name, spec.name)
        python = await self._environments.python_for(_environment(local.environment), say)
        packages = await self._debugger(python, say) if debug else None
        running = workers.find(folder)
        if running is not None:
            say(f"stopping the worker of before (process {running.pid})")
            await workers.stop(running)
        port = ports.choose(HOST, _same_port(running), setting="port")
        debug_port = ports.choose(HOST, 0, setting="debug_port", avoid=(port,)) if debug else 0
        assert spec.code_configuration is not None
        script = spec.code_configuration.scoring_script
        kept = Kept(
            spec=spec,
            file=file,
            code=str(code),
            script=script,
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
            code=code,
            port=port,
            variables={
                **spec.environment_variables,
                "AML_APP_ROOT": str(code),
                "AZUREML_ENTRY_SCRIPT": script,
                **_model_variables(local.model, folder),
            },
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


def _local_code(local: LocalDeployment[DeploymentSpec]) -> Path:
    spec = local.spec
    if local.code is None or spec.code_configuration is None:
        said = "names code that is registered" if spec.code_configuration else "has no code"
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"the deployment {said}; a local one needs code_configuration with a folder of this "
            "machine in `code`, and `scoring_script`",
            target="code_configuration",
        )
    for what, reference, found in (
        ("model", spec.model, local.model),
        ("environment", spec.environment, local.environment),
    ):
        if reference is not None and found is None:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"{what} {reference} is registered in a workspace; a local deployment takes files "
                f"of this machine, so write its definition into the file",
                target=what,
            )
    return local.code.absolute()


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


def _model_variables(model: LocalModel | None, folder: Path) -> dict[str, str]:
    """The model laid out as a deployed one is. Real folders, for many walks follow no links."""
    place = folder / "model"
    remove_tree(place)
    if model is None:
        return {}
    inner = place / "azureml-models" / (model.fields.name or "local") / "1"
    inner.mkdir(parents=True)
    target = inner / model.path.name
    if model.path.is_dir():
        shutil.copytree(model.path, target, copy_function=_linked)
    else:
        _linked(str(model.path), str(target))
    return {"AZUREML_MODEL_DIR": str(inner)}


def _linked(source: str, target: str) -> str:
    """The same file under another name; a copy where the file system cannot have that."""
    try:
        Path(target).hardlink_to(Path(source).resolve())
    except OSError:
        shutil.copy2(source, target)
    return target
