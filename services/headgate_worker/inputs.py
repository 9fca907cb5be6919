"""What run() is called with, by the way in which the script is written."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from headgate_worker.request import Request
from headgate_worker.script import OBJECT, RAW, Script

Inputs = dict[str, Any]
Reader = Callable[[Request], Inputs]


class InputError(Exception):
    """The request does not fit run(); nothing was run."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class MethodError(Exception):
    """Only GET and POST carry an input."""


def reader(script: Script) -> Reader:
    """How this script reads its requests. The reader raises InputError and MethodError."""
    if script.mode == RAW:
        raise AssertionError("a raw script gets the request itself")
    read = _object_reader(script) if script.mode == OBJECT else _text_reader(script)
    if not script.wants_headers:
        return read

    def read_with_headers(request: Request) -> Inputs:
        return {**read(request), "request_headers": request.header_dict()}

    return read_with_headers


def _text_reader(script: Script) -> Reader:
    name = script.parameters[0].name

    def read(request: Request) -> Inputs:
        if request.method == "POST":
            try:
                return {name: request.body.decode()}
            except UnicodeDecodeError as error:
                raise InputError(400, f"Input cannot be decoded as UTF-8: {error}") from None
        if request.method == "GET":
            return {name: json.dumps(_query(request))}
        raise MethodError

    return read


def _object_reader(script: Script) -> Reader:
    def read(request: Request) -> Inputs:
        if request.method == "POST":
            return _arguments(_json_object(request), script.parameters)
        if request.method == "GET":
            return _arguments(_query(request), script.parameters)
        raise MethodError

    return read


def _json_object(request: Request) -> dict[str, Any]:
    if not request.kind.is_json:
        raise InputError(415, "Expects Content-Type to be application/json")
    try:
        body = json.loads(request.body)
    except RecursionError:
        raise InputError(400, "POST body could not be decoded as JSON: nested too deeply") from None
    except ValueError as error:
        if not request.body:
            raise InputError(400, "POST body is empty. Expecting a JSON dictionary.") from None
        raise InputError(400, f"POST body could not be decoded as JSON: {error}") from None
    if not isinstance(body, dict):
        raise InputError(400, "POST body should be a JSON dictionary.")
    return body


def _arguments(given: dict[str, Any], parameters: tuple[inspect.Parameter, ...]) -> Inputs:
    """A value for each parameter; keys that run() does not name are ignored."""
    inputs: Inputs = {}
    for parameter in parameters:
        value = given.get(parameter.name, parameter.default)
        if value is inspect.Parameter.empty:
            raise InputError(400, f"A value is not provided for the {parameter.name!r} parameter.")
        inputs[parameter.name] = value
    return inputs


def _query(request: Request) -> dict[str, Any]:
    """``a=1&b=x&b=[2]`` as ``{"a": 1, "b": ["x", [2]]}``."""
    lists: dict[str, list[Any]] = {}
    for name, text in parse_qsl(request.query, keep_blank_values=True):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        lists.setdefault(name, []).append(value)
    return {name: found[0] if len(found) == 1 else found for name, found in lists.items()}
