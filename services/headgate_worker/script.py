"""The user's scoring script: imported, checked and understood."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple, Optional

from headgate_worker import aml, batching, failure, memory, output, v2
from headgate_worker.batching import Batched
from headgate_worker.core import ERROR_MESSAGE_CHARS_MAX
from headgate_worker.settings import Settings

IMPORT_ERROR = "UserScriptImportError"
INIT_FAILED = "UserScriptInitFailed"
FUNCTION_NOT_FOUND = "UserScriptFunctionNotFound"

TEXT = "text"  # run(raw_data): the body as text
RAW = "raw"  # @rawhttp: the request itself
OBJECT = "object"  # @input_schema: one argument per key of a JSON object
TENSORS = "tensors"  # no run(), only infer(inputs): requests of the V2 protocol

MODULE = "entry_module"  # the reference server's name for it; schema tables are keyed by it
FILES_NAMED_MAX = 20


class ScriptError(Exception):
    """The script cannot serve. ``code`` is Azure's; the message quotes the script's own lines."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message[:ERROR_MESSAGE_CHARS_MAX]


class Script(NamedTuple):
    """A script that can be run."""

    name: str
    root: str
    init: Callable[[], Any]
    run: Callable[..., Any]
    mode: str
    parameters: tuple[inspect.Parameter, ...]  # without request_headers
    wants_headers: bool
    # Schemas of requests and answers, of a script that knows them itself.
    describe: Optional[Callable[[], tuple[dict[str, Any], dict[str, Any]]]] = None
    batched: Optional[Batched] = None  # requests share calls; run() is then only described
    # What is served under /v2, known after init(); None then: nothing.
    tensors: Optional[Callable[[], Optional[v2.Model]]] = None
    infer_is_async: bool = False

    @property
    def is_async(self) -> bool:
        if self.batched is not None:
            return False
        if self.infer_is_async:
            return True
        run = inspect.unwrap(self.run)
        return inspect.iscoroutinefunction(run) or inspect.isasyncgenfunction(run)


def load(settings: Settings) -> Script:
    """Imports the script and looks at its functions. Raises ScriptError."""
    name = settings.entry_script or "main.py"
    _make_importable(settings, name)
    aml.install()
    module = _import(settings, name)
    many, infer = (getattr(module, each, None) for each in ("run_batch", "infer"))
    if not callable(getattr(module, "init", None)):
        raise _lacks(name, "init")
    run = getattr(module, "run", None) or (_text if callable(many) or callable(infer) else None)
    if not callable(run):
        raise _lacks(name, "run")
    # A driver script prepares things in its init(), but only forwards run(), and badly so.
    driven = getattr(module, "driver_module", None)
    if isinstance(driven, ModuleType) and hasattr(driven, "run"):
        run = driven.run
    script = _understood(name, settings.app_root, module.init, run)
    if callable(infer):
        script = _with_infer(script, infer, only=run is _text and not callable(many))
    if callable(many):
        return script._replace(batched=_batched(script, many, module))
    if settings.batch_max_rows and (script.tensors is None or script.infer_is_async):
        raise ScriptError(
            FUNCTION_NOT_FOUND,
            f"The deployment asks for batching, and the scoring script {name} has no function "
            f"run_batch(items) and no plain infer(inputs). Define run_batch() to answer a list of "
            f"what run() gets, or leave the batching out.",
        )
    return script


def _with_infer(script: Script, infer: Callable[..., Any], *, only: bool) -> Script:
    """The script, served under /v2 besides; with nothing else, /score takes the same requests."""
    coroutine = inspect.iscoroutinefunction(inspect.unwrap(infer))
    script = script._replace(tensors=lambda: v2.of_script(infer), infer_is_async=coroutine)
    return script._replace(mode=TENSORS) if only else script


def _lacks(name: str, function: str) -> ScriptError:
    return ScriptError(
        FUNCTION_NOT_FOUND,
        f"The scoring script {name} has no function {function}(). Define init() without "
        f"arguments, called once, and run(raw_data), called for every request.",
    )


def initialise(script: Script, loop: Optional[asyncio.AbstractEventLoop]) -> None:
    """Calls init(), on the event loop that run() will have, if it needs one. Raises ScriptError."""
    try:
        result = script.init()
        if inspect.iscoroutine(result):
            loop.run_until_complete(result) if loop is not None else asyncio.run(result)
    except ScriptError:
        raise
    except BaseException as error:
        output.log("ERROR", failure.trace(error), 2)
        lacking = memory.explain(error)
        if lacking is not None:
            said = f"init() of the scoring script {script.name}: {lacking}"
            raise ScriptError(memory.CODE, said) from None
        raise ScriptError(
            INIT_FAILED,
            f"init() of the scoring script {script.name} failed: "
            f"{failure.describe(error, script.root)}",
        ) from None


def _make_importable(settings: Settings, name: str) -> None:
    """Modules beside the script can be imported: the code folder first, as Azure's server does."""
    folders = [os.path.dirname(os.path.join(settings.app_root, name))]
    if settings.source_dir:
        folders.append(os.path.join(settings.app_root, settings.source_dir))
    sys.path.insert(0, settings.app_root)
    sys.path += [folder for folder in folders if folder not in sys.path]


def _import(settings: Settings, name: str) -> ModuleType:
    try:
        if not settings.entry_script:
            return importlib.import_module("main")
        path = os.path.join(settings.app_root, name)
        spec = importlib.util.spec_from_file_location(MODULE, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{name} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[MODULE] = module
        spec.loader.exec_module(module)
        return module
    except BaseException as error:
        output.log("ERROR", failure.trace(error), 2)
        raise ScriptError(
            IMPORT_ERROR,
            f"The scoring script {name} cannot be imported: "
            f"{failure.describe(error, settings.app_root)}"
            f"{_advice(error, settings.app_root, name)}",
        ) from None


def _advice(error: BaseException, root: str, name: str) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name != "main":
        return f"\nAdd the package of {error.name!r} to the deployment's environment."
    if isinstance(error, (FileNotFoundError, ModuleNotFoundError)) and not os.path.exists(
        os.path.join(root, name)
    ):
        there = sorted(os.listdir(root))[:FILES_NAMED_MAX] if os.path.isdir(root) else []
        return f"\nThe code folder holds: {', '.join(there) or 'nothing'}."
    return ""


def _understood(name: str, root: str, init: Callable[[], Any], run: Callable[..., Any]) -> Script:
    parameters = tuple(inspect.signature(run).parameters.values())
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if any(parameter.kind not in kinds for parameter in parameters):
        raise ScriptError(
            FUNCTION_NOT_FOUND,
            f"run() of the scoring script {name} must not have positional-only parameters, *args "
            f"or **kwargs: name each input.",
        )
    inputs = tuple(p for p in parameters if p.name != "request_headers")
    if not inputs:
        raise ScriptError(
            FUNCTION_NOT_FOUND,
            f"run() of the scoring script {name} takes no input: give it a parameter for the "
            f"request's data.",
        )
    decorated = _has_schema(run)
    if decorated and aml.rawhttp_was_used():
        raise ScriptError(
            FUNCTION_NOT_FOUND,
            f"run() of the scoring script {name} has both @rawhttp and @input_schema: keep one.",
        )
    mode = RAW if aml.rawhttp_was_used() else OBJECT if decorated else TEXT
    return Script(name, root, init, run, mode, inputs, len(inputs) < len(parameters))


def _text(raw_data: str) -> None:
    """Stands for the run() of a script that has only run_batch() or infer()."""


def _batched(script: Script, run_batch: Callable[..., Any], module: ModuleType) -> Batched:
    """How the script's requests share calls of run_batch(). Raises ScriptError."""
    wrong = ""
    if inspect.iscoroutinefunction(inspect.unwrap(run_batch)):
        wrong = "must be a plain function; `async def run()` alone has many requests at once"
    elif _has_schema(run_batch):
        wrong = "must not have schemas of its own: put them on run(), which says what an item is"
    elif len(inspect.signature(run_batch).parameters) != 1:
        wrong = "must have one parameter: the list of items"
    if wrong:
        raise ScriptError(FUNCTION_NOT_FOUND, f"run_batch() of the script {script.name} {wrong}.")
    names = [each.name for each in script.parameters]
    names += ["request_headers"] if script.wants_headers else []
    return batching.of_script(script.run, names, run_batch, getattr(module, "batch_rows", None))


def _has_schema(run: Callable[..., Any]) -> bool:
    """Whether inference-schema's decorators are on it; whoever used them has imported it."""
    schemas = sys.modules.get("inference_schema.schema_util")
    return bool(schemas is not None and schemas.is_schema_decorated(run))
