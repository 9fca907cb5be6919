"""Puts a local deployment into effect: environment, model, worker."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import uv

from headgate.azure.yaml_values import LocalDeployment
from headgate.local import workers
from headgate.local.boxes import Boxes, refuse_debugger
from headgate.local.folders import Folders, Kept
from headgate.local.layout import Laid, laid_out
from headgate.local.workers import HOST, Ended, Launch, Worker
from headgate.provisioner import logs
from headgate.provisioner.building import Builds, Say
from headgate.provisioner.drivers import Image, Interpreter
from headgate.provisioner.environments import reason_for_container
from headgate.provisioner.venvs import Venvs
from headgate.runtime import ports, procs
from headgate.runtime.copies import remove_tree
from headgate.runtime.settings import inherited
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.provisioning import EnvironmentEvent
from headgate_contracts.resources import DeploymentSpec

DEBUGGER = "debugpy"
INSTALL_TIMEOUT_S = 300


class Deployer:
    """Local deployments of one data folder."""

    def __init__(self, data: Path) -> None:
        self.folders = Folders(data)
        self._data = data.absolute()
        self._builds = Builds(data / "environments", say=_no_event)
        self._venvs = Venvs(self._builds, inherited())
        self._boxes = Boxes(self.folders.root, self._builds)

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
        laid = await asyncio.to_thread(laid_out, local, folder)
        for note in laid.notes:
            say(note)
        base = await self._base_for(local, laid, say)
        packages = None
        if debug:
            if isinstance(base, Image):
                raise refuse_debugger()
            packages = await self._debugger(base.python, say)
        before = await self.find(spec.endpoint_name, spec.name)
        if before is not None:
            say("stopping the worker of before")
            await self.stop(before)
        port = ports.choose(HOST, self._same_port(spec), setting="port")
        debug_port = ports.choose(HOST, 0, setting="debug_port", avoid=(port,)) if debug else 0
        launch = Launch(
            endpoint=spec.endpoint_name,
            deployment=spec.name,
            folder=folder,
            code=laid.code,
            port=port,
            variables={**spec.variables, **laid.variables},
            model_mount_path=spec.model_mount_path or "",
            debug_port=debug_port,
            wait_for_debugger=wait_for_debugger,
            packages=packages,
        )
        kept = _kept(launch, local, laid, base, file)
        self.folders.put_deployment(kept)
        say("starting the worker")
        budget_s = None if debug else float(spec.readiness_probe.budget_s)
        await self._start(launch, base, budget_s)
        return kept

    def _same_port(self, spec: DeploymentSpec) -> int:
        """An update keeps its address when it can, so that a client need not look again."""
        with contextlib.suppress(HeadgateError):
            port = self.folders.deployment(spec.endpoint_name, spec.name).port
            return port if ports.is_free(HOST, port) else 0
        return 0

    async def _base_for(
        self, local: LocalDeployment[DeploymentSpec], laid: Laid, say: Say
    ) -> Interpreter | Image:
        """An environment as a process has it, or an image where only that will do."""
        environment = laid.environment
        if environment is not None and (reason := reason_for_container(environment, egress=True)):
            if await self._boxes.answers():
                say(f"it runs in a container, because {reason}")
                return await self._boxes.image_for(environment, local.environment, say)
            say(f"no Docker engine answers, although {reason}")
        return (await self._venvs.base_for(environment, None, say)).base

    async def _start(
        self, launch: Launch, base: Interpreter | Image, budget_s: float | None
    ) -> None:
        """Start a worker and wait until it answers. Raises HeadgateError that says why not."""
        archives = self._data / "worker"
        if isinstance(base, Image):
            worker = await self._boxes.start(launch, base, archives)
            ended: Callable[[], Awaitable[Ended | None]] = partial(self._boxes.ended, worker)
        else:
            pid = workers.start(launch, base.python, archives)
            worker, ended = Worker(pid, 0, launch.port), partial(_ended, pid)
        try:
            how = None
            if not launch.wait_for_debugger:
                how = await workers.until_ready(worker, ended, budget_s)
        except TimeoutError:
            await self._save_log(launch)
            await self.stop(await self.find(launch.endpoint, launch.deployment) or worker)
            raise workers.too_slow(launch.folder, budget_s or 0) from None
        if how is not None:
            await self._save_log(launch)
            raise workers.failure(launch.folder, launch.deployment, how)

    async def _save_log(self, launch: Launch) -> None:
        await self.save_log(launch.endpoint, launch.deployment)

    # --- what runs -----------------------------------------------------------------------------

    async def find(self, endpoint: str, name: str) -> Worker | None:
        """What runs for a deployment, read back from processes and containers."""
        process = await asyncio.to_thread(workers.find, self.folders.of(endpoint, name))
        return process or await self._boxes.find(endpoint, name)

    async def stop(self, worker: Worker) -> None:
        if worker.container:
            await self._boxes.stop(worker)
        else:
            await workers.stop(worker)

    async def save_log(self, endpoint: str, name: str) -> None:
        """Bring the log of a container to where logs are read; a process writes it there itself."""
        path = self.folders.of(endpoint, name) / logs.LOG
        await self._boxes.save_log(endpoint, name, path)

    async def delete(self, endpoint: str, name: str) -> None:
        """End the worker and forget the deployment; what it was made of stays."""
        running = await self.find(endpoint, name)
        if running is not None:
            await self.stop(running)
        await self._boxes.remove(endpoint, name)
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


async def _ended(pid: int) -> Ended | None:
    status = procs.reap(pid)
    return None if status is None else Ended(status)


def _kept(
    launch: Launch,
    local: LocalDeployment[DeploymentSpec],
    laid: Laid,
    base: Interpreter | Image,
    file: str,
) -> Kept:
    is_image = isinstance(base, Image)
    server = base.server if isinstance(base, Image) else None
    route = server.scoring_route if server is not None else None
    return Kept(
        spec=local.spec,
        file=file,
        code=str(laid.code or ""),
        script=laid.script,
        python="" if isinstance(base, Image) else str(base.python),
        port=launch.port,
        path=route.path if route is not None else "/score",
        image=(laid.environment.image or "built") if is_image and laid.environment else "",
        debug_port=launch.debug_port,
    )
