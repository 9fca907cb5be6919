"""Code and models on this machine: each content once, read-only, laid out as scripts expect it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from headgate.runtime.store import Store, remove_tree
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import CodeSpec, ModelSpec

Say = Callable[[str], None]
_ID_CHARS = 32


class Artefacts:
    """The folder of copied content. A place's name is the hash of what it holds."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder

    async def code(self, code: CodeSpec, scoring_script: str, say: Say) -> Path:
        """The code folder, in which the scoring script exists.

        Raises HeadgateError(BadArgument) that names the script when it does not.
        """
        place = self._code_place(code)
        say(f"code {code.name}:{code.version}")
        await self._materialise(code.path, place, say, what=f"code {code.name}:{code.version}")
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

    async def model(self, model: ModelSpec, say: Say) -> Path:
        """What ``AZUREML_MODEL_DIR`` is for this model: a folder with its file or folder inside."""
        directory = self._model_place(model) / "azureml-models" / model.name / model.version
        say(f"model {model.name}:{model.version}")
        content = directory / PurePosixPath(model.path).name
        await self._materialise(model.path, content, say, what=f"model {model.name}")
        return directory

    async def sweep(self, kept: Iterable[Path]) -> None:
        """Remove all content but the places ``kept``."""
        names = {place.name for place in kept}

        def remove() -> None:
            if self._folder.is_dir():
                for place in self._folder.iterdir():
                    if place.name not in names:
                        remove_tree(place)

        await asyncio.to_thread(remove)

    def places(self, code: CodeSpec | None, model: ModelSpec | None) -> list[Path]:
        """Where the content of a version lies."""
        return [
            *([self._code_place(code)] if code else []),
            *([self._model_place(model)] if model else []),
        ]

    def _code_place(self, code: CodeSpec) -> Path:
        return self._place("code", code.path)

    def _model_place(self, model: ModelSpec) -> Path:
        return self._place("model", f"{model.name}\0{model.version}\0{model.path}")

    def _place(self, kind: str, content: str) -> Path:
        digest = hashlib.sha256(f"{kind}\0{content}".encode()).hexdigest()
        return self._folder / digest[:_ID_CHARS]

    async def _materialise(self, key: str, place: Path, say: Say, *, what: str) -> None:
        try:
            files = await self._store.materialise(key, place, say=say)
        except HeadgateError as error:
            if error.error.code is ErrorCode.RESOURCE_NOT_FOUND:
                raise HeadgateError(
                    ErrorCode.BAD_ARGUMENT, f"{what} has no files: {error}", target=what.split()[0]
                ) from None
            raise
        say(f"{files} files copied" if files else "is here already")
