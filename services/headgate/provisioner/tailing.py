"""Reads on in a log file that grows and is cut: so many lines, and a count of the others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headgate.provisioner import logs

CHUNK_BYTES = 256 * 1024
UNFINISHED_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole lines; ``lost`` more were only counted. All end at ``position``."""

    lines: tuple[str, ...]
    lost: int
    position: int


def has_news(path: Path, position: int) -> bool:
    """Whether the file goes beyond the position."""
    try:
        return logs.base(path) + path.stat().st_size != position
    except FileNotFoundError:
        return False


def read_on(path: Path, position: int, *, is_live: bool, lines_max: int) -> Piece:
    """What came since ``position``. Memory stays bounded, however much that is.

    The last line of a live file is whole when it has its end, or is too long to wait for it.
    """
    lines: list[str] = []
    lost, rest, at = 0, b"", position  # ``at`` is where ``rest`` begins
    for begin, chunk in _chunks(path, position):
        if begin != at + len(rest):  # what lay between was cut away
            at, rest = begin, b""
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > UNFINISHED_BYTES_MAX:
            whole.append(rest[:-1])  # as if its last byte were its end
            rest = b""
        told = whole[: lines_max - len(lines)]
        lines += map(_text, told)
        lost += len(whole) - len(told)
        at += sum(map(len, whole)) + len(whole)
    if rest and not is_live:
        at += len(rest)
        if len(lines) < lines_max:
            lines.append(_text(rest))
        else:
            lost += 1
    return Piece(tuple(lines), lost, at)


def _chunks(path: Path, position: int) -> Iterator[tuple[int, bytes]]:
    """The bytes from a position on, each with where it lies: of the older part, then the newer."""
    base = logs.base(path)
    if position < base:
        with contextlib.suppress(FileNotFoundError):
            older = logs.older(path)
            start = base - older.stat().st_size
            yield from _read(older, start, max(position, start))
    with contextlib.suppress(FileNotFoundError):
        # A position beyond the end is of a file that was made anew.
        is_known = position <= base + path.stat().st_size
        yield from _read(path, base, max(position, base) if is_known else base)


def _read(path: Path, base: int, position: int) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        file.seek(position - base)
        while chunk := file.read(CHUNK_BYTES):
            yield position, chunk
            position += len(chunk)


def _text(raw: bytes) -> str:
    return raw[: logs.LINE_BYTES_MAX].decode(errors="replace").rstrip("\r")
