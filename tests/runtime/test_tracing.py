"""Trace contexts, spans of the control plane, and their way to a collector."""

from __future__ import annotations

import pytest

from headgate.runtime import otlp, tracing
from headgate.runtime.clock import SystemClock
from headgate.runtime.tracing import Context, Line, Span, Tracer
from headgate_contracts.errors import ErrorCode, HeadgateError
from otlp_receiver import receiving

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Kept:
    """A sink in memory."""

    def __init__(self) -> None:
        self.got: list[Span] = []

    def spans(self, spans: object) -> None:
        self.got += spans  # type: ignore[arg-type]

    def lines(self, lines: object) -> None: ...


@pytest.mark.parametrize(
    ("given", "context"),
    [
        (f"00-{TRACE}-{SPAN}-01", Context(TRACE, SPAN)),
        (f"00-{TRACE}-{SPAN}-00", Context(TRACE, SPAN, is_sampled=False)),
        (f" 00-{TRACE}-{SPAN}-03 ", Context(TRACE, SPAN)),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", Context(TRACE, SPAN)),
        (f"cc-{TRACE}-{SPAN}-01.what", None),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE[1:]}-{SPAN}-01", None),
        ("", None),
    ],
)
def test_a_traceparent_is_read_as_the_recommendation_says(
    given: str, context: Context | None
) -> None:
    assert tracing.parse(given) == context


def test_what_is_written_can_be_read() -> None:
    for context in (tracing.new_context(), Context(TRACE, SPAN, is_sampled=False)):
        assert tracing.parse(context.traceparent) == context


def test_parts_of_a_span_have_ids_that_everybody_can_tell() -> None:
    assert tracing.derived_id(SPAN, "run") == tracing.derived_id(SPAN, "run")
    assert tracing.derived_id(SPAN, "run") != tracing.derived_id(SPAN, "queue")


def test_a_span_is_the_parent_of_what_is_done_inside() -> None:
    kept = Kept()
    tracer = Tracer("registry", SystemClock(), kept)
    with tracer.span("outer", "server", Context(TRACE, SPAN)) as outer:
        assert tracing.current() == outer.context
        headers = tracing.headers()
        with pytest.raises(ZeroDivisionError), tracer.span("inner", "internal", outer.context):
            raise ZeroDivisionError("no")
    assert tracing.current() is None and tracing.headers() == {}
    assert tracing.of_headers(headers) == outer.context
    inner, whole = kept.got
    assert (inner.trace_id, inner.parent_id, inner.error) == (TRACE, whole.span_id, "no")
    assert (whole.trace_id, whole.parent_id, whole.error) == (TRACE, SPAN, "")
    assert whole.began <= inner.began <= inner.ended <= whole.ended


@pytest.mark.parametrize(
    ("code", "failed"), [(ErrorCode.RESOURCE_NOT_FOUND, False), (ErrorCode.UNAVAILABLE, True)]
)
def test_what_the_caller_did_wrong_is_no_failure(code: ErrorCode, failed: bool) -> None:
    kept = Kept()
    tracer = Tracer("registry", SystemClock(), kept)
    with pytest.raises(HeadgateError), tracer.span("get_endpoint", "server"):
        raise HeadgateError(code, "said")
    (span,) = kept.got
    assert bool(span.error) is failed and span.attributes["error.type"] == code.value


@pytest.mark.parametrize(
    ("parent", "share", "wanted"),
    [
        (None, 1.0, True),
        (None, 0.0, False),
        (Context(TRACE, SPAN), 0.0, True),
        (Context(TRACE, SPAN, is_sampled=False), 1.0, False),
    ],
)
def test_a_caller_decides_before_the_dice(
    parent: Context | None, share: float, wanted: bool
) -> None:
    assert Tracer("gateway", SystemClock(), Kept(), share).wants(parent) is wanted


def test_a_collector_gets_spans_and_lines_as_they_are() -> None:
    span = Span(
        TRACE,
        SPAN,
        "00f067aa0ba902b7",
        "POST /score",
        "server",
        1_900_000_000.5,
        1_900_000_001.25,
        "headgate-router",
        "r1",
        "vendor=1",
        {"http.response.status_code": 503},
        "NoReadyInstance",
    )
    top = Span(TRACE, "c7ad6b7169203331", "", "GET", "server", 1.0, 2.0, "headgate-gateway")
    line = Line(1_900_000_001.0, "digits/blue", "i1", "WARNING", "hm", TRACE, SPAN)
    with receiving() as receiver:
        sink = otlp.connect(receiver.url)
        sink.spans((span, top))
        sink.lines((line, Line(1.0, "digits/blue", "i1", "", "outside")))
        sink.close()
    got, other = receiver.spans
    assert (got.trace_id, got.span_id, got.parent_id) == (TRACE, SPAN, span.parent_id)
    assert (got.name, got.service, got.instance) == (span.name, span.service, "r1")
    assert (got.state, got.failed, got.kind) == ("vendor=1", True, 2)
    assert (got.began, got.ended) == (span.began, span.ended)
    assert got.attributes == {"http.response.status_code": 503}
    assert (other.trace_id, other.parent_id, other.failed) == (TRACE, "", False)
    within, outside = receiver.lines
    assert (within.text, within.level, within.service) == ("hm", "WARNING", "digits/blue")
    assert (within.trace_id, within.span_id) == (TRACE, SPAN)
    assert (outside.trace_id, outside.span_id) == ("", "")
