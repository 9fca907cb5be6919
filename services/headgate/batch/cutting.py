"""Cuts a listing into mini-batches, one file at a time: pure, and in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from headgate_contracts import limits
from headgate_contracts.jobs import JobSettings
from headgate_contracts.mini_batches import FilePart

# The names of the files of one mini-batch travel in one message.
NAMES_CHARS_MAX = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class MiniBatch:
    """Files that one call of run() gets. ``items`` is what its success is measured by."""

    files: tuple[FilePart, ...]
    items: int

    @property
    def size_bytes(self) -> int:
        return sum(part_bytes(part) for part in self.files)


def part_bytes(part: FilePart) -> int:
    """How much of a file is read."""
    end = part.size_bytes if part.end is None else part.end
    return part.head + end - part.start


@dataclass(slots=True)
class Cutter:
    """Collects files until they are a mini-batch: by number, or by bytes where that is asked for.

    By bytes, a mini-batch is full before it would grow over the limit; a file that is larger by
    itself is one of its own.
    """

    settings: JobSettings
    _files: list[FilePart] = field(default_factory=list)
    _bytes: int = 0
    _chars: int = 0

    def add(self, part: FilePart) -> Iterator[MiniBatch]:
        """The mini-batch that is full now, if there is one."""
        size_bytes, most = part_bytes(part), self.settings.mini_batch_bytes
        if most is not None and self._files and self._bytes + size_bytes > most:
            yield from self.rest()
        self._files.append(part)
        self._bytes += size_bytes
        self._chars += len(part.path)
        most_files = self.settings.mini_batch_size if most is None else limits.BATCH_FILES_MAX
        if (
            len(self._files) >= min(most_files, limits.BATCH_FILES_MAX)
            or self._chars >= NAMES_CHARS_MAX
            or (most is not None and self._bytes >= most)
        ):
            yield from self.rest()

    def rest(self) -> Iterator[MiniBatch]:
        """What is left when the listing has ended."""
        if self._files:
            yield MiniBatch(tuple(self._files), len(self._files))
        self._files, self._bytes, self._chars = [], 0, 0
