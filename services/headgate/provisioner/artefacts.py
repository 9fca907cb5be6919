"""Code and models on this machine: each content once, read-only, laid out as scripts expect it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from headgate.runtime.copies import contents_of, materialise, remove_tree
from headgate.runtime.store import Store
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import CodeSpec, ModelSpec

Say = Callable[[str], None]
_ID_CHARS = 32


class Artefacts:
    """The folder of copied content. A place's name is the hash of what it holds.

    What lies under a key of the store may be replaced there. So a version of a deployment names
    the places that it was prepared with (``pinned``), and keeps them as long as they are here.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder

    async def code(self, code: CodeSpec, scoring_script: str, pinned: str, say: Say) -> Path:
        """The code folder, in which the scoring script exists.

        Raises HeadgateError(BadArgument) that names the script when it does not.
        """
        what = f"code {code.name}:{code.version}"
        place = await self._place(code.path, "", pinned, say, what=what)
        script = PurePosixPath(scoring_script)
        inside = not script.is_absolute() and ".." not in script.parts
        if not inside or not await asyncio.to_thread((place / script).is_file):
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"startup file not found: code_configuration.scoring_script is {scoring_script!r}, "
                "and the code folder holds no such file; the path is relative to "
                "code_configuration.code",
                target="code_configuration.scoring_script",
            )
        return place

    async def model(self, model: ModelSpec, pinned: str, say: Say) -> Path:
        """The place of a model, laid out as :meth:`model_directory` says."""
        inner = f"{_model_folder(model)}/{PurePosixPath(model.path).name}"
        what = f"model {model.name}:{model.version}"
        return await self._place(model.path, inner, pinned, say, what=what)

    @staticmethod
    def model_directory(place: Path, model: ModelSpec) -> Path:
        """What ``AZUREML_MODEL_DIR`` is for this model: a folder with its file or folder inside."""
        return place / _model_folder(model)

    async def sweep(self, kept: Iterable[str]) -> None:
        """Remove all content but the places of these names."""
        names = set(kept)

        def remove() -> None:
            if self._folder.is_dir():
                for place in self._folder.iterdir():
                    if place.name not in names:
                        remove_tree(place)

        await asyncio.to_thread(remove)

    async def _place(self, key: str, inner: str, pinned: str, say: Say, *, what: str) -> Path:
        """Where the content of ``key`` lies, at ``inner`` within its place."""
        say(what)
        if pinned:
            place = self._folder / pinned
            if await asyncio.to_thread((place / inner).exists):
                say("is here already")
                return place
        try:
            contents = await contents_of(self._store, key)
        except HeadgateError as error:
            if error.error.code is ErrorCode.RESOURCE_NOT_FOUND:
                raise HeadgateError(
                    ErrorCode.BAD_ARGUMENT, f"{what} has no files: {error}", target=what.split()[0]
                ) from None
            raise
        digest = hashlib.sha256(f"{inner}\0{contents.digest}".encode()).hexdigest()
        place = self._folder / digest[:_ID_CHARS]
        files = await materialise(self._store, contents, place / inner, say=say)
        say(f"{files} files copied" if files else "is here already")
        return place


def _model_folder(model: ModelSpec) -> str:
    return f"azureml-models/{model.name}/{model.version}"
