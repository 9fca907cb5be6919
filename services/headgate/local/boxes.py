"""Workers of local deployments as containers, for environments that are images.

Found again by their labels. A container that has ended is kept until the deployment is updated or
deleted, because its output is the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from headgate.azure.yaml_values import LocalEnvironment
from headgate.local.workers import HOST, LAST_WORDS, SHARED, Ended, Launch, Worker
from headgate.provisioner.building import Builds, Say
from headgate.provisioner.drivers import Image, containers, worker_archive
from headgate.provisioner.drivers.containers import APP, LABEL_PREFIX, WORKER, Bind
from headgate.provisioner.drivers.engine import Engine
from headgate.provisioner.images import Images
from headgate.runtime.files import private_dir
from headgate.runtime.settings import inherited
from headgate.runtime.store import Store
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import EnvironmentSpec

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

INNER_PORT = 5001
LOG_LINES_MAX = 20_000
STOP_TIMEOUT_S = 10
_ROOT, _PORT, _PATH, _READY = (LABEL_PREFIX + name for name in ("local", "port", "path", "ready"))


class Boxes:
    """The containers of one folder of local endpoints."""

    def __init__(self, root: Path, builds: Builds) -> None:
        self._engine = Engine()
        self._builds = builds
        self._root = hashlib.sha256(str(root).encode()).hexdigest()[:12]

    async def answers(self) -> bool:
        """Whether a Docker engine is there."""
        return await self._engine.answers()

    def close(self) -> None:
        self._engine.close()

    async def image_for(
        self, environment: EnvironmentSpec, local: LocalEnvironment | None, say: Say
    ) -> Image:
        """The image of an environment, pulled or built if it is not there."""
        context = local.build if local is not None and local.build is not None else Path("/")
        store = Store(f"file://{context.absolute().parent}")
        images = Images(self._engine, self._builds, store, inherited(), default="")
        base = (await images.base_for(environment, None, say)).base
        assert isinstance(base, Image)
        return base

    # --- starting ------------------------------------------------------------------------------

    async def start(self, launch: Launch, image: Image, archives: Path) -> Worker:
        """Start a container; it takes the place of one that has ended."""
        options = _options(launch, image)
        binds = _binds(launch)
        if image.server is None:
            archive = await asyncio.to_thread(worker_archive.build, archives)
            shared = private_dir(launch.folder / SHARED)
            (shared / LAST_WORDS).unlink(missing_ok=True)
            binds.append(Bind(archive, PurePosixPath(WORKER)))
            binds.append(Bind(shared, containers.SHARED, read_only=False))
        name = f"headgate-local-{self._root}-{launch.endpoint}-{launch.deployment}"
        labels = {
            _ROOT: self._root,
            LABEL_PREFIX + "endpoint": launch.endpoint,
            LABEL_PREFIX + "deployment": launch.deployment,
            _PORT: str(launch.port),
            _PATH: _path_of(image),
            _READY: _ready_of(image),
        }

        def run(client: DockerClient) -> None:
            import docker

            for old in self._listed(client, launch.endpoint, launch.deployment):
                old.remove(force=True)
            mounts = [
                docker.types.Mount(str(b.target), str(b.source), type="bind", read_only=b.read_only)
                for b in binds
            ]
            made = client.containers.create(**options, name=name, labels=labels, mounts=mounts)
            try:
                made.start()
            except BaseException:
                made.remove(force=True)
                raise

        await self._engine.call(run)
        return Worker(0, 0, launch.port, _path_of(image), _ready_of(image), name)

    # --- looking -------------------------------------------------------------------------------

    async def find(self, endpoint: str, deployment: str) -> Worker | None:
        """The container that runs for a deployment; None without one, or without an engine."""
        with contextlib.suppress(HeadgateError):
            for container in await self._engine.call(
                lambda client: self._listed(client, endpoint, deployment)
            ):
                if container.status == "running":
                    said = container.labels
                    port = int(said[_PORT])
                    return Worker(0, 0, port, said[_PATH], said[_READY], str(container.name))
        return None

    async def ended(self, worker: Worker) -> Ended | None:
        """How a container has ended; None while it runs."""

        def look(client: DockerClient) -> Ended | None:
            state = client.containers.get(worker.container).attrs["State"]
            if state["Status"] in ("running", "created", "restarting"):
                return None
            if state.get("OOMKilled"):
                return Ended(137, "was killed because the machine's memory ran out")
            return Ended(int(state["ExitCode"]), str(state.get("Error") or ""))

        return await self._engine.call(look)

    async def save_log(self, endpoint: str, deployment: str, path: Path) -> None:
        """Write the output of a container, running or ended, where logs are looked for."""

        def read(client: DockerClient) -> bytes | None:
            for container in self._listed(client, endpoint, deployment):
                return bytes(container.logs(tail=LOG_LINES_MAX))
            return None

        with contextlib.suppress(HeadgateError):
            output = await self._engine.call(read)
            if output is not None:
                await asyncio.to_thread(path.write_bytes, output)

    # --- ending --------------------------------------------------------------------------------

    async def stop(self, worker: Worker) -> None:
        await self._engine.call(
            lambda client: client.containers.get(worker.container).stop(timeout=STOP_TIMEOUT_S)
        )

    async def remove(self, endpoint: str, deployment: str) -> None:
        """Remove whatever there is of a deployment."""

        def remove(client: DockerClient) -> None:
            for container in self._listed(client, endpoint, deployment):
                container.remove(force=True)

        with contextlib.suppress(HeadgateError):
            await self._engine.call(remove)

    def _listed(self, client: DockerClient, endpoint: str, deployment: str) -> list[Container]:
        labels = {
            _ROOT: self._root,
            LABEL_PREFIX + "endpoint": endpoint,
            LABEL_PREFIX + "deployment": deployment,
        }
        wanted = [f"{name}={value}" for name, value in labels.items()]
        return list(client.containers.list(all=True, filters={"label": wanted}))


def _options(launch: Launch, image: Image) -> dict[str, Any]:
    """What a container of ours is told; one with a server of its own runs as its image says."""
    variables = dict(launch.variables)
    if directory := variables.get("AZUREML_MODEL_DIR"):
        variables["AZUREML_MODEL_DIR"] = str(_model_place(Path(directory), launch))
    common: dict[str, Any] = {"image": image.id, "init": True}
    if image.server is not None:
        inner = image.server.scoring_route.port if image.server.scoring_route else 0
        return {**common, "environment": variables, "ports": {inner: (HOST, launch.port)}}
    ours = {
        "HOME": containers.SCRATCH,
        "LANG": "C.UTF-8",
        **variables,
        "AML_APP_ROOT": str(APP / "code"),
        "HEADGATE_LISTEN": f"0.0.0.0:{INNER_PORT}",
        "HEADGATE_ENDPOINT": launch.endpoint,
        "HEADGATE_DEPLOYMENT": launch.deployment,
        "HEADGATE_INSTANCE": "local",
        "HEADGATE_LAST_WORDS": str(containers.SHARED / LAST_WORDS),
    }
    return {
        **common,
        "entrypoint": [image.python, "-u", "-X", "faulthandler", WORKER],
        "command": [],
        "environment": ours,
        "working_dir": str(APP / "code"),
        "user": f"{os.getuid()}:{os.getgid()}",  # so that it can read what its owner can
        "ports": {INNER_PORT: (HOST, launch.port)},
    }


def _binds(launch: Launch) -> list[Bind]:
    binds = []
    if launch.code is not None:
        binds.append(Bind(launch.code, APP / "code"))
    if directory := launch.variables.get("AZUREML_MODEL_DIR"):
        binds.append(Bind(Path(directory), _model_place(Path(directory), launch)))
    return binds


def _model_place(directory: Path, launch: Launch) -> PurePosixPath:
    inside = PurePosixPath(*directory.parts[-3:])  # azureml-models/<name>/<version>
    return PurePosixPath(launch.model_mount_path or APP) / inside


def _path_of(image: Image) -> str:
    route = image.server.scoring_route if image.server is not None else None
    return route.path if route is not None else "/score"


def _ready_of(image: Image) -> str:
    """The path that says whether it is ready; empty: whatever answers is."""
    if image.server is None:
        return "/"
    scoring = image.server.scoring_route
    route = image.server.readiness_route or image.server.liveness_route
    if scoring is None or route is None or route.port != scoring.port:
        return ""
    return route.path


def refuse_debugger() -> HeadgateError:
    return HeadgateError(
        ErrorCode.BAD_ARGUMENT,
        "a debugger attaches to processes of this machine only, and this environment is an image; "
        "give it a conda_file instead of the image while you debug",
        target="environment",
    )
