"""Azure's classes for scripts, under their import paths, without Azure's packages.

``from azureml.contrib.services.aml_request import rawhttp`` and its relatives work in any
environment. Where Flask is installed, the classes are Flask's with Azure's additions; where it is
not, they are small ones of our own. Flask is imported only by a script that asks for any of this.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Optional, TypeVar

from headgate_worker import monitoring, web
from headgate_worker.request import FAILED_HEADER

_REQUEST_MODULES = (
    "azureml_inference_server_http.api.aml_request",
    "azureml.contrib.services.aml_request",
)
_RESPONSE_MODULES = (
    "azureml_inference_server_http.api.aml_response",
    "azureml.contrib.services.aml_response",
)
_PARENTS = (
    "azureml_inference_server_http",
    "azureml_inference_server_http.api",
    "azureml",
    "azureml.ai",
    "azureml.contrib",
    "azureml.contrib.services",
)

_Run = TypeVar("_Run", bound=Callable[..., Any])
_classes: dict[str, type] = {}
_used: list[object] = []


def rawhttp(run: _Run) -> _Run:
    """Marks the script as one whose run() gets the HTTP request itself."""
    _used.append(run)
    return run


def rawhttp_was_used() -> bool:
    """As with Azure's server, the mark counts wherever in the script's modules it was set."""
    return bool(_used)


class _AmlResponse:
    """Azure's constructor, in front of a response class."""

    headers: Any

    def __init__(
        self,
        message: Any,
        status_code: Any,
        response_headers: Optional[Mapping[str, str]] = None,
        json_str: bool = False,
        run_function_failed: bool = False,
    ) -> None:
        if message is None or json_str:
            body, mimetype = json.dumps({} if message is None else message), "application/json"
        else:
            body, mimetype = message, None
        super().__init__(body, status=status_code, mimetype=mimetype)  # type: ignore[call-arg]
        self.headers[FAILED_HEADER] = str(run_function_failed)
        for name, value in (response_headers or {}).items():
            if name.lower() == "content-type":
                self.headers.remove(name)
            for part in value.split(","):  # Azure's way to repeat a header
                self.headers.add(name, part.strip())


def flask_module() -> Optional[ModuleType]:
    """Flask, if the script has brought it in, directly or through our classes."""
    return sys.modules.get("flask")


def request_class() -> type:
    """``AMLRequest``."""
    return _made("AMLRequest")


def response_class() -> type:
    """``AMLResponse``."""
    return _made("AMLResponse")


def _made(name: str) -> type:
    if not _classes:
        try:
            import flask
        except ImportError:
            _classes["AMLRequest"] = type("AMLRequest", (web.Request,), {})
            _classes["AMLResponse"] = type("AMLResponse", (_AmlResponse, web.Response), {})
        else:
            _classes["AMLRequest"] = type("AMLRequest", (flask.Request,), {})
            _classes["AMLResponse"] = type("AMLResponse", (_AmlResponse, flask.Response), {})
    return _classes[name]


class _Loader(importlib.abc.Loader):
    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ in _REQUEST_MODULES:
            module.AMLRequest = request_class()  # type: ignore[attr-defined]
            module.rawhttp = rawhttp  # type: ignore[attr-defined]
        elif module.__name__ in _RESPONSE_MODULES:
            module.AMLResponse = response_class()  # type: ignore[attr-defined]
        elif module.__name__.startswith(monitoring.PACKAGE):
            monitoring.fill(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds our modules; ``packages`` are namespaces, so that they have a place to be in."""

    def __init__(self, names: Sequence[str], *, packages: bool) -> None:
        self._names = frozenset(names)
        self._packages = packages

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]], target: Optional[ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        if fullname not in self._names:
            return None
        return importlib.machinery.ModuleSpec(fullname, _Loader(), is_package=self._packages)


def install() -> None:
    """Ours before anybody's; the packages around them, and Azure's collector, only where nobody
    else has them."""
    sys.meta_path.insert(0, _Finder(_REQUEST_MODULES + _RESPONSE_MODULES, packages=False))
    sys.meta_path.append(_Finder(_PARENTS + monitoring.MODULES, packages=True))
