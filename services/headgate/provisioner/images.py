"""Environments of containers: an image as it is, or one built from it; each content once."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate.provisioner import image_recipes
from headgate.provisioner.building import (
    BUILD_TIMEOUT_S,
    UNUSED_KEPT_S,
    Based,
    Builds,
    Journal,
    Kept,
    Say,
    failure,
)
from headgate.provisioner.drivers import Image
from headgate.provisioner.drivers.containers import LABEL_PREFIX
from headgate.provisioner.drivers.engine import CALL_TIMEOUT_S, Engine, in_words
from headgate.provisioner.image_parts import Parts, exists, id_of, look_for
from headgate.provisioner.image_recipes import Facts
from headgate.provisioner.made import Look, Made, Renewed, bounded, changes
from headgate.runtime.copies import Contents, contents_of, materialise, remove_tree
from headgate.runtime.store import Store
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import EnvironmentSpec

if TYPE_CHECKING:
    from docker import DockerClient

REPOSITORY = "headgate-environment"
LABEL = LABEL_PREFIX + "environment"
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

    async def base_for(
        self, environment: EnvironmentSpec | None, made: Made | None, say: Say
    ) -> Based:
        """The image of an environment, pulled or built if it is not there.

        Raises HeadgateError(ImageBuildFailure) with the end of the build log.
        """
        environment = self._named(environment)
        routes = environment.inference_config
        if routes is not None and routes.scoring_route is None:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                "environment.inference_config has no scoring_route; add its path and port",
                target="environment.inference_config",
            )
        found = await self._found(environment, made, say)
        if routes is not None:
            return Based(Image(found.id, server=routes), found)
        if environment.conda_file is not None:
            return Based(Image(found.id, python=image_recipes.PYTHON), found)
        facts = await self._facts_of(found.id)
        return Based(Image(found.id, python=facts.python), found)

    async def renew(self, environment: EnvironmentSpec | None, made: Made, say: Say) -> Renewed:
        """Ask for the images by their names again, and build what is built on them."""
        environment = self._named(environment)
        parts = Parts(self._engine, fresh=True)
        if not _is_built(environment):
            found = await parts.image(environment.image or "", say)
            return Renewed(Made(id=found, images=parts.images), tuple(parts.unknown))
        contents = await self._contents(environment)
        digest = definition_hash(environment)

        async def build(journal: Journal) -> Made:
            return await self._make(environment, contents, parts, journal)

        made = await self._builds.again(environment, digest, made, build, say)
        return Renewed(made, tuple(parts.unknown))

    async def look(self, environment: EnvironmentSpec | None, made: Made, say: Say) -> Look:
        """What :meth:`renew` would find; nothing is pulled, and nothing built."""
        environment = self._named(environment)
        unknown: list[str] = []
        lines = []
        for name, id in made.images.items():
            say(f"asking for image {name}")
            found = await look_for(self._engine, name, id, unknown)
            lines += [found] if found else []
        if environment.conda_file is not None and environment.inference_config is None:
            if lines:
                unknown.append("packages: they are resolved for the new image")
            else:
                journal = Journal(self._builds.log_of(definition_hash(environment)))
                facts = await self._facts_of(made.id)
                recipe = image_recipes.of_conda_file(environment.conda_file, "", facts)
                packages = await image_recipes.resolve(recipe, journal, self._environ, fresh=True)
                lines += changes(made, made.model_copy(update={"packages": packages}))
        return Look(bounded(lines), bounded(unknown))

    async def sweep(self, kept: Sequence[Kept]) -> None:
        """Remove images built here that no version names and that are old."""
        if not self._builds.folder.exists():  # then none was ever built
            return
        names = {made.id for _, made in kept if made is not None}
        definitions = {definition_hash(environment) for environment, _ in kept if environment}
        oldest = datetime.now(UTC).timestamp() - UNUSED_KEPT_S

        def remove(client: DockerClient) -> None:
            newest: set[str] = set()
            for image in client.images.list(filters={"label": LABEL}):  # newest first
                made = str(image.attrs.get("Created", ""))[:19]
                is_old = datetime.fromisoformat(f"{made}+00:00").timestamp() < oldest
                definition = image.labels.get(LABEL, "")
                is_current = definition in definitions and definition not in newest
                newest.add(definition)
                if is_old and image.id not in names and not is_current:
                    with contextlib.suppress(HeadgateError):  # something runs on it
                        in_words(partial(client.images.remove, image.id))

        with contextlib.suppress(HeadgateError):  # there is no engine now: another time
            await self._engine.call(remove)

    def _named(self, environment: EnvironmentSpec | None) -> EnvironmentSpec:
        """An environment that says what its image is."""
        if environment is None:
            return EnvironmentSpec(name="default", image=self._default)
        if environment.build is None and not environment.image:
            return environment.model_copy(update={"image": self._default})
        return environment

    async def _facts_of(self, image: str) -> Facts:
        """What the Python of an image is. Raises HeadgateError when it has none for our worker."""
        if image not in self._facts:
            output = await self._engine.call(lambda client: _probe(client, image))
            self._facts[image] = image_recipes.read_facts(output)
        return self._facts[image]

    # --- images by what they hold --------------------------------------------------------------

    async def _found(self, environment: EnvironmentSpec, pinned: Made | None, say: Say) -> Made:
        """The image that a version runs on, or the one that a new version gets."""
        if not _is_built(environment):
            if pinned is not None and await exists(self._engine, pinned.id):
                return pinned
            parts = Parts(self._engine, fresh=False)
            found = await parts.image(environment.image or "", say)
            return Made(id=found, images=parts.images)
        contents = await self._contents(environment)
        digest = definition_hash(environment)

        async def find() -> Made | None:
            for made in (pinned, self._builds.current(_key(digest, contents))):
                if made is not None and await exists(self._engine, made.id):
                    return made
            return None

        async def build(journal: Journal) -> Made:
            parts = Parts(self._engine, fresh=False)
            return await self._make(environment, contents, parts, journal)

        return await self._builds.once(environment, digest, find, build, say)

    async def _contents(self, environment: EnvironmentSpec) -> Contents | None:
        """The build context as it is now."""
        build = environment.build
        return await contents_of(self._store, build.path) if build is not None else None

    async def _make(
        self,
        environment: EnvironmentSpec,
        contents: Contents | None,
        parts: Parts,
        journal: Journal,
    ) -> Made:
        """Build what is not built yet of these parts; it is the current build from now on."""
        if environment.build is not None and contents is not None:
            image = await self._from_dockerfile(environment, contents, parts, journal)
        else:
            image = await parts.image(environment.image or "", journal.say)
        packages: tuple[str, ...] = ()
        if environment.conda_file is not None and environment.inference_config is None:
            facts = await self._facts_of(image)
            recipe = image_recipes.of_conda_file(environment.conda_file, image, facts)
            for note in recipe.notes:
                journal.say(note)
            packages = await image_recipes.resolve(
                recipe, journal, self._environ, fresh=parts.fresh
            )
            image = await self._with_packages(environment, recipe, packages, journal)
        made = Made(id=image, images=parts.images, packages=packages)
        key = _key(definition_hash(environment), contents)
        await asyncio.to_thread(self._builds.set_current, key, made)
        return made

    async def _with_packages(
        self,
        environment: EnvironmentSpec,
        recipe: image_recipes.Recipe,
        packages: tuple[str, ...],
        journal: Journal,
    ) -> str:
        async def fill(context: Path) -> None:
            await image_recipes.write_context(recipe, packages, context, journal, self._environ)

        content = [recipe.dockerfile, *recipe.requirements, *packages]
        return await self._built(
            environment, content, fill, "Dockerfile", journal, network_mode="none"
        )

    async def _from_dockerfile(
        self,
        environment: EnvironmentSpec,
        contents: Contents,
        parts: Parts,
        journal: Journal,
    ) -> str:
        dockerfile = environment.build.dockerfile_path if environment.build else "Dockerfile"
        for name in image_recipes.bases_of(await self._text_of(contents, dockerfile)):
            await parts.image(name, journal.say)

        async def fill(context: Path) -> None:
            await asyncio.to_thread(context.rmdir)
            files = await materialise(self._store, contents, context, say=journal.say)
            journal.say(f"{files} files of the build context")

        bases = [f"{name} {id}" for name, id in sorted(parts.images.items())]
        content = [contents.digest, dockerfile, *bases]
        return await self._built(environment, content, fill, dockerfile, journal)

    async def _text_of(self, contents: Contents, dockerfile: str) -> str:
        """The Dockerfile; empty when there is none, which the engine says better than we could."""
        key = f"{contents.prefix.rstrip('/')}/{dockerfile}"
        if key not in {blob.key for blob in contents.blobs}:
            return ""
        text = await self._store.read(key, bytes_max=limits.YAML_BYTES_MAX)
        return text.decode(errors="replace")

    async def _built(
        self,
        environment: EnvironmentSpec,
        content: Sequence[str],
        fill: Callable[[Path], Awaitable[None]],
        dockerfile: str,
        journal: Journal,
        **more: str,
    ) -> str:
        """The id of the image of a build context, which ``fill`` writes if it must be built."""
        named = hashlib.sha256("\0".join(content).encode()).hexdigest()[:_TAG_CHARS]
        tag = f"{REPOSITORY}:{named}"
        found = await id_of(self._engine, tag)
        if found:
            return found
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="hg-image-"))
        context = folder / "context"
        context.mkdir()
        options = {
            "path": str(context),
            "dockerfile": dockerfile,
            "tag": tag,
            "labels": {LABEL: definition_hash(environment)},
            **more,
        }
        try:
            await fill(context)
            return await self._engine.call(lambda client: _build(client, options, journal))
        finally:
            await asyncio.to_thread(remove_tree, folder)


def _is_built(environment: EnvironmentSpec) -> bool:
    """Whether it is more than an image as it is."""
    has_packages = environment.conda_file is not None and environment.inference_config is None
    return environment.build is not None or has_packages


def _key(digest: str, contents: Contents | None) -> str:
    """What names the latest build of a definition, and of a build context as it is now."""
    if contents is None:
        return digest
    return hashlib.sha256(f"{digest}\0{contents.digest}".encode()).hexdigest()


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
