"""Copies of what lies in the object store: on disk, whole, read-only, named by what they hold."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from headgate.runtime.store import Blob, Store, checked_key
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError

_READ_ONLY_FILE = 0o444
_READ_ONLY_DIR = 0o555


@dataclass(frozen=True, slots=True)
class Contents:
    """An object, or the objects of a folder, as they are now. ``blobs`` in order of their keys."""

    prefix: str
    blobs: tuple[Blob, ...]

    @property
    def digest(self) -> str:
        """Another one as soon as any of the objects is written anew."""
        total = hashlib.sha256()
        for blob in self.blobs:
            total.update(f"{blob.key}\0{blob.size_bytes}\0{blob.etag}\0".encode())
        return total.hexdigest()


async def contents_of(
    store: Store, prefix: str, *, files_max: int = limits.UPLOAD_FILES_MAX
) -> Contents:
    """What lies at a key or below it. Raises HeadgateError(ResourceNotFound) when nothing does."""
    single = await store.head(prefix)
    blobs = [single] if single else await store.list(prefix, limit=files_max)
    if not blobs:
        raise HeadgateError(
            ErrorCode.RESOURCE_NOT_FOUND,
            f"the object store has nothing under {prefix!r}; upload it again",
            target="key",
        )
    return Contents(prefix, tuple(blobs))


async def materialise(
    store: Store,
    contents: Contents,
    folder: Path,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> int:
    """Copy contents to disk at ``folder``, read-only; how many files.

    ``folder`` becomes the file itself when they are a single object. It appears in one step: what
    is there is whole. When it is there already nothing is done (and 0 returned), so the caller
    chooses a place that says what the content is.
    """
    if await asyncio.to_thread(folder.exists):
        return 0
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name[:32]}.", dir=folder.parent))
    try:
        content = draft / "content"
        for blob in contents.blobs:
            relative = blob.key.removeprefix(contents.prefix).strip("/")
            target = content / checked_key(relative) if relative else content
            say(f"{blob.key} ({blob.size_bytes} bytes)")
            await _download(store, blob, target)
        await asyncio.to_thread(_make_read_only, content)
        await asyncio.to_thread(_put_in_place, content, folder)
    finally:
        await asyncio.to_thread(remove_tree, draft)
    return len(contents.blobs)


async def _download(store: Store, blob: Blob, target: Path) -> None:
    opened = await store.open(blob.key)
    if opened is None or (opened.blob.etag, opened.blob.size_bytes) != (blob.etag, blob.size_bytes):
        raise HeadgateError(
            ErrorCode.UNAVAILABLE, f"{blob.key!r} changed while it was copied", retry_after_s=1
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with await asyncio.to_thread(_create, target) as file:
        async for chunk in opened.chunks:
            await asyncio.to_thread(file.write, chunk)


def _create(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "wb")


def _put_in_place(draft: Path, place: Path) -> None:
    try:
        draft.rename(place)
    except OSError:
        if not place.exists():  # otherwise another copy of the same content came first
            raise
        return
    if place.is_dir():  # only now: a folder that cannot be written cannot be moved either
        place.chmod(_READ_ONLY_DIR)


def _make_read_only(path: Path) -> None:
    """Files and folders below may be read by anyone of this user and changed by nobody."""
    if path.is_file():
        path.chmod(_READ_ONLY_FILE)
        return
    for root, _, files in os.walk(path, topdown=False):
        for name in files:
            (Path(root) / name).chmod(_READ_ONLY_FILE)
        if Path(root) != path:
            Path(root).chmod(_READ_ONLY_DIR)


def remove_tree(path: Path) -> None:
    """Remove a file or folder whatever its rights; nothing happens when it is not there."""
    if path.is_dir() and not path.is_symlink():
        for root, folders, _ in os.walk(path):
            for folder in (Path(root) / name for name in folders):
                if not folder.is_symlink():  # the rights of what it leads to are not ours
                    with contextlib.suppress(OSError):
                        folder.chmod(0o700)
        with contextlib.suppress(OSError):
            path.chmod(0o700)
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
