"""Tensors of the Open Inference Protocol V2 as numpy arrays, and arrays as answers.

Only this module touches numpy, that of the script's environment.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

from headgate_worker.inputs import InputError
from headgate_worker.tensors import as_numpy
from headgate_worker.v2_requests import HEADER, Asked, Given

_KINDS = {
    "BOOL": "|b1",
    "UINT8": "|u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "|i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
_WORDS = {"i": "INT", "u": "UINT", "f": "FP"}
_LENGTH = struct.Struct("<I")  # before each element of BYTES

Body = tuple[list[tuple[str, str]], bytes]


def arrays(asked: Asked) -> dict[str, Any]:
    """The inputs by name; they are the script's own to change. Raises InputError."""
    return {given.name: _array(given) for given in asked.inputs}


def answer(asked: Asked, result: Any, about: Mapping[str, Any]) -> Body:
    """Headers and body for what the model returned: a dict of arrays, or of anything like them.

    Raises InputError for outputs that were asked for and are not there, TypeError for a result
    that is no dict of tensors.
    """
    if not isinstance(result, Mapping):
        raise TypeError(f"infer() must return a dict of arrays, not a {type(result).__name__}")
    wanted = asked.outputs
    if wanted is None:
        wanted = dict.fromkeys(map(str, result), asked.binary)
    outputs, parts = [], []
    for name, binary in wanted.items():
        if name not in result:
            there = ", ".join(map(repr, result))
            raise InputError(400, f"there is no output {name[:80]!r}; the model gives {there}")
        array = as_numpy(result[name])
        said: dict[str, Any] = {"name": name, "datatype": _datatype(name, array)}
        said["shape"] = list(array.shape)
        if binary:
            raw = _raw(said["datatype"], array)
            said["parameters"] = {"binary_data_size": len(raw)}
            parts.append(raw)
        else:
            said["data"] = _plain(name, said["datatype"], array)
        outputs.append(said)
    head = json.dumps({**about, "outputs": outputs}, separators=(",", ":")).encode()
    if not parts:
        return [("Content-Type", "application/json")], head
    headers = [("Content-Type", "application/octet-stream"), (HEADER, str(len(head)))]
    return headers, b"".join((head, *parts))


# -- in ----------------------------------------------------------------------------------------


def _array(given: Given) -> Any:
    import numpy

    if given.datatype == "BYTES":
        elements = _texts(numpy, given) if given.raw is None else _strings(given)
        array = numpy.empty(given.elements, dtype=object)
        array[:] = elements
        return array.reshape(given.shape)
    if given.raw is None:
        return _numbers(numpy, given)
    if given.datatype == "BF16":  # the upper half of a float32
        halves = numpy.frombuffer(given.raw, "<u2").astype("<u4")
        return (halves << 16).view("<f4").reshape(given.shape)
    # A copy, since elements may lie at any address of the message, and scripts change their inputs.
    return numpy.frombuffer(given.raw, _KINDS[given.datatype]).reshape(given.shape).copy()


def _numbers(numpy: Any, given: Given) -> Any:
    """From JSON, flat or nested as the shape is; no value may change by the conversion."""
    kind = numpy.dtype(_KINDS.get(given.datatype, "<f4"))
    try:
        found = numpy.array(given.values)
    except ValueError:
        raise _wrong(given, "`data` has rows of different lengths") from None
    if found.size != given.elements:
        raise _wrong(given, f"`data` has {found.size} elements, and the shape {given.elements}")
    if not found.size:
        return numpy.zeros(given.shape, kind)
    allowed = {"b": "b", "f": "iuf"}.get(kind.kind, "iu")
    if found.dtype.kind not in allowed:
        raise _wrong(given, f"`data` has elements that are no {given.datatype}")
    if kind.kind in "iu":
        info = numpy.iinfo(kind)
        if not info.min <= int(found.min()) <= int(found.max()) <= info.max:
            raise _wrong(given, f"`data` has numbers that are too large for {given.datatype}")
    return found.astype(kind).reshape(given.shape)


def _texts(numpy: Any, given: Given) -> list[bytes]:
    try:
        found = numpy.array(given.values, dtype=object).ravel().tolist()
    except ValueError:
        raise _wrong(given, "`data` has rows of different lengths") from None
    if len(found) != given.elements:
        raise _wrong(given, f"`data` has {len(found)} elements, and the shape {given.elements}")
    if not all(isinstance(each, str) for each in found):
        raise _wrong(given, "elements of BYTES must be texts in JSON; send other bytes binary")
    return [each.encode("utf-8", "surrogatepass") for each in found]


def _strings(given: Given) -> list[bytes]:
    """Each element after its length, four bytes."""
    raw, at = given.raw, 0
    found: list[bytes] = []
    assert raw is not None
    while at < len(raw) and len(found) <= given.elements:
        size = _LENGTH.unpack_from(raw, at)[0] if at + _LENGTH.size <= len(raw) else len(raw)
        at += _LENGTH.size
        if at + size > len(raw):
            raise _wrong(given, f"element {len(found)} is longer than the data")
        found.append(bytes(raw[at : at + size]))
        at += size
    if len(found) != given.elements or at != len(raw):
        raise _wrong(given, f"the data has not the {given.elements} elements of the shape")
    return found


def _wrong(given: Given, why: str) -> InputError:
    return InputError(400, f"the inference request is wrong: input {given.name[:80]!r}: {why}")


# -- out ---------------------------------------------------------------------------------------


def _datatype(name: str, array: Any) -> str:
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind in "SUO":
        return "BYTES"
    if kind == "b":
        return "BOOL"
    found = f"{_WORDS.get(kind)}{8 * size}"
    if found not in _KINDS:
        raise TypeError(f"output {name!r} has elements of {array.dtype}, for which V2 has no word")
    return found


def _raw(datatype: str, array: Any) -> bytes:
    if datatype != "BYTES":
        return array.astype(_KINDS[datatype], copy=False).tobytes()  # type: ignore[no-any-return]
    elements = map(_bytes, array.ravel().tolist())
    return b"".join(_LENGTH.pack(len(each)) + each for each in elements)


def _plain(name: str, datatype: str, array: Any) -> list[Any]:
    """Flat; what JSON has no word for (NaN and infinities) is null."""
    flat = array.ravel().tolist()
    if datatype == "BYTES":
        try:
            return [_bytes(each).decode() for each in flat]
        except UnicodeDecodeError:
            raise InputError(
                400, f"output {name!r} is not text: ask for it as binary_data"
            ) from None
    if datatype.startswith("FP"):
        limit = float("inf")
        return [each if -limit < each < limit else None for each in flat]
    return flat  # type: ignore[no-any-return]


def _bytes(element: Any) -> bytes:
    return element if isinstance(element, bytes) else str(element).encode("utf-8", "surrogatepass")
