"""A page of the usage journal: counts in a file that is mapped into memory.

What is written to the mapping is in the kernel's hands at once, so it outlives this process however
it dies, and costs no call of the system. A row is its text and two copies of its counts, which are
written in turn; the copy with more requests is the valid one, and that number is written last. So a
process that dies in the middle of a write leaves the row as it was before.

Layout, in the machine's own byte order (no other machine reads it)::

    page  magic, epoch, rows
    row   bytes of its text (written last: 0 ends the page), copy, copy, text, padding to 8 bytes
    copy  request bytes, response bytes, compute microseconds, requests
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from headgate_contracts import limits
from headgate_contracts.usage import UsageRow

_MAGIC = b"HGUSAGE1"
_HEAD = struct.Struct("@8sQ")
_TEXT_SIZE = struct.Struct("@Q")
_COUNTS = struct.Struct("@4Q")
_COPIES_AT = _TEXT_SIZE.size
_TEXT_AT = _COPIES_AT + 2 * _COUNTS.size

Texts = tuple[str, str, str, str, str, int]
"""What the requests of a row have in common: workspace, endpoint, deployment, caller, kind, status.
"""


class Row:
    """The counts of one row. ``note`` is all that a request costs."""

    __slots__ = (
        "_at", "_memory", "compute_us", "number", "request_bytes", "requests", "response_bytes",
    )  # fmt: skip

    def __init__(self, memory: mmap.mmap, at: int, number: int) -> None:
        self.number = number  # in its page, from 0
        self._memory = memory
        self._at = at
        self.requests = self.request_bytes = self.response_bytes = self.compute_us = 0

    def note(self, request_bytes: int, response_bytes: int, compute_us: int) -> None:
        """One request more. It is safe from this process's death when this returns."""
        self.requests = requests = self.requests + 1
        self.request_bytes += request_bytes
        self.response_bytes += response_bytes
        self.compute_us += compute_us
        _COUNTS.pack_into(
            self._memory,
            self._at + (_COUNTS.size if requests & 1 else 0),
            self.request_bytes,
            self.response_bytes,
            self.compute_us,
            requests,
        )


class Page:
    """A page that is being written. Without a path it is in memory alone."""

    def __init__(self, epoch: int, path: Path | None) -> None:
        """Raises OSError when the file cannot be made, or the disk has no room for all of it."""
        self.epoch = epoch
        self.path = path
        self._memory = _mapped(path)
        self._end = _HEAD.size
        self._count = 0
        _HEAD.pack_into(self._memory, 0, _MAGIC, epoch)

    @property
    def is_empty(self) -> bool:
        return self._end == _HEAD.size

    def add(self, minute: int, texts: Texts) -> Row | None:
        """A new row; None when the page has no room for it."""
        text = json.dumps((minute, *texts), ensure_ascii=False).encode()
        begin = self._end + _TEXT_AT
        end = begin + len(text) + -len(text) % 8
        if end > limits.USAGE_PAGE_BYTES:
            return None
        self._memory[begin : begin + len(text)] = text
        _TEXT_SIZE.pack_into(self._memory, self._end, len(text))
        row = Row(self._memory, self._end + _COPIES_AT, self._count)
        self._end = end
        self._count += 1
        return row

    def rows(self) -> list[UsageRow]:
        """What has been counted."""
        return list(_rows(self._memory))

    def remove(self) -> None:
        """Its rows are safe elsewhere."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Left:
    """What a page holds that was left behind."""

    epoch: int
    rows: list[UsageRow]


def read(path: Path) -> Left:
    """A page that somebody left. ValueError when it is none."""
    memory = path.read_bytes()
    if len(memory) < _HEAD.size:
        raise ValueError("it is too short")
    magic, epoch = _HEAD.unpack_from(memory)
    if magic != _MAGIC:
        raise ValueError("it begins with other bytes")
    return Left(int(epoch), list(_rows(memory)))


def _rows(memory: mmap.mmap | bytes) -> Iterator[UsageRow]:
    """Rows by position; one without requests keeps its place, since rows are known by number."""
    at, end = _HEAD.size, len(memory)
    while at + _TEXT_AT <= end:
        (size,) = _TEXT_SIZE.unpack_from(memory, at)
        begin = at + _TEXT_AT
        if not 0 < size <= end - begin:
            return
        copies = (_COUNTS.unpack_from(memory, at + _COPIES_AT + n * _COUNTS.size) for n in (0, 1))
        counts = max(copies, key=lambda copy: int(copy[-1]))
        yield _row(memory[begin : begin + size], counts)
        at = begin + size + -size % 8


def _row(text: bytes, counts: tuple[int, ...]) -> UsageRow:
    try:
        minute, workspace, endpoint, deployment, caller, kind, status = json.loads(text)
        return UsageRow(
            minute=minute,
            workspace=workspace,
            endpoint=endpoint,
            deployment=deployment,
            caller=caller,
            kind=kind,
            status=status,
            request_bytes=counts[0],
            response_bytes=counts[1],
            compute_us=counts[2],
            requests=counts[3],
        )
    except (ValidationError, TypeError) as error:
        raise ValueError(f"a row cannot be read: {error}") from error


def _mapped(path: Path | None) -> mmap.mmap:
    if path is None:
        return mmap.mmap(-1, limits.USAGE_PAGE_BYTES)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        # Real blocks: writing to a hole of a full disk would kill the process (SIGBUS).
        os.posix_fallocate(descriptor, 0, limits.USAGE_PAGE_BYTES)
        return mmap.mmap(descriptor, limits.USAGE_PAGE_BYTES)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
