"""The signature of an MLflow model: its inputs, outputs and parameters, and words for them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Optional

NAMED_MAX = 20

BOOLEAN, INTEGER, LONG, FLOAT, DOUBLE = "boolean", "integer", "long", "float", "double"
STRING, BINARY, DATETIME = "string", "binary", "datetime"
SCALARS = (BOOLEAN, INTEGER, LONG, FLOAT, DOUBLE, STRING, BINARY, DATETIME)


class Spec(NamedTuple):
    """A column, or a tensor if it has a shape. ``type`` is a word, or MLflow's nested form."""

    name: Optional[str]
    type: Any
    required: bool = True
    shape: Optional[tuple[int, ...]] = None

    @property
    def is_scalar(self) -> bool:
        return self.shape is None and self.type in SCALARS

    def __str__(self) -> str:
        said = _type_said(self.type)
        if self.shape is not None:
            said = f"tensor of {said}, shape {shape_said(self.shape)}"
        said = said if self.required else f"{said}, optional"
        return f"{self.name!r} ({said})" if self.name is not None else said


class Signature(NamedTuple):
    """``free``: made from the type hints of the model's own code, which checks its input itself."""

    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]
    params: tuple[dict[str, Any], ...]
    free: bool = False

    @property
    def is_tensors(self) -> bool:
        return bool(self.inputs) and self.inputs[0].shape is not None

    @property
    def is_named(self) -> bool:
        return bool(self.inputs) and self.inputs[0].name is not None

    def names(self) -> list[str]:
        return [spec.name for spec in self.inputs if spec.name is not None]

    def wants(self) -> str:
        """What a caller has to send, in a sentence."""
        if self.is_named:
            said = _listed(map(str, self.inputs))
            kind = "tensor" if self.is_tensors else "column"
            return f"the model wants {kind}{'s' if len(self.inputs) > 1 else ''} {said}"
        if self.is_tensors:
            return f"the model wants one {self.inputs[0]}"
        count = len(self.inputs)
        said = _listed(map(str, self.inputs))
        return f"the model wants {count} column{'s' if count > 1 else ''} without names: {said}"

    def takes(self) -> str:
        """The parameters that a caller may send beside the input, in a sentence."""
        said = _listed(
            f"{each.get('name')!r} ({_type_said(_simple(each.get('type', 'any')))}, "
            f"default {json.dumps(each.get('default'))})"
            for each in self.params
        )
        return f"the model takes {said or 'none'}"


def read(document: Optional[Mapping[str, Any]], *, free: bool = False) -> Optional[Signature]:
    """A signature as the file MLmodel has it; None when it says nothing about the input."""
    if not document:
        return None
    inputs = tuple(_spec(entry) for entry in _entries(document.get("inputs")))
    if not inputs:
        return None
    outputs = tuple(_spec(entry) for entry in _entries(document.get("outputs")))
    return Signature(inputs, outputs, tuple(_entries(document.get("params"))), free)


def shape_said(shape: Iterable[int]) -> str:
    """``(any, 4)``: MLflow writes -1 where every size is right."""
    return f"({', '.join('any' if size < 0 else str(size) for size in shape)})"


def _entries(given: Any) -> list[dict[str, Any]]:
    """Inputs are JSON in a text; newer versions may have them as they are."""
    found = json.loads(given) if isinstance(given, str) else given
    return [entry for entry in found or () if isinstance(entry, dict)]


def _spec(entry: Mapping[str, Any]) -> Spec:
    name = entry.get("name")
    name = str(name) if name is not None else None
    required = bool(entry.get("required", not entry.get("optional", False)))
    tensor = entry.get("tensor-spec")
    if tensor is not None:
        return Spec(name, str(tensor["dtype"]), required, tuple(tensor["shape"]))
    kind = entry["type"]
    if kind not in SCALARS:
        kind = {key: entry[key] for key in entry if key not in ("name", "required", "optional")}
    return Spec(name, kind, required)


def _type_said(kind: Any) -> str:
    if isinstance(kind, str):
        return kind
    if kind.get("type") == "array":
        return f"array of {_type_said(_inner(kind, 'items'))}"
    if kind.get("type") == "map":
        return f"map of {_type_said(_inner(kind, 'values'))}"
    if kind.get("type") == "object":
        fields = kind.get("properties") or {}
        return f"object of {_listed(f'{k}: {_type_said(_simple(v))}' for k, v in fields.items())}"
    return str(kind.get("type", "any"))


def _inner(kind: Mapping[str, Any], key: str) -> Any:
    return _simple(kind.get(key) or {"type": "any"})


def _simple(kind: Any) -> Any:
    """``{"type": "double"}`` is "double"."""
    if isinstance(kind, dict) and kind.get("type") in SCALARS:
        return kind["type"]
    return kind


def _listed(words: Iterable[str]) -> str:
    found = list(words)
    more = len(found) - NAMED_MAX
    return ", ".join(found[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")


def named(names: Iterable[Any]) -> str:
    """Names in quotes, so that blanks in them are seen."""
    return _listed(repr(name) for name in names)
