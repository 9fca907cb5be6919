"""Lines on this machine's disk, in the folders that they will have in the store.

``<collection>/<yyyy>/<MM>/<dd>/<HH>/<instance>.jsonl``: somebody else carries the files away and
removes them. A file that is still written to is locked, and the system releases the lock of a
process that dies. When nobody carries anything away, the oldest files go.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

FILE_BYTES_MAX = 8 * 1024 * 1024  # a mirror of headgate_contracts.limits
SUFFIX = ".jsonl"
DRAFT = ".draft"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
_NUMBERS_MAX = 1_000_000
_FOLDERS_REMEMBERED = 64  # the clock may be set back a little


class _Open(NamedTuple):
    folder: str
    path: str
    descriptor: int


class Spool:
    """The files of one process. Used by one thread."""

    def __init__(self, root: str, name: str, *, bytes_max: int) -> None:
        """``name`` is that of every file of lines; no other process uses it."""
        self._root = root
        self._name = name
        self._bytes_max = bytes_max
        self._open: dict[str, _Open] = {}
        self._numbers: dict[str, int] = {}
        self._unchecked_bytes = bytes_max  # what an earlier process has left counts as well

    def write(self, collection: str, folder: str, lines: list[bytes]) -> None:
        """Appends lines, in pieces that a file holds. Raises OSError."""
        part: list[bytes] = []
        size = 0
        for each in lines:
            if part and size + len(each) > FILE_BYTES_MAX:
                self._append(collection, folder, b"".join(part))
                part, size = [], 0
            part.append(each)
            size += len(each)
        if part:
            self._append(collection, folder, b"".join(part))

    def write_object(self, collection: str, folder: str, name: str, body: bytes) -> None:
        """Writes a file of its own, whole or not at all. Raises OSError."""
        place = os.path.join(self._root, collection, folder)
        os.makedirs(place, mode=0o700, exist_ok=True)
        draft = os.path.join(place, f".{name}{DRAFT}")
        try:
            with open(draft, "wb") as file:
                file.write(body)
            os.replace(draft, os.path.join(place, name))
        except OSError:
            with suppress(OSError):
                os.unlink(draft)
            raise
        self._unchecked_bytes += len(body)

    def keep_bounded(self) -> int:
        """Removes the oldest files when all together are too large; how many events that cost."""
        if self._unchecked_bytes < FILE_BYTES_MAX:
            return 0
        self._unchecked_bytes = 0
        mine = {each.path for each in self._open.values()}
        found = sorted(_files(self._root))
        size = sum(each[1] for each in found)
        lost = 0
        for _, bytes_, path in found:
            if size <= self._bytes_max:
                break
            if path not in mine:
                with suppress(OSError):
                    events = _events(path)
                    os.unlink(path)
                    lost += events
                    size -= bytes_
        return lost

    def close(self) -> None:
        for collection in list(self._open):
            self._end(collection)

    def _append(self, collection: str, folder: str, data: bytes) -> None:
        now = self._open.get(collection)
        if now is not None:
            size = _size(now)
            if now.folder != folder or size < 0 or size + len(data) > FILE_BYTES_MAX:
                self._end(collection)
                now = None
        if now is None:
            now = self._open[collection] = self._begin(collection, folder)
        before = os.fstat(now.descriptor).st_size
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(now.descriptor, view) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(now.descriptor, before)  # no half lines in the middle
            raise
        self._unchecked_bytes += len(data)

    def _begin(self, collection: str, folder: str) -> _Open:
        """A new file: the first of its folder has the plain name, the next ones a number.

        No name is used twice: the file before may be gone already, to where this one will go.
        """
        place = os.path.join(self._root, collection, folder)
        os.makedirs(place, mode=0o700, exist_ok=True)
        for number in range(self._numbers.pop(place, 0), _NUMBERS_MAX):
            name = f"{self._name}-part{number}" if number else self._name
            path = os.path.join(place, name + SUFFIX)
            try:
                descriptor = os.open(path, _NEW, 0o600)
            except FileExistsError:
                continue
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not os.fstat(descriptor).st_nlink:  # taken for one that nobody writes to
                os.close(descriptor)
                continue
            self._numbers[place] = number + 1
            while len(self._numbers) > _FOLDERS_REMEMBERED:
                del self._numbers[next(iter(self._numbers))]
            return _Open(folder, path, descriptor)
        raise OSError(f"{place} holds too many files")

    def _end(self, collection: str) -> None:
        ended = self._open.pop(collection)
        with suppress(OSError):
            os.close(ended.descriptor)


def _size(now: _Open) -> int:
    """The size of an open file; negative when somebody has removed it."""
    found = os.fstat(now.descriptor)
    return found.st_size if found.st_nlink else -1


def _files(root: str) -> Iterator[tuple[float, int, str]]:
    """Time of change, size and path of everything that waits."""
    for place, _, names in os.walk(root):
        for name in names:
            path = os.path.join(place, name)
            with suppress(OSError):
                found = os.lstat(path)
                yield found.st_mtime, found.st_size, path


def _events(path: str) -> int:
    if not path.endswith(SUFFIX):
        return 0  # its line counts
    count = 0
    with open(path, "rb") as file:
        while chunk := file.read(1024 * 1024):
            count += chunk.count(b"\n")
    return count
