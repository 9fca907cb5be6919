"""Cuts files into mini-batches of rows: pure, in constant memory, whatever a row holds.

Tables (``.csv``, ``.tsv``) have a header, which each slice gets; a line break within quotes ends no
row. The other kinds (``.jsonl``, ``.ndjson``) have a row per line. Blank lines are no rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from headgate.batch.cutting import NAMES_CHARS_MAX, MiniBatch
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.mini_batches import FilePart

TABLES = (".csv", ".tsv")
LINES = (".jsonl", ".ndjson")
# What may stand before a quote that begins a field; elsewhere a quote is a sign like any other.
_BEFORE_QUOTE = frozenset(b",;|\t\n\r")
_SEPARATOR = "\n"  # in no path
_BREAK, _QUOTE, _BLANK = b"\n", b'"', b"\r\n \t"


@dataclass(slots=True)
class RowEnds:
    """Finds where rows end, fed with a file in chunks. ``at`` is where the next chunk begins."""

    has_quotes: bool
    at: int = 0
    _in_quotes: bool = False
    _has_closed: bool = False  # the sign before was a quote that closed a field
    _before: int = 0x0A
    _is_blank: bool = True

    def feed(self, chunk: bytes) -> Iterator[int]:
        """Places right behind the rows that end in the chunk."""
        place = 0
        for number, text in enumerate(chunk.split(_QUOTE) if self.has_quotes else (chunk,)):
            if number:
                self._meet_quote()
                place += 1
            if not text:
                continue
            if self._in_quotes:
                self._is_blank = False
            else:
                yield from self._unquoted(text, self.at + place)
            self._before, self._has_closed = text[-1], False
            place += len(text)
        self.at += len(chunk)

    def rest(self) -> Iterator[int]:
        """The end of the file, if a row without a line break stands before it."""
        if not self._is_blank:
            yield self.at

    def _meet_quote(self) -> None:
        if self._in_quotes:
            self._in_quotes, self._has_closed = False, True
        elif self._has_closed or self._before in _BEFORE_QUOTE:  # twice: a quote within quotes
            self._in_quotes, self._has_closed = True, False
        self._before, self._is_blank = _QUOTE[0], False

    def _unquoted(self, text: bytes, start: int) -> Iterator[int]:
        begin = 0
        while (end := text.find(_BREAK, begin)) >= 0:
            if not self._is_blank or text[begin:end].strip(_BLANK):
                yield start + end + 1
            begin, self._is_blank = end + 1, True
        if text[begin:].strip(_BLANK):
            self._is_blank = False


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file is cut: ``start`` is where the next slice begins, after its ``head``."""

    start: int = 0
    head: int = 0


def key_of(part: FilePart) -> str:
    """How far a listing is once this is in a mini-batch; of a whole file that is its path."""
    if part.end is None or part.end >= part.size_bytes:
        return part.path
    return _SEPARATOR.join((part.path, *map(str, (part.size_bytes, part.end, part.head))))


def parsed(key: str) -> tuple[FilePart | None, Position | None]:
    """The file that was listed last, and where to go on in it unless it is done."""
    if not key:
        return None, None
    path, *numbers = key.split(_SEPARATOR)
    size_bytes, start, head = map(int, numbers or (0, 0, 0))
    return FilePart(path=path, size_bytes=size_bytes), Position(start, head) if numbers else None


@dataclass(slots=True)
class RowCutter:
    """Collects slices of files until they have ``rows`` rows, over several files if need be."""

    rows: int
    _parts: list[FilePart] = field(default_factory=list)
    _count: int = 0
    _chars: int = 0
    _file: FilePart | None = None
    _ends: RowEnds = field(default_factory=lambda: RowEnds(has_quotes=False))
    _head: int = 0
    _wants_head: bool = False
    _start: int = 0
    _end: int = 0
    _in_slice: int = 0

    def begin(self, part: FilePart, position: Position = Position()) -> None:
        """A file comes next, from where its last slice ended.

        Raises HeadgateError(BadArgument) for one whose rows nobody knows.
        """
        is_table = part.path.lower().endswith(TABLES)
        if not is_table and not part.path.lower().endswith(LINES):
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"{part.path[:200]!r} cannot be cut by rows: only {', '.join(TABLES + LINES)} can; "
                "leave mini_batch_rows out for other files",
                target="mini_batch_rows",
            )
        self._file = part
        self._ends = RowEnds(has_quotes=is_table, at=position.start)
        self._head, self._wants_head = position.head, is_table and position.start == 0
        self._start = self._end = position.start
        self._in_slice = 0

    def add(self, chunk: bytes) -> Iterator[MiniBatch]:
        """The mini-batches that are full now."""
        for end in self._ends.feed(chunk):
            yield from self._note(end)

    def end(self) -> Iterator[MiniBatch]:
        """The file has ended; what is left of it may be joined by the next one's rows."""
        for end in self._ends.rest():
            yield from self._note(end)
        self._close()
        self._file = None
        if len(self._parts) >= limits.BATCH_FILES_MAX or self._chars >= NAMES_CHARS_MAX:
            yield from self.rest()

    def rest(self) -> Iterator[MiniBatch]:
        """What is left when there are no more files."""
        if self._parts:
            yield MiniBatch(tuple(self._parts), self._count)
        self._parts, self._count, self._chars = [], 0, 0

    def _note(self, end: int) -> Iterator[MiniBatch]:
        if self._wants_head:
            self._wants_head, self._head, self._start = False, end, end
            return
        self._end = end
        self._in_slice += 1
        self._count += 1
        if self._count >= self.rows:
            self._close()
            yield from self.rest()

    def _close(self) -> None:
        """A slice is complete."""
        if self._in_slice and self._file is not None:
            about = {"start": self._start, "end": self._end, "head": self._head}
            self._parts.append(self._file.model_copy(update=about))
            self._chars += len(self._file.path)
        self._start, self._in_slice = self._end, 0
