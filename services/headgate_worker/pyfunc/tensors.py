"""An MLflow model in the V2 protocol: its signature as tensors, tensors as its input and output.

A column is a tensor of one dimension. What has no name in the signature gets one: ``input`` for a
single tensor, ``input-0`` and so on for columns, ``output`` for what comes back.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Optional

from headgate_worker.pyfunc import signature as signatures
from headgate_worker.pyfunc.given import misfit
from headgate_worker.pyfunc.signature import Signature, Spec
from headgate_worker.v2 import ANY, Tensor

_DATATYPES = {
    signatures.BOOLEAN: "BOOL",
    signatures.INTEGER: "INT32",
    signatures.LONG: "INT64",
    signatures.FLOAT: "FP32",
    signatures.DOUBLE: "FP64",
    **dict.fromkeys((signatures.STRING, signatures.BINARY, signatures.DATETIME), "BYTES"),
    "bool": "BOOL",
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    **dict.fromkeys(("str", "object", "bytes"), "BYTES"),
}


def inputs(wanted: Optional[Signature]) -> Optional[tuple[Tensor, ...]]:
    """What a client has to send; None for a model of which tensors cannot say it."""
    if wanted is None or wanted.free:
        return None
    single = "input" if wanted.is_tensors else ""
    found = [_tensor(each, single or f"input-{n}") for n, each in enumerate(wanted.inputs)]
    return tuple(filter(None, found)) if all(found) else None


def outputs(wanted: Signature) -> tuple[Tensor, ...]:
    """What comes back, as far as the signature tells."""
    found = [_tensor(each, "output") for each in wanted.outputs]
    return tuple(filter(None, found)) if all(found) else ()


def as_input(given: Mapping[str, Any], wanted: Signature) -> Any:
    """Arrays as the ``input_data`` of a request, in the form of the signature."""
    if wanted.is_tensors:
        arrays = {name: _texts(array) for name, array in given.items()}
        return arrays if wanted.is_named else arrays["input"]
    names = [each.name or f"input-{number}" for number, each in enumerate(wanted.inputs)]
    columns = {
        name: _column(given[name], spec)
        for name, spec in zip(names, wanted.inputs)
        if name in given
    }
    if wanted.is_named:
        return columns
    if len({len(values) for values in columns.values()}) > 1:
        raise misfit("its columns have different lengths", wanted)
    return [list(row) for row in zip(*columns.values())]


def as_output(result: Any, wanted: Signature) -> dict[str, Any]:
    """A prediction as arrays by name."""
    if hasattr(result, "to_frame") and hasattr(result, "index"):  # a Series
        result = result.to_frame()
    if hasattr(result, "columns") and hasattr(result, "to_dict"):
        return {str(name): _array(result[name].to_numpy()) for name in result.columns}
    if isinstance(result, Mapping):
        return {str(name): _array(value) for name, value in result.items()}
    first = wanted.outputs[0].name if len(wanted.outputs) == 1 else None
    return {first or "output": _array(result)}


def _tensor(spec: Spec, name: str) -> Optional[Tensor]:
    datatype = _DATATYPES.get(spec.type) if isinstance(spec.type, str) else None
    if datatype is None:
        return None
    return Tensor(spec.name or name, datatype, spec.shape or (ANY,), spec.required)


def _column(array: Any, spec: Spec) -> list[Any]:
    values = array.ravel().tolist()
    if array.dtype.kind != "O":
        return values  # type: ignore[no-any-return]
    if spec.type == signatures.BINARY:
        return [base64.b64encode(value).decode() for value in values]
    return _decoded(values, spec.name)


def _texts(array: Any) -> Any:
    """Elements of BYTES as text; a tensor of the signature's holds no other bytes."""
    if array.dtype.kind != "O":
        return array
    import numpy

    made = numpy.empty(array.size, dtype=object)
    made[:] = _decoded(array.ravel().tolist(), None)
    return made.reshape(array.shape)


def _decoded(values: list[Any], name: Optional[str]) -> list[Any]:
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError:
        label = f"column {name!r}" if name is not None else "the tensor"
        raise misfit(f"{label} has bytes that are no text in UTF-8") from None


def _array(value: Any) -> Any:
    import numpy

    value = value.toarray() if hasattr(value, "toarray") else value  # of scipy's sparse ones
    array = numpy.asarray(value)
    return array.astype(str) if array.dtype.kind in "Mm" else array
