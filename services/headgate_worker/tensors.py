"""For scoring scripts with ``run_batch``: many small inputs to one large one, and back.

``from headgate_worker import tensors``. Everything takes and gives numpy arrays, and PyTorch's
tensors where a script has them; either library is imported when it is needed, not before.

    def init():
        global predict
        predict = tensors.Predictor(torch.jit.load(path))

    def run_batch(items):
        return [scores.tolist() for scores in predict([json.loads(item)["data"] for item in items])]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union


def stack(arrays: Sequence[Any], *, pad: Optional[float] = None) -> Any:
    """Arrays of one shape as an array with one more axis in front: ``n`` of (a, b) give (n, a, b).

    With ``pad``, shapes may differ in their lengths: each is filled up with that value, at the
    ends, to the largest of all. Nested lists will do for arrays. Raises ValueError when shapes do
    not fit.
    """
    torch = _torch_of(arrays)
    parts = [torch.as_tensor(each) if torch is not None else _array(each) for each in arrays]
    shapes = [tuple(part.shape) for part in parts]
    if len(set(shapes)) <= 1:
        return torch.stack(parts) if torch is not None else _numpy().stack(parts)
    if pad is None or len({len(shape) for shape in shapes}) > 1:
        raise ValueError(
            f"arrays of shapes {_said(shapes)} cannot be stacked"
            + ("; pad= fills shorter ones up" if pad is None else "")
        )
    size = (len(parts), *(max(lengths) for lengths in zip(*shapes)))
    if torch is not None:
        made = parts[0].new_full(size, pad)
    else:
        made = _numpy().full(size, pad, dtype=_numpy().result_type(*parts))
    for number, part in enumerate(parts):
        made[(number, *(slice(length) for length in part.shape))] = part
    return made


def concatenate(arrays: Sequence[Any]) -> tuple[Any, list[int]]:
    """Arrays of several rows each, joined along their first axis, and how many rows each had.

    The counts are what ``split`` wants. Raises ValueError when the other axes differ.
    """
    torch = _torch_of(arrays)
    parts = [torch.as_tensor(each) if torch is not None else _array(each) for each in arrays]
    shapes = [tuple(part.shape) for part in parts]
    if not all(shapes) or len({shape[1:] for shape in shapes}) > 1:
        raise ValueError(
            f"arrays of shapes {_said(shapes)} cannot be joined along their first axis"
        )
    joined = torch.cat(parts) if torch is not None else _numpy().concatenate(parts)
    return joined, [shape[0] for shape in shapes]


def split(output: Any, sizes: Optional[Sequence[int]] = None) -> list[Any]:
    """An output for many as a list with the output for each, as numpy arrays.

    ``sizes`` are numbers of rows, as ``concatenate`` gave them; without, each row is one output.
    Dicts, tuples and lists of arrays are split alike: a list of dicts, of tuples, of lists.
    """
    if isinstance(output, Mapping):
        columns = {name: split(value, sizes) for name, value in output.items()}
        return [dict(zip(columns, row)) for row in zip(*columns.values())]
    if isinstance(output, (tuple, list)) and output and hasattr(output[0], "shape"):
        rows = zip(*(split(value, sizes) for value in output))
        return [row if isinstance(output, tuple) else list(row) for row in rows]
    array = as_numpy(output)
    if sizes is None:
        return list(array)
    if sum(sizes) != len(array):
        raise ValueError(f"the output has {len(array)} rows, and {sum(sizes)} went in")
    parts, start = [], 0
    for size in sizes:
        parts.append(array[start : start + size])
        start += size
    return parts


def as_numpy(value: Any) -> Any:
    """A tensor on any device, or anything like an array, as a numpy array in main memory."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # numpy has no such type
            value = value.float()
        return value.numpy()
    return _numpy().asarray(value)


def choose_device(wanted: str = "auto") -> Any:
    """A ``torch.device``: the one that is named, or the fastest there is: CUDA, MPS, the CPU."""
    import torch

    if wanted != "auto":
        return torch.device(wanted)
    if torch.cuda.is_available():
        return torch.device("cuda")
    mps = getattr(torch.backends, "mps", None)
    return torch.device("mps" if mps is not None and mps.is_available() else "cpu")


class Predictor:
    """A PyTorch model that answers a list of inputs with a list of outputs, in one pass.

    ``model`` goes to ``device`` and into evaluation mode, and is called in inference mode. An input
    is an array or nested lists, for the model's one argument, or a dict of those by the names of
    its arguments. Floating-point inputs become the type of the model's own parameters. Outputs are
    numpy arrays, or dicts and tuples of them; ``pad`` is that of ``stack``.
    """

    def __init__(self, model: Any, *, device: str = "auto", pad: Optional[float] = None) -> None:
        import torch

        self._torch = torch
        self.device = choose_device(device)
        self.model = model.to(self.device).eval()
        self._pad = pad
        kinds = [p.dtype for p in self.model.parameters() if p.is_floating_point()]
        self._kind = kinds[0] if kinds else torch.get_default_dtype()

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """One output for each input, in order. Raises ValueError when shapes do not fit."""
        if isinstance(inputs[0], Mapping):
            names = list(inputs[0])
            given: Union[Any, dict[str, Any]] = {
                name: self._placed([each[name] for each in inputs]) for name in names
            }
        else:
            given = self._placed(inputs)
        with self._torch.inference_mode():
            output = self.model(**given) if isinstance(given, dict) else self.model(given)
        return split(output)

    def _placed(self, arrays: Sequence[Any]) -> Any:
        batch = self._torch.as_tensor(stack(arrays, pad=self._pad))
        kind = self._kind if batch.is_floating_point() else None
        if self.device.type == "cuda" and batch.device.type == "cpu":
            batch = batch.to(kind or batch.dtype).pin_memory()  # so that the copy need not wait
            return batch.to(self.device, non_blocking=True)
        return batch.to(self.device, kind)


def _numpy() -> Any:
    import numpy

    return numpy


def _array(value: Any) -> Any:
    return value if hasattr(value, "shape") else _numpy().asarray(value)


def _torch_of(arrays: Sequence[Any]) -> Any:
    """PyTorch, if these are its tensors."""
    torch = sys.modules.get("torch")
    if torch is None or not any(isinstance(each, torch.Tensor) for each in arrays):
        return None
    return torch


def _said(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(map(str, dict.fromkeys(shapes)))
