"""Charts in a terminal, of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

_BLOCKS = " ▁▂▃▄▅▆▇█"
_PLAIN = " .:-=+*#@"
_LABEL_CHARS = 9


def resampled(values: Sequence[float], width: int) -> list[float]:
    """As many values as there are columns, each the largest of those that it stands for."""
    count = len(values)
    if count <= width:
        return [values[min(count - 1, at * count // width)] for at in range(width)] if count else []
    edges = [at * count // width for at in range(width + 1)]
    return [max(values[a:b]) for a, b in pairwise(edges)]


def chart(
    title: str, values: Sequence[float], width: int, height: int = 6, *, is_unicode: bool = True
) -> list[str]:
    """The lines of a chart of values over time; the scale is on its left."""
    columns = resampled(values, max(10, width - _LABEL_CHARS))
    top = max(columns, default=0.0) or 1.0
    levels = _BLOCKS if is_unicode else _PLAIN
    steps = len(levels) - 1
    lines = [title]
    for row in reversed(range(height)):
        cells = "".join(
            levels[max(0, min(steps, round((value / top * height - row) * steps)))]
            for value in columns
        )
        label = f"{top * (row + 1) / height:.4g}" if row in (height - 1, height // 2 - 1) else ""
        lines.append(f"{label:>{_LABEL_CHARS - 1}} {cells}".rstrip())
    return lines
