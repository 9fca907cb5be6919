"""The paths of the Open Inference Protocol V2 below ``/v2``: what is there, and inference."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable
from typing import Any, NamedTuple, Union

from headgate_worker import __version__, tensors, v2_arrays, v2_requests
from headgate_worker.batching import Batched
from headgate_worker.inputs import InputError, Inputs
from headgate_worker.request import FAILED_HEADER, NOT_FAILED, Answer, Request
from headgate_worker.settings import Settings
from headgate_worker.v2 import Model
from headgate_worker.v2_requests import Asked

ROOT = "/v2"
ABSENT = (
    "this deployment does not speak the V2 protocol: its scoring script has no infer(inputs), and "
    "it is no MLflow model with a signature"
)
_JSON = ("Content-Type", "application/json")
_GET = ("GET", "HEAD")
_POST = ("POST",)


class Inference(NamedTuple):
    """A request for the model: what it gets, and what the answer must know of it."""

    inputs: Inputs
    asked: Asked


class Service:
    """One model under ``/v2``."""

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model = model
        self.name = model.name or settings.endpoint
        self._names = {self.name, settings.endpoint, settings.deployment}
        self.version = os.path.basename(settings.model_dir) or "1"
        self.batched = _batched(model) if settings.batch_max_rows else None

    def begin(self, request: Request) -> Union[Answer, Inference]:
        """An answer, or what the model is to be asked. Raises InputError."""
        if not is_path(request.path):
            return self._infer(request)
        parts = request.path[len(ROOT) :].strip("/").split("/")
        if parts == [""]:
            return self._said(request, self._server())
        if parts in (["health", "live"], ["health", "ready"]):
            return self._said(request, {parts[1]: True})
        if parts[0] != "models" or len(parts) < 2:
            raise InputError(404, f"there is no {request.path[:200]!r} here")
        self._check_name(parts[1])
        rest = parts[2:]
        if rest[:1] == ["versions"] and len(rest) > 1:
            self._check_version(rest[1])
            rest = rest[2:]
        if rest == []:
            return self._said(request, self._metadata())
        if rest == ["ready"]:
            return self._said(request, {"name": self.name, "ready": True})
        if rest == ["infer"]:
            return self._infer(request)
        raise InputError(404, f"there is no {request.path[:200]!r} here")

    def _infer(self, request: Request) -> Inference:
        """Raises InputError."""
        _check_method(request, _POST)
        asked = v2_requests.read(request, self.model)
        given = v2_arrays.arrays(asked)
        return Inference({"inputs": given, "parameters": asked.parameters}, asked)

    def answer(self, asked: Asked, result: Any) -> Answer:
        """Raises InputError and TypeError."""
        about: dict[str, Any] = {"model_name": self.name, "model_version": self.version}
        if asked.id:
            about["id"] = asked.id
        headers, body = v2_arrays.answer(asked, result, about)
        return Answer(200, [*headers, NOT_FAILED], body)

    def _check_name(self, name: str) -> None:
        if name not in self._names:
            raise InputError(404, f"there is no model {name[:200]!r} here; it is {self.name!r}")

    def _check_version(self, version: str) -> None:
        if version != self.version:
            said = f"model {self.name!r} has no version {version[:80]!r}; it is {self.version!r}"
            raise InputError(404, said)

    def _server(self) -> dict[str, Any]:
        extensions = ["binary_tensor_data"]
        return {"name": "headgate", "version": __version__, "extensions": extensions}

    def _metadata(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": self.model.platform,
            "inputs": [tensor.described() for tensor in self.model.inputs],
            "outputs": [tensor.described() for tensor in self.model.outputs],
        }

    @staticmethod
    def _said(request: Request, value: dict[str, Any]) -> Answer:
        _check_method(request, _GET)
        return Answer(200, [_JSON], json.dumps(value).encode())


def is_path(path: str) -> bool:
    return path == ROOT or path.startswith(f"{ROOT}/")


def message(status: int, text: str, *, failed: bool = False) -> Answer:
    """A refusal, or a failure of the model, as this protocol says it."""
    flag = (FAILED_HEADER, str(failed))
    return Answer(status, [_JSON, flag], json.dumps({"error": text}).encode())


def _check_method(request: Request, allowed: tuple[str, ...]) -> None:
    if request.method not in allowed:
        raise InputError(405, f"{request.method[:20]} is not allowed here, only {allowed[0]}")


def _batched(model: Model) -> Batched:
    """Requests share a call when their tensors can be joined along the first axis."""

    def rows(item: Inputs) -> int:
        shape = next(iter(item["inputs"].values())).shape
        return shape[0] if shape else 1

    def key(item: Inputs) -> Hashable:
        given = item["inputs"]
        lengths = {array.shape[:1] for array in given.values()}
        if item["parameters"] or len(lengths) > 1 or () in lengths:
            return object()  # like no other
        kinds = ((name, array.dtype.str, array.shape[1:]) for name, array in given.items())
        return tuple(sorted(kinds))

    def many(items: list[Inputs]) -> list[Any]:
        if len(items) == 1:
            return [model.infer(**items[0])]
        joined = {
            name: tensors.concatenate([item["inputs"][name] for item in items])[0]
            for name in items[0]["inputs"]
        }
        return tensors.split(model.infer(joined, {}), [rows(item) for item in items])

    return Batched(lambda inputs: inputs, rows, key, many)
