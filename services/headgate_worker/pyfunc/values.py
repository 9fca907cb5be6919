"""Values on their way into a model and out of it: JSON here, pandas and numpy there.

Only this module touches them, and only those of the user's environment.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Optional
from uuid import UUID

from headgate_worker.pyfunc import signature as signatures
from headgate_worker.pyfunc.given import Given, Plain, Table, misfit
from headgate_worker.pyfunc.signature import Signature, Spec, shape_said

_DTYPES = {
    signatures.INTEGER: "int32",
    signatures.LONG: "int64",
    signatures.FLOAT: "float32",
    signatures.DOUBLE: "float64",
}
_NUMBERS = "iufc"


def for_model(given: Given, wanted: Optional[Signature]) -> Any:
    """What ``predict()`` gets. Raises InputError."""
    if isinstance(given, Plain):
        return given.value
    if isinstance(given, Table):
        return _frame(given, wanted)
    arrays = {
        name: _array(value, given.specs.get(name), wanted) for name, value in given.values.items()
    }
    return arrays.get(None, arrays)


# -- into the model ----------------------------------------------------------------------------


def _frame(table: Table, wanted: Optional[Signature]) -> Any:
    import pandas

    names = table.names if table.names is not None else list(range(len(table.columns)))
    columns = {
        number: _series(pandas, name, values, kind, wanted)
        for number, (name, values, kind) in enumerate(zip(names, table.columns, table.types))
    }
    frame = pandas.DataFrame(columns)
    frame.columns = names
    if table.labels is not None:
        frame.index = table.labels
    return frame


def _series(
    pandas: Any, name: Any, values: list[Any], kind: Optional[str], wanted: Optional[Signature]
) -> Any:
    if kind in _DTYPES:
        try:
            return pandas.Series(values, dtype=_DTYPES[kind])
        except (OverflowError, ValueError, TypeError) as error:
            raise misfit(f"column {name!r} wants {kind}: {error}", wanted) from None
    if kind == signatures.DATETIME:
        return _datetimes(pandas, name, values, wanted)
    if kind == signatures.BOOLEAN and None not in values:
        return pandas.Series(values, dtype=bool)
    if kind in signatures.SCALARS:
        return pandas.Series(values, dtype=object)
    made = pandas.Series(values, dtype=object)
    return (
        made if any(isinstance(value, (list, dict)) for value in values) else made.infer_objects()
    )


def _datetimes(pandas: Any, name: Any, values: list[Any], wanted: Optional[Signature]) -> Any:
    """Texts in ISO 8601, or milliseconds since 1970; other time zones are put into UTC."""
    made = []
    for number, value in enumerate(values):
        try:
            unit = {"unit": "ms"} if isinstance(value, int) else {}
            when = pandas.Timestamp(value, **unit) if value is not None else pandas.NaT
        except (ValueError, OverflowError, TypeError):
            raise misfit(
                f"column {name!r} wants datetime, and row {number} has {str(value)[:60]!r}; write "
                "it as 2026-01-31T12:00:00Z",
                wanted,
            ) from None
        made.append(when.tz_convert(None) if when is not pandas.NaT and when.tzinfo else when)
    return pandas.Series(made, dtype="datetime64[ns]")


def _array(value: Any, spec: Optional[Spec], wanted: Optional[Signature]) -> Any:
    import numpy

    label = f"tensor {spec.name!r}" if spec is not None and spec.name is not None else "the tensor"
    try:
        array = numpy.array(value)
    except ValueError:
        raise misfit(f"{label} has rows of different lengths", wanted) from None
    if spec is None or spec.type is None:
        return array
    array = _cast(numpy, array, spec.type, label, wanted)
    shape = spec.shape or ()
    fits = len(shape) == array.ndim and all(s < 0 or s == n for s, n in zip(shape, array.shape))
    if not fits:
        has = ", ".join(map(str, array.shape))
        raise misfit(f"{label} wants shape {shape_said(shape)}, and has ({has})", wanted)
    return array


def _cast(numpy: Any, array: Any, kind: str, label: str, wanted: Optional[Signature]) -> Any:
    """The array with the element type of the signature, if no value is lost by it."""
    try:
        dtype = numpy.dtype(kind)
    except TypeError:
        return array  # a type of another library's; MLflow knows what to do
    if array.size == 0:
        return array.astype(dtype)
    has = _unfit(numpy, array, dtype)
    if has:
        raise misfit(f"{label} wants elements of {kind}, and has {has}", wanted)
    return array.astype(dtype)


def _unfit(numpy: Any, array: Any, dtype: Any) -> str:
    """What the array has that cannot become this type; empty when all of it can."""
    found = array.dtype.kind
    if dtype.kind in _NUMBERS and found in _NUMBERS:
        if dtype.kind not in "iu":
            return ""
        if found == "f" and not numpy.all(numpy.mod(array, 1) == 0):
            return "numbers that are not whole"
        info = numpy.iinfo(dtype)
        return "" if info.min <= array.min() and array.max() <= info.max else "too large numbers"
    if found == dtype.kind or dtype.kind == "O" or (dtype.kind in "SU" and found in "SU"):
        return ""
    names = {"U": "text", "b": "truth values", "O": "null or objects"}
    return names.get(found, "numbers")


# -- out of the model --------------------------------------------------------------------------


def jsonable(result: Any) -> Any:
    """A prediction as JSON can say it: a DataFrame as records, an array as nested lists.

    What JSON has no word for (NaN, infinities, NaT) becomes null. Raises TypeError for a value
    that cannot be said.
    """
    if hasattr(result, "to_frame") and hasattr(result, "index"):  # a Series, as MLflow shows it
        result = result.to_frame()
    if hasattr(result, "columns") and hasattr(result, "to_dict"):
        return [_plain(row) for row in result.to_dict(orient="records")]
    return _plain(result)


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is float:
        return value if math.isfinite(value) else None
    if value is None or kind in (str, bool, int):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # numpy's arrays and numbers, torch's tensors
        return _of_array(value)
    return _of_object(value)


def _of_array(value: Any) -> Any:
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind in ("M", "m"):  # numpy gives integers for finer units than Python's
        value = value.astype(f"{'datetime64' if kind == 'M' else 'timedelta64'}[us]")
    made = value.tolist()
    return made if kind in ("i", "u", "b", "U") else _plain(made)


def _of_object(value: Any) -> Any:
    if isinstance(value, (datetime, date, time)):
        said = value.isoformat()
        return None if said == "NaT" else said
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        return seconds if math.isfinite(seconds) else None
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return _plain(float(value))
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, UUID):
        return str(value)
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if hasattr(value, "toarray"):  # scipy's sparse matrices
        return _plain(value.toarray())
    if hasattr(value, "model_dump"):  # pydantic's objects
        return _plain(value.model_dump())
    if isinstance(value, (float, int, str)):  # subclasses: numpy's float64 is one
        base = next(base for base in (float, int, str) if isinstance(value, base))
        return _plain(base(value))
    if hasattr(value, "__iter__"):
        return [_plain(inner) for inner in value]
    raise TypeError(
        f"the model returned a {type(value).__module__}.{type(value).__name__}, which cannot be "
        "written as JSON; let it return a DataFrame, an array, a list or a dict"
    )
