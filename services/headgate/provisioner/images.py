"""Environments of containers: an image as it is, or one built from it; each content once."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate.provisioner import image_recipes
from headgate.provisioner.building import (
    BUILD_TIMEOUT_S,
    UNUSED_KEPT_S,
    Builds,
    Journal,
    Say,
    failure,
)
from headgate.provisioner.drivers import Image
from headgate.provisioner.drivers.containers import LABEL_PREFIX
from headgate.provisioner.drivers.engine import CALL_TIMEOUT_S, Engine
from headgate.provisioner.image_recipes import Facts
from headgate.runtime.copies import contents_of, materialise, remove_tree
from headgate.runtime.store import Store
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import EnvironmentBuild, EnvironmentSpec

if TYPE_CHECKING:
    from docker import DockerClient

REPOSITORY = "headgate-environment"
LABEL = LABEL_PREFIX + "environment"
_TARGET = "environment.image"
_TAG_CHARS = 32


def definition_hash(environment: EnvironmentSpec) -> str:
    """What an environment says; what its parts hold at the moment is not in it."""
    kept = environment.model_dump(mode="json", include={"image", "conda_file", "build"})
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


class Images:
    """The images that this installation uses, and those that it has built."""

    def __init__(
        self,
        engine: Engine,
        builds: Builds,
        store: Store,
        environ: Mapping[str, str],
        *,
        default: str,
    ) -> None:
        """``default`` is the image of environments that name none."""
        self._engine = engine
        self._builds = builds
        self._store = store
        self._environ = environ
        self._default = default
        self._facts: dict[str, Facts] = {}

    def log_of(self, environment: EnvironmentSpec | None) -> Path | None:
        """Where the build of this environment is written down; None when nothing is built."""
        if environment is None:
            return None
        return self._builds.log_of(definition_hash(environment))

    async def base_for(self, environment: EnvironmentSpec | None, say: Say) -> Image:
        """The image of an environment, pulled or built if it is not there.

        Raises HeadgateError(ImageBuildFailure) with the end of the build log.
        """
        if environment is None:
            environment = EnvironmentSpec(name="default", image=self._default)
        if environment.build is not None:
            image = await self._from_dockerfile(environment, environment.build, say)
        else:
            image = await self._present(environment.image or self._default, say)
        if environment.inference_config is not None:
            if environment.inference_config.scoring_route is None:
                raise HeadgateError(
                    ErrorCode.BAD_ARGUMENT,
                    "environment.inference_config has no scoring_route; add its path and port",
                    target="environment.inference_config",
                )
            return Image(image, server=environment.inference_config)
        facts = await self._facts_of(image)
        if environment.conda_file is None:
            return Image(image, python=facts.python)
        built = await self._with_packages(environment, image, facts, say)
        return Image(built, python=image_recipes.PYTHON)

    async def sweep(self, kept: Sequence[EnvironmentSpec | None]) -> None:
        """Remove images built here that no version names and that are old."""
        if not self._builds.folder.exists():  # then none was ever built
            return
        names = {definition_hash(environment) for environment in kept if environment}
        oldest = datetime.now(UTC).timestamp() - UNUSED_KEPT_S

        def remove(client: DockerClient) -> None:
            for image in client.images.list(filters={"label": LABEL}):
                made = str(image.attrs.get("Created", ""))[:19]
                is_old = datetime.fromisoformat(f"{made}+00:00").timestamp() < oldest
                if is_old and image.labels.get(LABEL) not in names:
                    client.images.remove(image.id)

        try:
            await self._engine.call(remove)
        except HeadgateError:  # it is in use, or there is no engine now: another time
            return

    # --- images as they are --------------------------------------------------------------------

    async def _present(self, name: str, say: Say) -> str:
        """The id of an image, pulled if it is not on this machine."""

        def look(client: DockerClient) -> str:
            return str(client.images.get(name).id)

        def pull(client: DockerClient) -> str:
            return str(client.images.pull(*_reference(name)).id)

        with contextlib.suppress(HeadgateError):  # it is not here, or the engine is not
            return await self._engine.call(look)
        say(f"image {name} is not on this machine; it is being pulled")
        try:
            return await self._engine.call(pull)
        except HeadgateError as error:
            if error.error.code is ErrorCode.UNAVAILABLE:
                raise
            raise HeadgateError(
                ErrorCode.IMAGE_BUILD_FAILURE,
                f"image {name} cannot be pulled: {error}. Correct its name, or put it on this "
                "machine (docker pull, docker load)",
                target=_TARGET,
            ) from None

    async def _facts_of(self, image: str) -> Facts:
        """What the Python of an image is. Raises HeadgateError when it has none for our worker."""
        if image not in self._facts:
            output = await self._engine.call(lambda client: _probe(client, image))
            self._facts[image] = image_recipes.read_facts(output)
        return self._facts[image]

    # --- images that are built -----------------------------------------------------------------

    async def _with_packages(
        self, environment: EnvironmentSpec, base: str, facts: Facts, say: Say
    ) -> str:
        """The base image with the packages of a conda file."""
        text = environment.conda_file or ""

        async def fill(context: Path, journal: Journal) -> None:
            recipe = image_recipes.of_conda_file(text, base, facts)
            await image_recipes.write_context(recipe, context, journal, self._environ)

        content = hashlib.sha256(f"{base}\0{text}".encode()).hexdigest()
        return await self._build(environment, content, fill, "Dockerfile", say, network="none")

    async def _from_dockerfile(
        self, environment: EnvironmentSpec, build: EnvironmentBuild, say: Say
    ) -> str:
        contents = await contents_of(self._store, build.path)

        async def fill(context: Path, journal: Journal) -> None:
            await asyncio.to_thread(context.rmdir)
            files = await materialise(self._store, contents, context, say=journal.say)
            journal.say(f"{files} files of the build context")

        content = hashlib.sha256(f"{contents.digest}\0{build.dockerfile_path}".encode()).hexdigest()
        return await self._build(environment, content, fill, build.dockerfile_path, say)

    async def _build(
        self,
        environment: EnvironmentSpec,
        content: str,
        fill: Callable[[Path, Journal], Any],
        dockerfile: str,
        say: Say,
        *,
        network: str = "default",
    ) -> str:
        """The id of the image of a build context, which ``fill`` writes if it must be built."""
        digest = definition_hash(environment)
        tag = f"{REPOSITORY}:{content[:_TAG_CHARS]}"
        found: list[str] = []

        async def is_here() -> bool:
            try:
                found.append(await self._engine.call(lambda c: str(c.images.get(tag).id)))
            except HeadgateError as error:
                if error.error.code is not ErrorCode.RESOURCE_NOT_FOUND:
                    raise
            return bool(found)

        async def build(journal: Journal) -> None:
            folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="hg-image-"))
            context = folder / "context"
            context.mkdir()
            options = {
                "path": str(context),
                "dockerfile": dockerfile,
                "tag": tag,
                "labels": {LABEL: digest},
                "network_mode": network,
            }
            try:
                await fill(context, journal)
                found.append(await self._engine.call(lambda c: _build(c, options, journal)))
            finally:
                await asyncio.to_thread(remove_tree, folder)

        await self._builds.once(environment, digest, is_here, build, say)
        return found[-1]


def _reference(name: str) -> tuple[str, str | None]:
    """Repository and tag; a digest stays part of the repository's name."""
    repository, colon, tag = name.rpartition(":")
    if "@" in name:
        return name, None
    return (repository, tag) if colon and "/" not in tag else (name, "latest")


def _probe(client: DockerClient, image: str) -> str:
    """What the interpreters of an image say of themselves, one line each."""
    from docker.errors import APIError

    said = []
    for interpreter in image_recipes.INTERPRETERS:
        container = client.containers.create(
            image,
            entrypoint=[interpreter, "-c", image_recipes.PROBE],
            command=[],
            network_mode="none",
            cap_drop=["ALL"],
            read_only=True,
        )
        try:
            container.start()
            container.wait(timeout=CALL_TIMEOUT_S)
            said.append(container.logs().decode(errors="replace"))
        except APIError as error:  # there is none of this name
            said.append(f"{interpreter}: {error.explanation}")
        finally:
            container.remove(force=True)
    return "\n".join(said)


def _build(client: DockerClient, options: dict[str, Any], journal: Journal) -> str:
    """Build with the engine's own builder; what it prints goes into the journal."""
    stream = client.api.build(
        **options, decode=True, rm=True, forcerm=True, timeout=int(BUILD_TIMEOUT_S)
    )
    for entry in stream:
        if "error" in entry:
            journal.say(str(entry["error"]))
            raise failure("`docker build` has failed", journal, target="environment.build")
        if said := str(entry.get("stream", "")).rstrip():
            journal.say(said)
    return str(client.images.get(options["tag"]).id)
