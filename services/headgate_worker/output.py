"""Everything the script says becomes lines of the instance's log, tagged with their request.

``2026-11-23T13:00:00.123Z INFO 5f1c... message``: time, level, request id (``-`` outside of a
request), text. ``print`` and ``sys.stdout`` are INFO, ``sys.stderr`` is WARNING, log records keep
their level. File descriptors 1 and 2 stay where they are, so C code writes to the log unhindered.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import re
import sys
import threading
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any, BinaryIO, Optional

# The id of the request under way, as it was sent; `tag` makes of it what stands in the log.
REQUEST: ContextVar[str] = ContextVar("headgate_request", default="-")

LINE_CHARS_MAX = 64 * 1024  # longer ones are broken, so that a script cannot fill our memory
_TAG = re.compile(r"[\w.:-]{1,100}", re.ASCII)
_UNSAFE = re.compile(r"[^\w.:-]", re.ASCII)
_IOLBF = 1
_lines_are_left_open = False  # whether anybody has ever left one: most never do


def tag(request_id: str) -> str:
    """A request id as it appears in the log: one word, whatever a client has sent."""
    if _TAG.fullmatch(request_id):
        return request_id
    return _UNSAFE.sub("_", request_id)[:100] or "-"


def log(level: str, text: str, descriptor: int = 1) -> None:
    """Writes a text of our own, line by line."""
    _write(descriptor, level, text.splitlines() or [""])


class TaggedStream(io.TextIOBase):
    """A text stream whose lines go to the log; a line leaves when it is whole, or on ``flush``."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, descriptor: int, level: str, original: Any) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._level = level
        self._original = original
        self._open = threading.local()  # lines that threads print side by side do not mix

    @property
    def buffer(self) -> BinaryIO:
        """For code that writes bytes: past us, untagged, but not lost."""
        return self._original.buffer  # type: ignore[no-any-return]  # whatever Python made it

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        line = getattr(self._open, "line", "") + text
        if "\n" in line or len(line) > LINE_CHARS_MAX:
            *whole, line = line.split("\n")
            while len(line) > LINE_CHARS_MAX:
                whole.append(line[:LINE_CHARS_MAX])
                line = line[LINE_CHARS_MAX:]
            _write(self._descriptor, self._level, whole)
        self._open.line = line
        if line:
            global _lines_are_left_open
            _lines_are_left_open = True
        return len(text)

    def flush(self) -> None:
        """An unfinished line stays open: ``print(x, end="", flush=True)`` means one line."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._original.buffer.flush()

    def end_line(self) -> None:
        """What this thread has left open becomes a line now: its request has ended."""
        if getattr(self._open, "line", ""):
            self.write("\n")


class _Records(logging.Handler):
    """Log records of a script that has not set up logging itself."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):
            log(record.levelname, self.format(record))


def install(level: str) -> None:
    """From now on; fits any script, because ``logging`` still looks as if nobody had set it up."""
    sys.stdout = TaggedStream(1, "INFO", sys.__stdout__)
    sys.stderr = TaggedStream(2, "WARNING", sys.__stderr__)
    # The handler of last resort, so that a script's logging.basicConfig() still has its effect.
    logging.lastResort = _Records(0)
    with contextlib.suppress(ValueError):
        logging.getLogger().setLevel(level)
    _line_buffer_c()


def end_request() -> None:
    """Lines that run() left open get their end, under its own tag."""
    if not _lines_are_left_open:
        return
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TaggedStream):
            stream.end_line()


def flush() -> None:
    """Before an exit that skips Python's and C's own: nothing written is lost."""
    end_request()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    with contextlib.suppress(Exception):
        ctypes.CDLL(None).fflush(None)


def _line_buffer_c() -> None:
    """C code writes line by line as well: into a file its library would hold back 4 KiB."""
    with contextlib.suppress(Exception):
        libc = ctypes.CDLL(None)
        libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, _IOLBF, ctypes.c_size_t(0))


def _write(descriptor: int, level: str, lines: Iterable[str]) -> None:
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")[:-6]
    head = f"{now}Z {level} {tag(REQUEST.get())} "
    data = "".join(f"{head}{line}\n" for line in lines).encode("utf-8", "backslashreplace")
    view: Optional[memoryview] = memoryview(data)
    # A log that cannot be written (full disk, closed pipe) must not fail a request.
    with contextlib.suppress(OSError):
        while view:
            view = view[os.write(descriptor, view) :]
