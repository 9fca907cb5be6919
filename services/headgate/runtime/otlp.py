"""Spans and log lines on their way to an OpenTelemetry collector, by the SDK (extra ``otel``).

The SDK's batch processors have a thread and a bounded queue each, so nobody here ever waits; what
a collector does not take in time is lost, and the SDK logs so. Its own environment variables count
as well: ``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_EXPORTER_OTLP_CERTIFICATE``, ``OTEL_BSP_*``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from opentelemetry import trace as api
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from headgate import __version__
from headgate.runtime.tracing import Line, Span

SCOPE = "headgate"
SERVICES_MAX = 1_000  # services and instances whose resource is remembered
_SEVERITY = {
    "DEBUG": SeverityNumber.DEBUG,
    "INFO": SeverityNumber.INFO,
    "WARNING": SeverityNumber.WARN,
    "ERROR": SeverityNumber.ERROR,
    "CRITICAL": SeverityNumber.FATAL,
}


class _Ids(IdGenerator):
    """Gives the ids that a span has already."""

    def __init__(self) -> None:
        self.trace_id = self.span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


class Otlp:
    """A sink for the spans and lines of all services in this process."""

    def __init__(self, spans: SpanExporter, lines: LogRecordExporter) -> None:
        self._span_processor = BatchSpanProcessor(spans)
        self._line_processor = BatchLogRecordProcessor(lines)
        self._ids = _Ids()
        self._tracers: OrderedDict[tuple[str, str], api.Tracer] = OrderedDict()
        self._loggers: OrderedDict[tuple[str, str], LoggerProvider] = OrderedDict()

    def spans(self, spans: Iterable[Span]) -> None:
        for span in spans:
            self._ids.trace_id, self._ids.span_id = int(span.trace_id, 16), int(span.span_id, 16)
            context = _context(span.trace_id, span.parent_id, span.state)
            made = self._tracer(span.service, span.instance).start_span(
                span.name,
                context,
                kind=SpanKind[span.kind.upper()],
                attributes=span.attributes,
                start_time=_ns(span.began),
                record_exception=False,
            )
            if span.error:
                made.set_status(Status(StatusCode.ERROR, span.error))
            made.end(_ns(span.ended))

    def lines(self, lines: Iterable[Line]) -> None:
        for line in lines:
            self._logger(line.service, line.instance).get_logger(SCOPE, __version__).emit(
                LogRecord(
                    timestamp=_ns(line.at),
                    context=_context(line.trace_id, line.span_id),
                    severity_text=line.level or None,
                    severity_number=_SEVERITY.get(line.level, SeverityNumber.UNSPECIFIED),
                    body=line.text,
                    attributes=line.attributes,
                )
            )

    def close(self) -> None:
        """Send what is there, and stop."""
        self._span_processor.shutdown()
        self._line_processor.shutdown()

    def _tracer(self, service: str, instance: str) -> api.Tracer:
        found = self._tracers.get((service, instance))
        if found is None:
            provider = TracerProvider(
                sampler=ALWAYS_ON,
                resource=_resource(service, instance),
                shutdown_on_exit=False,
                id_generator=self._ids,
            )
            provider.add_span_processor(self._span_processor)
            found = self._tracers[service, instance] = provider.get_tracer(SCOPE, __version__)
            if len(self._tracers) > SERVICES_MAX:
                self._tracers.popitem(last=False)
        return found

    def _logger(self, service: str, instance: str) -> LoggerProvider:
        found = self._loggers.get((service, instance))
        if found is None:
            resource = _resource(service, instance)
            found = LoggerProvider(resource=resource, shutdown_on_exit=False)
            found.add_log_record_processor(self._line_processor)
            self._loggers[service, instance] = found
            if len(self._loggers) > SERVICES_MAX:
                self._loggers.popitem(last=False)
        return found


def connect(url: str) -> Otlp:
    """A sink that exports to the collector at a URL by OTLP over HTTP."""
    base = url.rstrip("/")
    return Otlp(
        OTLPSpanExporter(endpoint=f"{base}/v1/traces"), OTLPLogExporter(endpoint=f"{base}/v1/logs")
    )


def _ns(at: float) -> int:
    """Unix time in nanoseconds; a float of today has microseconds."""
    return round(at * 1_000_000) * 1_000


def _resource(service: str, instance: str) -> Resource:
    told = {"service.name": service, "service.namespace": "headgate"}
    if instance:
        told["service.instance.id"] = instance
    return Resource(told)


def _context(trace_id: str, span_id: str, state: str = "") -> Context:
    """Where a span or a line belongs; without a span, at the top."""
    if not span_id:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED)
    about = TraceState.from_header([state]) if state else None
    parent = SpanContext(int(trace_id, 16), int(span_id, 16), True, flags, about)
    return api.set_span_in_context(api.NonRecordingSpan(parent), Context())
