"""The images that environments are, or are built on: what their names mean here and elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headgate.provisioner.building import Say
from headgate.provisioner.drivers.engine import Engine
from headgate.provisioner.made import short
from headgate_contracts.errors import ErrorCode, HeadgateError

if TYPE_CHECKING:
    from docker import DockerClient

_TARGET = "environment.image"


class Parts:
    """Finds images by their names, and notes what each of them has meant.

    ``fresh``: registries are asked what a name means today; what cannot be asked is in
    ``unknown``, and the image of this machine counts.
    """

    def __init__(self, engine: Engine, *, fresh: bool) -> None:
        self.fresh = fresh
        self.images: dict[str, str] = {}
        self.unknown: list[str] = []
        self._engine = engine

    async def image(self, name: str, say: Say) -> str:
        """The id of an image, pulled if it is not on this machine, or for being fresh.

        Raises HeadgateError(ImageBuildFailure) when it is nowhere.
        """
        here = await _digests_of(self._engine, name)
        if here is not None and not (self.fresh and may_have_changed(name, here[1])):
            self.images[name] = here[0]
            return here[0]
        say(f"image {name} is being pulled" + ("" if here else "; it is not on this machine"))
        try:
            found = await self._engine.call(lambda client: _pull(client, name))
        except HeadgateError as error:
            if here is None:
                raise _refusal(name, error) from None
            self.unknown.append(f"image {name}: it cannot be pulled ({error})")
            found = here[0]
        self.images[name] = found
        return found


async def look_for(engine: Engine, name: str, id: str, unknown: list[str]) -> str:
    """How an image has changed that once was ``id``, without pulling it; empty: not at all.

    What cannot be found out is added to ``unknown``.
    """
    here = await _digests_of(engine, name)
    if here is None or not may_have_changed(name, here[1]):
        if here is None or here[0] == id:
            return ""
        return f"{name} {short(id)} -> {name} {short(here[0])}"
    try:
        there = await engine.call(lambda client: str(client.images.get_registry_data(name).id))
    except HeadgateError as error:
        unknown.append(f"image {name}: its registry cannot be asked ({error})")
        there = ""
    known = await _digests_of(engine, id)
    if there and known is not None and there in {each.rpartition("@")[2] for each in known[1]}:
        return ""
    if there:
        return f"{name} {short(id)} -> {name} with the digest {short(there)}"
    return "" if here[0] == id else f"{name} {short(id)} -> {name} {short(here[0])}"


def may_have_changed(name: str, digests: Sequence[str]) -> bool:
    """Whether a registry has to be asked what a name means.

    A digest always means the same, and what never came from a registry under this name was made on
    this machine: another one of its name, wherever that may be, is a stranger.
    """
    if "@" in name:
        return False
    return _repository(name) in {each.partition("@")[0] for each in digests}


def _repository(name: str) -> str:
    """Of a name, as an engine writes it beside digests: Docker Hub goes without saying."""
    repository = _reference(name)[0]
    for default in ("index.docker.io/", "docker.io/", "library/"):
        repository = repository.removeprefix(default)
    return repository


async def exists(engine: Engine, id: str) -> bool:
    return bool(await id_of(engine, id))


async def id_of(engine: Engine, name: str) -> str:
    """The id of an image of this machine; empty when it is not here."""
    found = await _digests_of(engine, name)
    return found[0] if found else ""


async def _digests_of(engine: Engine, name: str) -> tuple[str, list[str]] | None:
    """Id of an image of this machine and its digests in registries; None when it is not here."""

    def look(client: DockerClient) -> tuple[str, list[str]]:
        image = client.images.get(name)
        return str(image.id), list(image.attrs.get("RepoDigests") or ())

    try:
        return await engine.call(look)
    except HeadgateError as error:
        if error.error.code is not ErrorCode.RESOURCE_NOT_FOUND:
            raise
        return None


def _pull(client: DockerClient, name: str) -> str:
    return str(client.images.pull(*_reference(name)).id)


def _reference(name: str) -> tuple[str, str | None]:
    """Repository and tag; a digest stays part of the repository's name."""
    repository, colon, tag = name.rpartition(":")
    if "@" in name:
        return name, None
    return (repository, tag) if colon and "/" not in tag else (name, "latest")


def _refusal(name: str, error: HeadgateError) -> HeadgateError:
    if error.error.code is ErrorCode.UNAVAILABLE:
        return error
    return HeadgateError(
        ErrorCode.IMAGE_BUILD_FAILURE,
        f"image {name} cannot be pulled: {error}. Correct its name, or put it on this "
        "machine (docker pull, docker load)",
        target=_TARGET,
    )
