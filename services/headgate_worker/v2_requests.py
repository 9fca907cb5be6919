"""Inference requests of the Open Inference Protocol V2, read: JSON, and tensors behind it as bytes.

With the header ``Inference-Header-Content-Length`` the body is that much JSON, and then the raw
elements of each input that has a ``binary_data_size``, in order, little endian.
"""

from __future__ import annotations

import json
import math
import zlib
from typing import Any, NamedTuple, Optional

from headgate_worker.core import BODY_BYTES_MAX
from headgate_worker.inputs import InputError
from headgate_worker.request import Request
from headgate_worker.v2 import ANY, DATATYPES, Model, Tensor

HEADER = "Inference-Header-Content-Length"
DIMENSIONS_MAX = 32  # numpy's own limit
# How a request is to be handled, not what the model is to do; not for the script.
_OF_THE_SERVER = ("binary_data_output", "priority", "timeout")
_WBITS = {"gzip": 31, "deflate": 15}


class Given(NamedTuple):
    """An input as it came: either the JSON of its elements, or their bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Any
    raw: Optional[memoryview]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


class Asked(NamedTuple):
    """A whole request. ``outputs``: by name whether in binary form; None: all of them."""

    id: str
    inputs: tuple[Given, ...]
    outputs: Optional[dict[str, bool]]
    binary: bool
    parameters: dict[str, Any]


def read(request: Request, model: Model) -> Asked:
    """Raises InputError that names what is wrong."""
    body = _unpacked(request)
    head, rest = _parted(body, request.header(HEADER.lower()))
    said = _object(head)
    parameters = _mapping(said, "parameters", "the request")
    inputs = said.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise _wrong("`inputs` must be a list with a tensor for each input of the model")
    tensors = []
    for each in inputs:
        tensor, rest = _given(each, rest)
        tensors.append(tensor)
    if len(rest):
        raise _wrong(f"{len(rest)} bytes follow the last input's {_SIZE}")
    _fit(tensors, model)
    binary = parameters.get("binary_data_output") is True
    return Asked(
        str(said.get("id") or ""),
        tuple(tensors),
        _outputs(said.get("outputs"), binary),
        binary,
        {name: value for name, value in parameters.items() if name not in _OF_THE_SERVER},
    )


_SIZE = "`binary_data_size`"


def _unpacked(request: Request) -> bytes:
    coding = request.header("content-encoding").strip().lower()
    if coding in ("", "identity"):
        return request.body
    if coding not in _WBITS:
        raise InputError(415, f"Content-Encoding {coding[:40]!r} is not gzip or deflate")
    unpacker = zlib.decompressobj(_WBITS[coding])
    try:
        body = unpacker.decompress(request.body, BODY_BYTES_MAX)
    except zlib.error as error:
        raise _wrong(f"the body is not {coding}: {error}") from None
    if unpacker.unconsumed_tail:
        raise InputError(413, f"the body unpacks to more than {BODY_BYTES_MAX} bytes")
    if not unpacker.eof:
        raise _wrong(f"the body ends in the middle of its {coding}")
    return body


def _parted(body: bytes, length: str) -> tuple[bytes, memoryview]:
    if not length:
        return body, memoryview(b"")
    if not length.isdecimal() or len(length) > 19 or int(length) > len(body):
        raise _wrong(f"{HEADER} must be a number of bytes up to the body's {len(body)}")
    size = int(length)
    return body[:size], memoryview(body)[size:]


def _object(head: bytes) -> dict[str, Any]:
    try:
        said = json.loads(head)
    except RecursionError:
        raise _wrong("its JSON is nested too deeply") from None
    except ValueError as error:
        raise _wrong(f"it is no JSON: {error}") from None
    if not isinstance(said, dict):
        raise _wrong("it must be a JSON object")
    return said


def _mapping(said: dict[str, Any], key: str, what: str) -> dict[str, Any]:
    found = said.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _wrong(f"`{key}` of {what} must be an object")
    if any(name.startswith("shared_memory") for name in found):
        raise _wrong(f"{what} is in shared memory, which is not served; send the data itself")
    return found


def _given(said: Any, rest: memoryview) -> tuple[Given, memoryview]:
    """One input, and the bytes that are left for those behind it."""
    if not isinstance(said, dict) or not isinstance(said.get("name"), str):
        raise _wrong("each input must be an object with a `name`")
    name, datatype, shape = said["name"], said.get("datatype"), said.get("shape")
    label = f"input {name[:80]!r}"
    if datatype not in DATATYPES:
        raise _wrong(f"{label}: `datatype` must be one of {', '.join(DATATYPES)}")
    if (
        not isinstance(shape, list)
        or len(shape) > DIMENSIONS_MAX
        or not all(map(_is_length, shape))
    ):
        raise _wrong(f"{label}: `shape` must be a list of lengths")
    size = _mapping(said, "parameters", label).get("binary_data_size")
    given = Given(name, datatype, tuple(shape), said.get("data"), None)
    if (size is None) == (given.values is None):
        raise _wrong(f"{label} must have either `data` or the parameter {_SIZE}")
    if size is None:
        return given, rest
    if not _is_length(size) or size > len(rest):
        raise _wrong(f"{label}: {_SIZE} must be a number of bytes, and {len(rest)} are left")
    wanted = given.elements * DATATYPES[datatype]
    if wanted and size != wanted:
        raise _wrong(f"{label}: {shape} of {datatype} take {wanted} bytes, and {_SIZE} is {size}")
    return given._replace(raw=rest[:size]), rest[size:]


def _outputs(said: Any, binary: bool) -> Optional[dict[str, bool]]:
    if said is None or said == []:
        return None
    if not isinstance(said, list):
        raise _wrong("`outputs` must be a list")
    found: dict[str, bool] = {}
    for each in said:
        if not isinstance(each, dict) or not isinstance(each.get("name"), str):
            raise _wrong("each output must be an object with a `name`")
        parameters = _mapping(each, "parameters", f"output {each['name'][:80]!r}")
        if parameters.get("classification"):
            raise _wrong("outputs as classifications are not served; ask for the tensor itself")
        found[each["name"]] = parameters.get("binary_data", binary) is True
    return found


def _fit(given: list[Given], model: Model) -> None:
    """Compares the inputs with what the model says that it takes."""
    names = [each.name for each in given]
    if len(set(names)) < len(names):
        raise _wrong("an input comes twice")
    if not model.inputs:
        return
    wanted = {each.name: each for each in model.inputs}
    lacking = [each.name for each in model.inputs if each.required and each.name not in names]
    extra = [name for name in names if name not in wanted]
    if lacking or extra:
        said = f"it lacks {_listed(lacking)}" if lacking else f"it has {_listed(extra)}"
        raise _wrong(f"{said}; the model takes {', '.join(map(str, model.inputs))}")
    for each in given:
        tensor = wanted[each.name]
        if not _fits(each, tensor, exact=model.exact):
            has = f"{each.datatype}, shape {list(each.shape)}"
            raise _wrong(f"the model takes {tensor}, and the input is {has}")


def _fits(given: Given, tensor: Tensor, *, exact: bool) -> bool:
    if exact and given.datatype != tensor.datatype:
        return False
    shape = given.shape
    if not exact and len(shape) == len(tensor.shape) + 1 and shape[-1] == 1:
        shape = shape[:-1]  # a column may come as rows of one value
    return len(shape) == len(tensor.shape) and all(
        length in (ANY, has) for length, has in zip(tensor.shape, shape)
    )


def _is_length(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name[:80]) for name in names[:20])


def _wrong(why: str) -> InputError:
    return InputError(400, f"the inference request is wrong: {why}")
