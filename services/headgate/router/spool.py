"""Bodies larger than a message of the bus: in nameless files, which end with their process."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Union

RequestBody = Union[bytes, "Spool"]


class SpoolError(Exception):
    """There is no room for a body: on the disk, or under the bound."""


class Spool:
    """One body. Grows by ``+=`` and is read in pieces, by as many readers as there are."""

    __slots__ = ("_bytes", "_file", "_spools")

    def __init__(self, spools: Spools) -> None:
        self._spools = spools
        self._bytes = 0
        self._file = -1
        self._file = spools.file()

    def __len__(self) -> int:
        return self._bytes

    def __iadd__(self, data: bytes) -> Spool:
        """Raises SpoolError."""
        self._spools.note(len(data))
        self._bytes += len(data)
        view = memoryview(data)
        try:
            while view:
                written = os.write(self._file, view)
                view = view[written:]
        except OSError as error:
            raise SpoolError(str(error)) from None
        return self

    def read(self, start: int, count: int) -> bytes:
        return os.pread(self._file, count, start)

    def __del__(self) -> None:
        self._spools.note(-self._bytes)
        if self._file >= 0:
            os.close(self._file)


class Spools:
    """All bodies of one router on disk, bounded together."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder = folder
        self.bytes_max = bytes_max
        self.bytes = 0

    def has_room(self, count: int) -> bool:
        return self.bytes + count <= self.bytes_max

    def spool(self, body: bytes) -> Spool:
        """A body that begins so. Raises SpoolError."""
        spool = Spool(self)
        spool += body
        return spool

    def note(self, count: int) -> None:
        if count > 0 and not self.has_room(count):
            raise SpoolError(f"the bodies in hand have {self.bytes} bytes")
        self.bytes += count

    def file(self) -> int:
        """A descriptor. The folder is made when it is first needed."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._folder, buffering=0) as file:
                return os.dup(file.fileno())
        except OSError as error:
            raise SpoolError(str(error)) from None
