"""What run() gives back: how many elements, and the lines that they become."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class BadResultError(Exception):
    """run() gave back something that cannot be counted."""


def taken(result: Any, *, keeps_rows: bool) -> tuple[int, bytes]:
    """The number of elements or rows, and one line for each, if they are kept.

    A DataFrame becomes CSV without header and index, as Azure writes it; any other element is
    written as ``str`` shows it. Raises BadResultError for what is no list, array or DataFrame.
    """
    if result is None:
        raise BadResultError(
            "run() returned None; return a list, an array or a DataFrame with one element for "
            "each item that succeeded"
        )
    if isinstance(result, (str, bytes, Mapping)):
        raise BadResultError(
            f"run() returned a {type(result).__name__}; return a list, an array or a DataFrame "
            "with one element for each item that succeeded"
        )
    if hasattr(result, "to_csv") and hasattr(result, "columns"):
        return len(result), _of_frame(result) if keeps_rows else b""
    if not isinstance(result, Iterable):
        raise BadResultError(
            f"run() returned a {type(result).__name__}; return a list, an array or a DataFrame"
        )
    lines = [str(each) for each in result] if keeps_rows else [None for _ in result]
    if not keeps_rows or not lines:
        return len(lines), b""
    return len(lines), ("\n".join(map(str, lines)) + "\n").encode("utf-8", "backslashreplace")


def _of_frame(frame: Any) -> bytes:
    text = frame.to_csv(index=False, header=False)
    return str(text).encode("utf-8", "backslashreplace")
