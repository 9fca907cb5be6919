"""What a request gives a model: the JSON of ``input_data``, shaped as the signature wants it.

Everything that can be said about it without pandas and numpy is said here: which form it has,
which names are missing, which value is of a wrong type.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional, Union

from headgate_worker.inputs import InputError
from headgate_worker.pyfunc import signature as signatures
from headgate_worker.pyfunc.signature import Signature, Spec, named

ERRORS_MAX = 5
VALUE_CHARS_MAX = 60
INT_BITS = {signatures.INTEGER: 31, signatures.LONG: 63}
_FORMS = (
    'send {"input_data": ...} with rows as objects, [{"<column>": <value>, ...}], or as '
    '{"columns": [...], "data": [[...]]}'
)
_SPLIT = {"columns", "index", "data"}


class Table(NamedTuple):
    """For a DataFrame, column by column. ``names`` is None when they are only counted."""

    names: Optional[list[Any]]
    columns: list[list[Any]]
    types: list[Optional[str]]  # a scalar of the signature's, or None: as it is
    labels: Optional[list[Any]] = None


class Tensors(NamedTuple):
    """By name, or a single one under the name None; ``specs`` say what they have to be."""

    values: dict[Optional[str], Any]
    specs: dict[Optional[str], Spec]


class Plain(NamedTuple):
    """Handed to the model as it is."""

    value: Any


Given = Union[Table, Tensors, Plain]


def misfit(why: str, wanted: Optional[Signature] = None) -> InputError:
    """The caller's fault, and what the model wants instead."""
    said = f"input_data does not fit the model: {why}"
    return InputError(400, f"{said}; {wanted.wants()}" if wanted is not None else said)


def missing(wanted: Optional[Signature]) -> InputError:
    """There is no ``input_data`` at all."""
    wants = f"; {wanted.wants()}" if wanted is not None else ""
    return InputError(400, f"the request has no `input_data`: {_FORMS}{wants}")


def shaped(data: Any, wanted: Optional[Signature]) -> Given:
    """Raises InputError that says what does not fit and what is wanted."""
    if wanted is None:
        return _by_itself(data)
    if wanted.free:
        return Plain(data)
    if isinstance(data, dict) and len(data) == 1:
        (key,) = data  # TensorFlow Serving's words for rows and for columns
        if key in ("instances", "inputs") and key not in wanted.names():
            data = data[key]
    if wanted.is_tensors:
        return _tensors(data, wanted)
    return _typed(_table(data, wanted), wanted)


# -- without a signature -----------------------------------------------------------------------


def _by_itself(data: Any) -> Given:
    """As Azure reads it: split form and records are tables, everything else is tensors."""
    if _is_split(data):
        return _split(data, None)
    if _are_records(data):
        return _records(data, _names_of(data), None)
    if isinstance(data, dict):
        specs = {name: Spec(name, None, True, None) for name in data}
        return Tensors(dict(data), dict(specs))
    if isinstance(data, list):
        return Tensors({None: data}, {None: Spec(None, None, True, None)})
    return Plain(data)


# -- tensors -----------------------------------------------------------------------------------


def _tensors(data: Any, wanted: Signature) -> Tensors:
    if not wanted.is_named:
        if _is_split(data):
            data = data["data"]
        if isinstance(data, dict):
            raise misfit(f"it has names ({named(data)}), and there are none", wanted)
        return Tensors({None: data}, {None: wanted.inputs[0]})
    specs: dict[Optional[str], Spec] = {spec.name: spec for spec in wanted.inputs}
    if _is_split(data) and "data" not in specs:
        table = _split(data, wanted)
        data = dict(zip(table.names or (), table.columns))
    if _are_records(data):  # one object per row: TensorFlow Serving's row format
        rows = data
        _check_names(_names_of(rows), wanted)
        data = {}
        for name, spec in specs.items():
            holes = [number for number, row in enumerate(rows) if name not in row]
            if len(holes) < len(rows) or spec.required:
                if holes:
                    raise misfit(f"row {holes[0]} has no {name!r}", wanted)
                data[name] = [row[name] for row in rows]
    if isinstance(data, list) and len(specs) == 1:
        data = {next(iter(specs)): data}
    if not isinstance(data, dict):
        raise misfit(f"it is {_kind(data)}, not an object with a tensor for each name", wanted)
    _check_names(list(data), wanted)
    return Tensors({name: data[name] for name in specs if name in data}, specs)


# -- tables ------------------------------------------------------------------------------------


def _table(data: Any, wanted: Signature) -> Table:
    """In whichever form it came, not yet compared with the signature."""
    if _is_split(data) and "data" not in wanted.names():
        return _split(data, wanted)
    if _are_records(data) and (wanted.is_named or not wanted.inputs[0].is_scalar):
        if not wanted.is_named:  # each object is the value of the one column
            return Table(None, [list(data)], [None])
        names = [name for name in wanted.names() if any(name in row for row in data)]
        extra = [name for name in _names_of(data) if name not in set(names)]
        return _records(data, [*names, *extra], wanted)
    if isinstance(data, dict) and wanted.is_named:
        return _by_columns(data, wanted)
    if isinstance(data, list) and data and all(isinstance(row, list) for row in data):
        return _rows(data, None, wanted)
    if len(wanted.inputs) == 1:
        rows = data if isinstance(data, list) else [data]
        return Table(wanted.names() or None, [rows], [None])
    if isinstance(data, list):
        why = "it is a list of values; put each row into a list of its own"
        raise misfit(why if data else "it has no rows", wanted)
    raise misfit(f"it is {_kind(data)}; {_FORMS}", wanted)


def _split(data: dict[str, Any], wanted: Optional[Signature]) -> Table:
    names, rows, index = data.get("columns"), data["data"], data.get("index")
    if names is not None and not _are_names(names):
        raise misfit("`columns` must be a list of names", wanted)
    if not all(isinstance(row, list) for row in rows):
        if names is None or len(names) != 1:
            raise misfit("`data` must be a list of rows, and each row a list of values", wanted)
        rows = [[value] for value in rows]
    if index is not None and not (_are_names(index) and len(index) == len(rows)):
        raise misfit(f"`index` must be a list with an entry for each of {len(rows)} rows", wanted)
    return _rows(rows, names, wanted)._replace(labels=index)


def _rows(
    rows: Sequence[list[Any]], names: Optional[list[Any]], wanted: Optional[Signature]
) -> Table:
    """Rows without names have the columns of the signature, in its order."""
    if names is None and wanted is not None and wanted.is_named:
        names = list(wanted.names())
    width = len(names) if names is not None else len(rows[0]) if rows else 0
    for number, row in enumerate(rows):
        if len(row) != width:
            values = f"{len(row)} value{'' if len(row) == 1 else 's'}"
            raise misfit(f"row {number} has {values}, not {width}", wanted)
    columns = [[row[number] for row in rows] for number in range(width)]
    return Table(names, columns, [None] * width)


def _records(
    rows: Sequence[dict[str, Any]], names: list[Any], wanted: Optional[Signature]
) -> Table:
    required = {spec.name for spec in wanted.inputs if spec.required} if wanted else set()
    columns = []
    for name in names:
        if name in required:
            for number, row in enumerate(rows):
                if name not in row:
                    raise misfit(f"row {number} has no {name!r}", wanted)
        columns.append([row.get(name) for row in rows])
    return Table(names, columns, [None] * len(names))


def _by_columns(data: dict[str, Any], wanted: Signature) -> Table:
    """An object of columns, or of the values of a single row."""
    scalar = all(spec.is_scalar for spec in wanted.inputs)
    lists = [name for name, value in data.items() if isinstance(value, list)]
    if not scalar or not lists:
        return Table(list(data), [[value] for value in data.values()], [None] * len(data))
    if len(lists) < len(data):
        other = next(name for name in data if name not in set(lists))
        raise misfit(f"{lists[0]!r} is a list, and {other!r} is none", wanted)
    lengths = {len(values) for values in data.values()}
    if len(lengths) > 1:
        said = ", ".join(f"{name!r}: {len(values)}" for name, values in data.items())
        raise misfit(f"its columns have different lengths ({said})", wanted)
    return Table(list(data), list(data.values()), [None] * len(data))


# -- names and types ---------------------------------------------------------------------------


def _check_names(names: Sequence[Any], wanted: Signature) -> None:
    """Names that are too many are ignored, as MLflow does, unless others are missing."""
    counts = Counter(names)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise misfit(f"it has {named(twice)} more than once", wanted)
    lacking = [spec.name for spec in wanted.inputs if spec.required and spec.name not in counts]
    if lacking:
        known = set(wanted.names())
        extra = [name for name in names if name not in known]
        said = f", and has {named(extra)}, which the model does not know" if extra else ""
        raise misfit(f"it lacks {named(lacking)}{said}", wanted)


def _typed(table: Table, wanted: Signature) -> Table:
    """With the columns of the signature in their order, each value of its type."""
    if wanted.is_named and table.names is not None:
        _check_names(table.names, wanted)
        given = dict(zip(table.names, table.columns))
        specs = [spec for spec in wanted.inputs if spec.name in given]
        names: Optional[list[Any]] = [spec.name for spec in specs]
        columns = [given[spec.name] for spec in specs]
    else:
        if len(table.columns) < len(wanted.inputs):
            raise misfit(f"it has too few columns ({len(table.columns)})", wanted)
        specs, names, columns = list(wanted.inputs), None, table.columns[: len(wanted.inputs)]
    if not any(columns):
        raise misfit("it has no rows", wanted)
    errors: list[str] = []
    typed = [_column(values, spec, errors) for values, spec in zip(columns, specs)]
    if errors:
        raise misfit("; ".join(errors[:ERRORS_MAX]), wanted)
    types = [spec.type if spec.is_scalar else None for spec in specs]
    return Table(names, typed, types, table.labels)


def _column(values: list[Any], spec: Spec, errors: list[str]) -> list[Any]:
    """The values, some of them converted; what is wrong is added to ``errors``."""
    if not spec.is_scalar:
        return values
    if set(map(type, values)) <= _READY[spec.type]:
        bits = INT_BITS.get(spec.type)
        if bits is None or not values or -(2**bits) <= min(values) <= max(values) < 2**bits:
            return values
    made: list[Any] = []
    for number, value in enumerate(values):
        try:
            made.append(_value(value, spec))
        except ValueError as error:
            where = f"column {spec.name!r}" if spec.name is not None else "the column"
            errors.append(f"{where} wants {spec.type}, and row {number} has {_short(value)}{error}")
            return values
    return made


# Python's types of JSON values that need no second look.
_READY: dict[str, set[type]] = {
    signatures.BOOLEAN: {bool},
    signatures.INTEGER: {int},
    signatures.LONG: {int},
    signatures.FLOAT: {int, float},
    signatures.DOUBLE: {int, float},
    signatures.STRING: {str},
    signatures.BINARY: set(),
    signatures.DATETIME: {str},
}


def _value(value: Any, spec: Spec) -> Any:
    """A JSON value as one of this type. ValueError may add a word to what is said anyway."""
    kind = spec.type
    if kind in INT_BITS:
        return _integer(value, INT_BITS[kind])
    if kind in (signatures.FLOAT, signatures.DOUBLE):
        if value is None:
            return float("nan")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError
        return value
    if value is None:
        return None
    if kind == signatures.BINARY and isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(", which is not base64") from None
    if kind == signatures.DATETIME and isinstance(value, int) and not isinstance(value, bool):
        return value  # milliseconds, as pandas writes them
    if isinstance(value, bool if kind == signatures.BOOLEAN else str):
        return value
    raise ValueError


def _integer(value: Any, bits: int) -> int:
    if value is None:
        raise ValueError(", and a whole number cannot be missing")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError
    if not -(2**bits) <= value < 2**bits:
        raise ValueError(", which is too large")
    return value


def _short(value: Any) -> str:
    said = "null" if value is None else repr(value)
    return said if len(said) <= VALUE_CHARS_MAX else f"{said[:VALUE_CHARS_MAX]}..."


def _kind(data: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "a truth value"}
    return "null" if data is None else kinds.get(type(data), "a number")


def _is_split(data: Any) -> bool:
    return isinstance(data, dict) and isinstance(data.get("data"), list) and set(data) <= _SPLIT


def _are_records(data: Any) -> bool:
    return isinstance(data, list) and bool(data) and all(isinstance(row, dict) for row in data)


def _are_names(names: Any) -> bool:
    """Whether pandas can have these as names of columns or rows."""
    return isinstance(names, list) and not any(isinstance(name, (list, dict)) for name in names)


def _names_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))
