"""``azureml.ai.monitoring`` for scripts whose environment lacks ``azureml-ai-monitoring``.

The same classes with the same behaviour. Data frames are read when they are given, and an event
without a context is correlated with the request that is being answered.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable
from types import ModuleType
from typing import Any, Optional

from headgate_worker import __version__, collecting, collector, output
from headgate_worker.collecting import Event

PACKAGE = "azureml.ai.monitoring"
MODULES = (PACKAGE, f"{PACKAGE}.collector", f"{PACKAGE}.context")

# The process's collector; None while nothing is collected.
current: Optional[collector.Collector] = None


class CorrelationContext:
    """What events that belong together share."""

    def get_id(self) -> str:
        return ""

    def get_timestamp(self) -> int:
        return int(time.time())

    def get_headers(self) -> dict[str, Any]:
        return {}

    def __str__(self) -> str:
        return self.get_id()

    __repr__ = __str__


class BasicCorrelationContext(CorrelationContext):
    """A context with an id of one's own."""

    def __init__(
        self,
        id: Optional[str] = None,
        timestamp: Optional[int] = None,
        headers: Optional[dict[str, Any]] = None,
    ) -> None:
        self.id = id or str(uuid.uuid4())
        self.timestamp = timestamp or int(time.time())
        self.headers = headers or {}

    def get_id(self) -> str:
        return self.id

    def get_timestamp(self) -> int:
        return self.timestamp

    def get_headers(self) -> dict[str, Any]:
        return self.headers


def get_context() -> CorrelationContext:
    """The context of the request that is being answered, if there is one."""
    request = output.tag(output.REQUEST.get())
    return BasicCorrelationContext(None if request == "-" else request)


def _raise(error: Exception) -> None:
    raise error


class Collector:
    """Collects data frames under a name that the deployment's ``data_collector`` enables."""

    def __init__(self, *, name: str, on_error: Optional[Callable[[Exception], Any]] = None) -> None:
        self.name = name
        self.on_error: Callable[[Exception], Any] = on_error or _raise
        self._checked()

    def collect(
        self, data: Any, correlation_context: Optional[CorrelationContext] = None
    ) -> CorrelationContext:
        """Writes a data frame down, row by row; the context is for what belongs to it."""
        context = correlation_context if correlation_context is not None else get_context()
        found = self._checked()
        if found is None or current is None or not collecting.sampled(context.get_id(), found.rate):
            return context
        pandas = sys.modules.get("pandas")
        if pandas is None or not isinstance(data, pandas.DataFrame):
            kind = type(data).__name__
            said = f"data type ({kind}) not supported, supported types: pandas.DataFrame"
            self.on_error(TypeError(said))
            return context
        pairs = {str(name): str(value) for name, value in context.get_headers().items()}
        about = {
            **collecting.attributes(pairs),
            "modelversion": "default",
            "collectdatatype": "pandas.core.frame.DataFrame",
            "agent": f"headgate_worker/{__version__}",
        }
        try:
            body = data.to_json(orient="records").encode("utf-8", "replace")
        except Exception as error:
            self.on_error(error)
            return context
        at = float(context.get_timestamp())
        event = Event(found, at, context.get_id(), collecting.JSON, body, about)
        if not current.add(event):
            said = "Too many requests lead to message queue is full, please reduce the number"
            self.on_error(Exception(f"{said} of requests."))
        return context

    def _checked(self) -> Optional[collecting.Collection]:
        if not self.name:
            self.on_error(Exception("collection name is not provided"))
        elif current is None or not current.plan.custom:
            self.on_error(Exception("custom logging is not enabled, drop the data"))
        else:
            found = collector.custom(current.plan, self.name)
            if found is not None:
                return found
            self.on_error(Exception(f"collection {self.name} is not enabled, drop the data"))
        return None


def fill(module: ModuleType) -> None:
    """Gives a module of ours what it has in Azure's package."""
    names: tuple[type, ...] = (Collector,)
    if module.__name__.endswith(".context"):
        names = (CorrelationContext, BasicCorrelationContext)
        module.get_context = get_context  # type: ignore[attr-defined]
    for each in names:
        setattr(module, each.__name__, each)
