"""The Open Inference Protocol V2 in scoring scripts: ``from headgate_worker import v2``.

A script that defines ``infer`` is served under ``/v2`` besides ``/score``. It gets a dict of numpy
arrays by name and returns one. Elements of BYTES are bytes, BF16 comes as float32.

    @v2.signature(inputs={"x": ("FP32", [-1, 4])}, outputs={"y": ("FP32", [-1])})
    def infer(inputs):
        return {"y": model.predict(inputs["x"])}

The decorator is optional: with it, requests are checked before they reach the script, and clients
can ask what the model takes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

# Bytes of one element; 0: each has its own length.
DATATYPES = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "BF16": 2,
    "FP32": 4,
    "FP64": 8,
    "BYTES": 0,
}
ANY = -1  # a length that is free

_Infer = TypeVar("_Infer", bound=Callable[..., Any])
_MARK = "__headgate_v2__"


class Tensor(NamedTuple):
    """One input or output; lengths of -1 in its shape are free."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    required: bool = True

    def described(self) -> dict[str, Any]:
        """As the metadata of a model has it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    def __str__(self) -> str:
        return f"{self.name!r} ({self.datatype}, shape {list(self.shape)})"


class Model(NamedTuple):
    """What is served. ``infer(inputs, parameters)`` gets arrays by name, and the request's own.

    Without ``inputs`` nothing is checked; ``exact``: not only names and shapes, but datatypes too.
    """

    infer: Callable[..., Any]
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    name: str = ""
    platform: str = "python"
    exact: bool = True


def signature(
    *,
    inputs: Mapping[str, tuple[str, Sequence[int]]],
    outputs: Mapping[str, tuple[str, Sequence[int]]],
    name: str = "",
) -> Callable[[_Infer], _Infer]:
    """Describes an ``infer`` function: for each tensor its datatype and shape.

    ``name`` is the model's name for clients; the endpoint's is used without it, and always counts.
    Raises ValueError for an unknown datatype or a shape that is none.
    """
    found = (_tensors(inputs), _tensors(outputs), name)

    def mark(infer: _Infer) -> _Infer:
        setattr(infer, _MARK, found)
        return infer

    return mark


def of_script(function: Callable[..., Any]) -> Model:
    """The model that a script's ``infer`` is; it may take the parameters of requests too."""
    takes, gives, name = getattr(function, _MARK, ((), (), ""))
    if "parameters" not in inspect.signature(function).parameters:
        return Model(lambda inputs, parameters: function(inputs), takes, gives, name)
    return Model(
        lambda inputs, parameters: function(inputs, parameters=parameters), takes, gives, name
    )


def _tensors(said: Mapping[str, tuple[str, Sequence[int]]]) -> tuple[Tensor, ...]:
    found = []
    for name, (datatype, shape) in said.items():
        if datatype not in DATATYPES:
            raise ValueError(f"{name!r}: {datatype!r} is none of {', '.join(DATATYPES)}")
        if not all(isinstance(length, int) and length >= ANY for length in shape):
            raise ValueError(f"{name!r}: {shape!r} is no shape: lengths are numbers, -1 is any")
        found.append(Tensor(name, datatype, tuple(shape)))
    return tuple(found)
