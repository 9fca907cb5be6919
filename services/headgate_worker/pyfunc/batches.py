"""Requests to an MLflow model that are predicted together: joined row by row, and parted again.

Only this module knows how; which requests may share a prediction is decided here too.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from headgate_worker.batching import MismatchError


def rows(data: Any) -> int:
    """How many rows a model gets with this; 1 for what has none."""
    first = next(iter(data.values()), None) if isinstance(data, dict) else data
    shape = getattr(first, "shape", ())
    return int(shape[0]) if shape else 1


def key(data: Any) -> Hashable:
    """Equal for data that can be joined; what cannot be joined at all is like no other."""
    if hasattr(data, "dtypes") and hasattr(data, "columns"):
        index = data.index  # a caller's own index means something to the model
        if type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1:
            return ("table", tuple(data.columns), tuple(map(str, data.dtypes)))
    elif isinstance(data, dict) and data and all(map(_joins, data.values())):
        if len({len(array) for array in data.values()}) == 1:
            return tuple((name, *_kind(array)) for name, array in sorted(data.items()))
    elif _joins(data):
        return _kind(data)
    return object()


def joined(parts: Sequence[Any]) -> Any:
    """Data of one key as if it had come in one request."""
    first = parts[0]
    if isinstance(first, dict):
        return {name: joined([part[name] for part in parts]) for name in first}
    if hasattr(first, "columns"):
        import pandas

        return pandas.concat(parts, ignore_index=True)
    import numpy

    return numpy.concatenate(parts)


def parted(result: Any, sizes: Sequence[int]) -> list[Any]:
    """A prediction as one for each request. Raises MismatchError when it is not row by row."""
    if isinstance(result, Mapping):
        columns = {name: parted(value, sizes) for name, value in result.items()}
        return [dict(zip(columns, row)) for row in zip(*columns.values())]
    count = result.shape[0] if getattr(result, "shape", ()) else len(result)
    if count != sum(sizes):
        raise MismatchError(
            f"the model returned {count} rows for {sum(sizes)}; without a prediction for each row "
            "the deployment should have no batching"
        )
    cut = result.iloc if hasattr(result, "iloc") else result
    parts, start = [], 0
    for size in sizes:
        parts.append(cut[start : start + size])
        start += size
    return parts


def _joins(array: Any) -> bool:
    return bool(getattr(array, "shape", ())) and hasattr(array, "dtype")


def _kind(array: Any) -> tuple[Hashable, ...]:
    return array.dtype.str, array.shape[1:]
