"""Exceptions of the user's script in words: whose line it was, without our own frames."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Optional

FRAMES_MAX = 8
_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep


class ScoringTimeoutError(TimeoutError):
    """run() took longer than ``SCORING_TIMEOUT_MS``."""


def trace(error: BaseException) -> str:
    """The traceback as Python prints it, from the script's first frame on."""
    shown = traceback.TracebackException.from_exception(error)
    for part in _chain(shown):
        kept = [frame for frame in part.stack if not _is_machinery(frame.filename)]
        part.stack = traceback.StackSummary.from_list(kept)
    return "".join(shown.format()).rstrip()


def describe(error: BaseException, root: str) -> str:
    """The exception and the lines of the user's own files that led to it.

    ``FileNotFoundError: [Errno 2] ... 'x.bin'`` and then ``  score.py, line 2, in init: open(...)``
    """
    said = traceback.format_exception_only(type(error), error)[-1].strip()
    lines = [said]
    for frame in _frames(error, root)[-FRAMES_MAX:]:
        place = f"  {_relative(frame.filename, root)}, line {frame.lineno}"
        inside = f", in {frame.name}" if not frame.name.startswith("<") else ""
        lines.append(f"{place}{inside}: {frame.line}" if frame.line else place + inside)
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        place = f"  {_relative(error.filename, root)}, line {error.lineno}"
        lines.append(f"{place}: {(error.text or '').strip()}")
    return "\n".join(lines)


def place(frame: FrameType, root: str) -> str:
    """Where running code is, by the user's innermost line: ``score.py, line 4, in init: ...``.

    Empty while no file of the user's runs.
    """
    for found in reversed(traceback.extract_stack(frame)):
        inside = _relative(found.filename, root)
        if inside != found.filename:
            return f"{inside}, line {found.lineno}, in {found.name}: {found.line}"
    return ""


def _frames(error: BaseException, root: str) -> list[traceback.FrameSummary]:
    return [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if _relative(frame.filename, root) != frame.filename
    ]


def _relative(path: str, root: str) -> str:
    """Below ``root`` when it is a file of the user's, else the path as it is."""
    inside = path.startswith(root + os.sep) and f"{os.sep}site-packages{os.sep}" not in path
    return path[len(root) + 1 :] if inside else path


def _is_machinery(filename: str) -> bool:
    return filename.startswith((_OURS, "<frozen importlib"))


def _chain(part: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    left: list[Optional[traceback.TracebackException]] = [part]
    while left:
        found = left.pop()
        if found is not None:
            yield found
            left += [found.__cause__, found.__context__]
