"""Logs of instances as files: bounded, merged in time order, read on from a cursor.

A process writes its own log file; we only cut it. When it has grown too long its content moves to
a second file and the first begins anew, while positions go on counting from the first byte ever,
so that a cursor stays true across the cut.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from headgate.runtime.files import write_atomic
from headgate_contracts.errors import ErrorCode, HeadgateError

LOG = "worker.log"
LOG_BYTES_MAX = 10 * 1024 * 1024
READ_BYTES_MAX = 2 * 1024 * 1024
ANSWER_CHARS_MAX = 2 * 1024 * 1024
LINE_BYTES_MAX = 16 * 1024
# Lines of one request and level that come so soon after each other, such as those of a traceback,
# are not parted by lines of other instances.
BLOCK_S = 0.05
CATCH_UP_ROUNDS = 4

_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?(?:Z|[+-]\d\d:\d\d)?", re.ASCII
)
_HEAD = re.compile(_TIME.pattern + r"( [A-Z]{3,10} \S{1,100})(?: |\Z)", re.ASCII)
_CURSOR = re.compile(r"(?:[\w-]{1,64}:\d{1,18}(?:,|\Z))*")


@dataclass(frozen=True, slots=True)
class Source:
    """One log file. ``live``: more may come, so a last line without an end is not whole yet."""

    name: str
    path: Path
    began: float
    live: bool = False


@dataclass(frozen=True, slots=True)
class _Line:
    at: float
    source: int
    end: int
    text: str


def is_too_long(path: Path, *, bytes_max: int = LOG_BYTES_MAX) -> bool:
    try:
        return path.stat().st_size > bytes_max
    except FileNotFoundError:
        return False


def cut(path: Path, *, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Begin the file anew when it is too long; the last ``bytes_max`` that it held are kept once.

    The writer appends, so it goes on at the new beginning. What it writes between copy and cut is
    lost: a price for not being in its way.
    """
    if not is_too_long(path, bytes_max=bytes_max):
        return
    draft, before = older(path).with_suffix(".draft"), base(path)
    with path.open("rb") as source, draft.open("wb") as kept:
        size = source.seek(0, os.SEEK_END)
        source.seek(max(0, size - bytes_max))
        for _ in range(CATCH_UP_ROUNDS):  # not for ever: a writer may be faster than we are
            if not kept.write(source.read(bytes_max)):
                break
        copied_bytes = source.tell()
    draft.replace(older(path))
    write_atomic(_base_file(path), str(before + copied_bytes))
    os.truncate(path, 0)


def tail(folder: Path, lines: int) -> str:
    """The last lines of an instance."""
    source = Source("", folder / LOG, 0.0)
    content, _ = read([source], lines, "", prefixed=False)
    return content.rstrip("\n")


def read(
    sources: Sequence[Source],
    tail: int,
    cursor: str,
    *,
    prefixed: bool,
    wanted: Callable[[str], bool] | None = None,
) -> tuple[str, str]:
    """Lines in time order, and the cursor behind them. ``wanted`` picks some of them.

    Without a cursor the last ``tail`` lines; with one, the first ``tail`` that came since.
    """
    positions = _parse_cursor(cursor)
    lines: list[_Line] = []
    ends: dict[str, int] = {}
    for number, source in enumerate(sources):
        begin = positions.get(source.name, 0)
        found = _lines(source, number, begin)
        lines += [line for line in found if wanted is None or wanted(line.text)]
        ends[source.name] = found[-1].end if found else begin
    lines.sort(key=lambda line: line.at)  # stable: lines of one source stay in order
    if cursor:
        chosen = _first(lines, tail)
        if len(chosen) < len(lines):
            ends = {source.name: positions.get(source.name, 0) for source in sources}
            ends |= {sources[line.source].name: line.end for line in chosen}
    else:
        chosen = _last(lines, tail)
    texts = (
        f"[{sources[line.source].name}] {line.text}" if prefixed else line.text for line in chosen
    )
    content = "".join(f"{text}\n" for text in texts)
    return content, ",".join(f"{name}:{end}" for name, end in ends.items())


def _first(lines: list[_Line], limit: int) -> list[_Line]:
    size = 0
    for count, line in enumerate(lines[:limit]):
        size += len(line.text)
        if size > ANSWER_CHARS_MAX:
            return lines[:count]
    return lines[:limit]


def _last(lines: list[_Line], limit: int) -> list[_Line]:
    return _first(lines[::-1], limit)[::-1]


def _lines(source: Source, number: int, begin: int) -> list[_Line]:
    """The whole lines from a position on, at most the last ``READ_BYTES_MAX`` of them."""
    position, data = _bytes_from(source.path, begin)
    lines: list[_Line] = []
    at = block_at = source.began
    block = ""
    for raw in data.splitlines(keepends=True):
        if not raw.endswith(b"\n") and source.live:
            break
        position += len(raw)
        text = raw[:LINE_BYTES_MAX].decode(errors="replace").rstrip("\r\n")
        at = max(at, _time_of(text) or at)
        head = _head_of(text)
        if (head and head != block) or at - block_at > BLOCK_S:
            block, block_at = head or block, at
        lines.append(_Line(block_at, number, position, text))
    return lines


def of_request(request_id: str, contains: str) -> Callable[[str], bool] | None:
    """Picks the lines of one request that hold a text; None picks all."""
    if not (request_id or contains):
        return None
    tag = f" {request_id} "
    return lambda text: (not request_id or f"{_head_of(text)} ".endswith(tag)) and contains in text


def _bytes_from(path: Path, begin: int) -> tuple[int, bytes]:
    """What the file and its older part hold from ``begin`` on, and where that starts."""
    cut_off, old, new = base(path), b"", b""
    with contextlib.suppress(FileNotFoundError):
        new = _end_of(path)
    if len(new) < READ_BYTES_MAX and begin < cut_off:
        with contextlib.suppress(FileNotFoundError):
            old = _end_of(older(path))
    size = path.stat().st_size if path.exists() else 0
    data = (old + new) if len(new) == size else new
    start = cut_off + size - len(data)
    if begin > start:
        return begin, data[begin - start :]
    if start > 0 and data and begin < start:  # it begins inside a line
        skipped = data.find(b"\n") + 1
        return start + skipped, data[skipped:]
    return start, data


def _end_of(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - READ_BYTES_MAX))
        return file.read(READ_BYTES_MAX)


def _time_of(text: str) -> float | None:
    """The time that a line begins with, as loggers write it; without a zone it is local time."""
    found = _TIME.match(text)
    if found is None:
        return None
    try:
        return datetime.fromisoformat(found[0]).timestamp()
    except (ValueError, OverflowError):
        return None


def _head_of(text: str) -> str:
    """Level and request of a line as workers write it; empty for what continues another line."""
    found = _HEAD.match(text)
    return found[1] if found else ""


def _parse_cursor(cursor: str) -> Mapping[str, int]:
    if not _CURSOR.fullmatch(cursor):
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT, "the cursor is not one of an earlier answer", target="cursor"
        )
    pairs = (item.split(":") for item in cursor.split(",") if item)
    return {name: int(end) for name, end in pairs}


def older(path: Path) -> Path:
    """Where the part that was cut off is kept."""
    return path.with_name(f"{path.name}.1")


def _base_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.offset")


def base(path: Path) -> int:
    """How many bytes were cut from the file before its present beginning."""
    try:
        return int(_base_file(path).read_text())
    except (FileNotFoundError, ValueError):
        return 0
