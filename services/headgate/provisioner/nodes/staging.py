"""Inputs of mini-batches on their way to disk, and results on their way to the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from headgate.runtime.copies import remove_tree
from headgate.runtime.places import Places, joined
from headgate.runtime.store import CHUNK_BYTES, Store, checked_key
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.mini_batches import FilePart, OutputFile
from headgate_contracts.nodes import Place

_AT_ONCE = 8


class Stage:
    """The folder of staged inputs of one node: ``inputs/<key>/<path of the file>``."""

    def __init__(self, folder: Path, places: Places, place: Place) -> None:
        self._folder = folder / "inputs"
        self._places = places
        self._place = place

    async def stage(self, key: str, files: Sequence[FilePart]) -> list[str]:
        """Copies of the files; their paths below the node's folder.

        Raises HeadgateError that names what cannot be read.
        """
        target = self._folder / key
        copied = await asyncio.to_thread(self._copied, target, files)
        if not copied:
            gate = asyncio.Semaphore(_AT_ONCE)
            async with asyncio.TaskGroup() as group:
                for part in files:
                    group.create_task(self._fetch(gate, part, target / checked_key(part.path)))
        return [f"inputs/{key}/{part.path}" for part in files]

    async def forget(self, key: str) -> None:
        await asyncio.to_thread(remove_tree, self._folder / key)

    def _copied(self, target: Path, files: Sequence[FilePart]) -> bool:
        """From a store that is a folder of this machine, all at once on one thread."""
        root = self._places.store_of(self._place).folder
        if root is None:
            return False
        for part in files:
            source = root / joined(self._place.path, checked_key(part.path))
            to = target / part.path
            to.parent.mkdir(parents=True, exist_ok=True)
            try:
                _copy(source, to, part)
            except OSError as error:
                raise HeadgateError(
                    ErrorCode.RESOURCE_NOT_FOUND, f"{part.path}: {error.strerror}"
                ) from None
        return True

    async def _fetch(self, gate: asyncio.Semaphore, part: FilePart, to: Path) -> None:
        async with gate:
            to.parent.mkdir(parents=True, exist_ok=True)
            with await asyncio.to_thread(to.open, "wb") as file:
                if part.head:
                    await self._append(file, part.path, 0, part.head)
                end = None if part.end is None else part.end
                if part.size_bytes:
                    await self._append(file, part.path, part.start, end)

    async def _append(self, file: Any, path: str, start: int, end: int | None) -> None:
        async for chunk in self._places.read(self._place, path, start=start, end=end):
            if len(chunk) < CHUNK_BYTES // 16:
                file.write(chunk)
            else:
                await asyncio.to_thread(file.write, chunk)


def _copy(source: Path, to: Path, part: FilePart) -> None:
    with source.open("rb") as reading, to.open("wb") as writing:
        if part.head:
            writing.write(reading.read(part.head))
        reading.seek(part.start)
        left = None if part.end is None else part.end - part.start
        while left is None or left > 0:
            chunk = reading.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left))
            if not chunk:
                return
            writing.write(chunk)
            left = None if left is None else left - len(chunk)


def own_file(folder: Path, name: str) -> Path:
    """A file below a folder that somebody else may write to, who could put a link there.

    Raises HeadgateError(BadArgument) when it is not there, or is not a file of that folder.
    """
    path = folder / checked_key(name)
    if path.resolve() != folder.resolve() / name or not path.is_file():
        raise HeadgateError(ErrorCode.BAD_ARGUMENT, f"{name!r} is not a file of this folder")
    return path


async def keep_rows(store: Store, key: str, folder: Path, name: str) -> None:
    """Long results go from a file into the store."""
    path = await asyncio.to_thread(own_file, folder, name)
    await store.put(key, chunks_of(path))
    await asyncio.to_thread(path.unlink)


async def keep_files(
    store: Store, prefix: str, folder: Path, names: Sequence[str]
) -> tuple[OutputFile, ...]:
    """Files that the script wrote itself go into the store."""
    kept = []
    for name in names:
        path = await asyncio.to_thread(own_file, folder, name)
        key = f"{prefix}/{name}"
        size_bytes = (await asyncio.to_thread(path.stat)).st_size
        await store.put(key, chunks_of(path))
        kept.append(OutputFile(name=name, key=key, size_bytes=size_bytes))
    await asyncio.to_thread(remove_tree, folder)
    return tuple(kept)


async def chunks_of(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
