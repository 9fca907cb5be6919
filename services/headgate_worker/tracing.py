"""The trace of a request as OpenTelemetry's current context, for scripts that use its API.

Spans that a script makes in ``run()`` are children of the span in the request's ``traceparent``,
whatever SDK it has set up. Nothing is done where nobody has loaded the API: nobody would see it.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Optional

from headgate_worker.request import Request

_HEADERS = ("traceparent", "tracestate", "baggage")


def around(
    request: Request, inner: Optional[AbstractContextManager[Any]]
) -> Optional[AbstractContextManager[Any]]:
    """``inner``, and around it what the request's headers tell of its trace."""
    if "opentelemetry.context" in sys.modules and request.header("traceparent"):
        return _Attached(request, inner or nullcontext())
    return inner


class _Attached(AbstractContextManager[Any]):
    def __init__(self, request: Request, inner: AbstractContextManager[Any]) -> None:
        self._told = {name: request.header(name) for name in _HEADERS if request.header(name)}
        self._inner = inner
        self._token: Any = None

    def __enter__(self) -> Any:
        from opentelemetry import context
        from opentelemetry.baggage.propagation import W3CBaggagePropagator
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        traced = TraceContextTextMapPropagator().extract(self._told)
        self._token = context.attach(W3CBaggagePropagator().extract(self._told, traced))
        return self._inner.__enter__()

    def __exit__(self, *error: Any) -> Any:
        from opentelemetry import context

        try:
            return self._inner.__exit__(*error)
        finally:
            context.detach(self._token)
