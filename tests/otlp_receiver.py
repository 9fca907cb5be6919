"""A receiver of OTLP over HTTP, as a collector has one, that keeps what it is sent."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True)
class GotSpan:
    name: str
    service: str
    instance: str
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    kind: int
    began: float
    ended: float
    failed: bool
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class GotLine:
    service: str
    text: str
    level: str
    trace_id: str
    span_id: str


@dataclass
class Receiver:
    url: str
    spans: list[GotSpan] = field(default_factory=list)
    lines: list[GotLine] = field(default_factory=list)

    def of_trace(self, trace_id: str) -> dict[str, GotSpan]:
        """The spans of a trace by their names."""
        return {span.name: span for span in list(self.spans) if span.trace_id == trace_id}

    def take_spans(self, body: bytes) -> None:
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = _values(group.resource.attributes)
            for span in (span for scope in group.scope_spans for span in scope.spans):
                got = GotSpan(
                    span.name,
                    about["service.name"],
                    about.get("service.instance.id", ""),
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.trace_state,
                    span.kind,
                    round(span.start_time_unix_nano / 1e9, 6),
                    round(span.end_time_unix_nano / 1e9, 6),
                    span.status.code == span.status.STATUS_CODE_ERROR,
                    _values(span.attributes),
                )
                self.spans.append(got)

    def take_lines(self, body: bytes) -> None:
        for group in ExportLogsServiceRequest.FromString(body).resource_logs:
            service = _values(group.resource.attributes)["service.name"]
            for line in (line for scope in group.scope_logs for line in scope.log_records):
                ids = line.trace_id.hex(), line.span_id.hex()
                text = line.body.string_value
                self.lines.append(GotLine(service, text, line.severity_text, *ids))


def _values(pairs: Any) -> dict[str, Any]:
    return {p.key: getattr(p.value, p.value.WhichOneof("value")) for p in pairs}


@contextmanager
def receiving() -> Iterator[Receiver]:
    """One that listens on loopback until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            (receiver.take_spans if self.path == "/v1/traces" else receiver.take_lines)(body)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
