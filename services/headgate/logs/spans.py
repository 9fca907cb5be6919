"""What a traced request and a line of a log are for OpenTelemetry. Pure.

A request is five spans: the router's own; in it ``queue`` and ``send``; in that the instance's; in
that ``run()``, which the model was told of and whose children are the script's own spans. Names
of attributes are those of the semantic conventions where these have one.
"""

from __future__ import annotations

from headgate.runtime.tracing import Line, Scalar, Span, derived_id
from headgate_contracts import subjects
from headgate_contracts.logs import ConsoleRow, TraceRow

ROUTER = "headgate-router"
_MODEL_FAILED = 424


def spans_of(row: TraceRow) -> list[Span]:
    """The spans of a request, whoever tells them how often: ids follow from the request's own.

    What an instance tells is durations alone. Both ways on the bus are taken to be as long, and
    ``run()`` to be what an instance did last, for what it waits for comes before.
    """
    began = row.at - row.total_ms / 1000
    queued = began + row.edge_ms / 1000
    sent = queued + row.queue_ms / 1000
    about = _about(row)
    whole = Span(
        row.trace_id,
        row.span_id,
        row.parent_id,
        f"{row.method} {row.path}",
        "server",
        began,
        row.at,
        ROUTER,
        row.router,
        row.trace_state,
        {
            **about,
            "http.request.method": row.method,
            "url.path": row.path,
            "http.request.body.size": row.request_bytes,
            "http.response.status_code": row.status,
            "http.response.body.size": row.response_bytes,
            "headgate.tries": row.tries,
        },
        _error(row),
    )
    queue_id, send_id = (derived_id(row.span_id, part) for part in ("queue", "send"))
    spans = [whole, _part(whole, queue_id, "queue", "internal", queued, sent)]
    if row.bus_ms is None:
        return spans
    held_ms = (row.worker_ms or 0.0) + (row.model_ms or 0.0)
    answered = sent + (row.bus_ms + held_ms) / 1000
    subject = subjects.instance(row.endpoint, row.deployment, row.instance)
    bus: dict[str, Scalar] = {"messaging.system": "nats", "messaging.destination.name": subject}
    send = _part(whole, send_id, "send", "client", sent, answered, **bus)
    spans.append(send)
    if row.model_ms is None:
        return spans  # its instance has not answered
    came = sent + row.bus_ms / 2000
    left = came + held_ms / 1000
    instance = Span(
        row.trace_id,
        derived_id(row.span_id, "instance"),
        send.span_id,
        "instance",
        "server",
        came,
        left,
        service_of(row.endpoint, row.deployment),
        row.instance,
        row.trace_state,
        about,
    )
    run = _part(instance, row.run_id, "run()", "internal", left - row.model_ms / 1000, left)
    return [*spans, instance, run]


def line_of(row: ConsoleRow, trace: TraceRow | None) -> Line:
    """A line of a deployment's log; ``trace`` is that of the request which wrote it, if any."""
    about: dict[str, Scalar] = {
        "headgate.workspace": row.workspace,
        "headgate.endpoint": row.endpoint,
        "headgate.deployment": row.deployment,
        "headgate.container": row.container,
    }
    if row.request_id:
        about["headgate.request_id"] = row.request_id
    return Line(
        row.at,
        service_of(row.endpoint, row.deployment),
        row.instance,
        row.level,
        row.message,
        trace.trace_id if trace else "",
        trace.run_id if trace else "",
        about,
    )


def service_of(endpoint: str, deployment: str) -> str:
    """The name under which a deployment is a service."""
    return f"{endpoint}/{deployment}"


def _part(
    whole: Span, span_id: str, name: str, kind: str, began: float, ended: float, **about: Scalar
) -> Span:
    return Span(
        whole.trace_id,
        span_id,
        whole.span_id,
        name,
        kind,
        began,
        ended,
        whole.service,
        whole.instance,
        whole.state,
        about,
    )


def _about(row: TraceRow) -> dict[str, Scalar]:
    return {
        "headgate.workspace": row.workspace,
        "headgate.endpoint": row.endpoint,
        "headgate.deployment": row.deployment,
        "headgate.instance": row.instance,
        "headgate.request_id": row.request_id,
    }


def _error(row: TraceRow) -> str:
    """Why the request failed; what its client did wrong is no error of a server's span."""
    if row.status == _MODEL_FAILED:
        return row.reason or "the model gave an error"
    return row.reason or str(row.status) if row.status >= 500 else ""
