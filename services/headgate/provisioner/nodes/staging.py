"""Inputs of mini-batches on their way to disk, and results on their way to the store."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from headgate.runtime.copies import remove_tree
from headgate.runtime.places import Places, joined
from headgate.runtime.store import CHUNK_BYTES, Store, checked_key
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.mini_batches import FilePart, OutputFile
from headgate_contracts.nodes import Place

_AT_ONCE = 8


class Stage:
    """The staged inputs of one node: ``<name>/<folder>/<path of the file>``, mini-batch by key.

    Folders are used again: to make one may take the file system longer than to fill it.
    """

    def __init__(self, folder: Path, name: str, places: Places, place: Place) -> None:
        """``name`` has not been used in ``folder`` before."""
        self._root = folder / name
        self._places = places
        self._place = place
        self._folders: dict[str, str] = {}  # by key
        self._names = map(str, itertools.count())
        self._empty: list[str] = []
        self._leaving: dict[str, bool] = {}  # folders, and whether they are used again
        self._removing: asyncio.Task[None] | None = None

    async def stage(self, wanted: Mapping[str, Sequence[FilePart]]) -> dict[str, str]:
        """Copies of the files of some mini-batches, by their keys; what is wrong with which.

        Raises HeadgateError for a place that cannot be opened at all.
        """
        for key in wanted:
            self._folders[key] = self._empty.pop() if self._empty else next(self._names)
        root = await self._places.folder_of(self._place)
        if root is not None:  # files of this machine: all at once on one thread
            return await asyncio.to_thread(self._copy_all, root, wanted)
        wrong = await asyncio.gather(*(self._fetched(*each) for each in wanted.items()))
        return {key: error for key, error in zip(wanted, wrong, strict=True) if error}

    def seen(self, key: str, part: FilePart) -> str:
        """The path of a copy below the node's folder."""
        return f"{self._root.name}/{self._folders[key]}/{part.path}"

    def forget(self, key: str, *, is_over: bool = True) -> None:
        """Remove the copies soon, together with what else has had its turn by then.

        Unless ``is_over``, a process that is about to be killed may still write there.
        """
        if (folder := self._folders.pop(key, None)) is None:
            return
        self._leaving[folder] = is_over
        if self._removing is None or self._removing.done():
            self._removing = asyncio.create_task(self._remove())

    async def close(self) -> None:
        """Forget everything."""
        if self._removing is not None:
            await self._removing
        await asyncio.to_thread(remove_tree, self._root)

    async def _remove(self) -> None:
        while self._leaving:
            leaving, self._leaving = self._leaving, {}
            await asyncio.to_thread(_remove_all, self._root, leaving)
            self._empty += (folder for folder, is_over in leaving.items() if is_over)

    def _copy_all(self, root: Path, wanted: Mapping[str, Sequence[FilePart]]) -> dict[str, str]:
        wrong = {key: self._copied(root, key, files) for key, files in wanted.items()}
        return {key: error for key, error in wrong.items() if error}

    def _copied(self, root: Path, key: str, files: Sequence[FilePart]) -> str:
        for part in files:
            try:
                source = root / joined(self._place.path, checked_key(part.path))
                _copy(source, self._root / self._folders[key] / part.path, part)
            except OSError as error:
                return f"{part.path}: {error.strerror}"
            except HeadgateError as error:
                return str(error)
        return ""

    async def _fetched(self, key: str, files: Sequence[FilePart]) -> str:
        """The files of one mini-batch, some at once; what is wrong."""
        gate, error = asyncio.Semaphore(_AT_ONCE), ""
        try:
            async with asyncio.TaskGroup() as group:
                for part in files:
                    to = self._root / self._folders[key] / checked_key(part.path)
                    group.create_task(self._fetch(gate, part, to))
        except* (HeadgateError, OSError, ValueError) as errors:
            error = str(_first(errors))
        return error

    async def _fetch(self, gate: asyncio.Semaphore, part: FilePart, to: Path) -> None:
        async with gate:
            with await asyncio.to_thread(_made, to) as file:
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
    with source.open("rb") as reading, _made(to) as writing:
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


def _made(path: Path) -> BinaryIO:
    """A new file, in a folder that may have to be made."""
    try:
        return path.open("wb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")


def _remove_all(root: Path, folders: Mapping[str, bool]) -> None:
    for name, is_used_again in folders.items():
        try:
            if is_used_again:
                _empty(root / name)
                continue
        except OSError:  # the script has changed the rights of something, or nothing was staged
            pass
        remove_tree(root / name)


def _empty(folder: Path) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry)
            else:
                Path(entry).unlink()


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


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
