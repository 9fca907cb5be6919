"""What the tables take in goes to a collector as well: spans, and lines with their trace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from headgate.logs import export, spans
from headgate.logs.export import Export
from headgate.runtime.clock import SystemClock
from headgate.runtime.otlp import Otlp
from headgate.runtime.tracing import Tracer, derived_id
from headgate_contracts.logs import ConsoleLogged, TraceLogged, TraceRow
from logs.conftest import AT, MakeWorld, console_row

TRACE, CALLER, OWN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"
RUN = derived_id(OWN, "run")


def trace_row(**said: object) -> TraceRow:
    about = {
        "at": AT + 1.0,
        "workspace": "local",
        "endpoint": "digits",
        "deployment": "blue",
        "instance": "i1",
        "router": "r1",
        "request_id": "request-1",
        "status": 200,
        "tries": 1,
        "total_ms": 1000.0,
        "edge_ms": 100.0,
        "queue_ms": 200.0,
        "bus_ms": 40.0,
        "worker_ms": 160.0,
        "model_ms": 450.0,
        "answer_ms": 50.0,
        "trace_id": TRACE,
        "span_id": OWN,
        "parent_id": CALLER,
        "run_id": RUN,
        "method": "POST",
        "path": "/score",
    }
    return TraceRow.model_validate({**about, **said})


def test_a_request_is_a_tree_of_spans_in_the_order_of_time() -> None:
    found = {span.name: span for span in spans.spans_of(trace_row())}
    whole, run = found["POST /score"], found["run()"]
    parents = {name: span.parent_id for name, span in found.items()}
    assert parents == {
        "POST /score": CALLER,
        "queue": OWN,
        "send": OWN,
        "instance": found["send"].span_id,
        "run()": found["instance"].span_id,
    }
    assert {span.trace_id for span in found.values()} == {TRACE}
    assert (whole.service, run.service) == ("headgate-router", "digits/blue")
    times = {name: (round(s.began - AT, 3), round(s.ended - AT, 3)) for name, s in found.items()}
    assert times == {
        "POST /score": (0.0, 1.0),
        "queue": (0.1, 0.3),
        "send": (0.3, 0.95),
        "instance": (0.32, 0.93),
        "run()": (0.48, 0.93),
    }
    assert spans.spans_of(trace_row()) == spans.spans_of(trace_row())


def test_where_a_request_ended_that_got_no_answer() -> None:
    lost = trace_row(status=408, reason="RequestTimeout", worker_ms=None, model_ms=None)
    assert [span.name for span in spans.spans_of(lost)] == ["POST /score", "queue", "send"]
    refused = lost.model_copy(update={"bus_ms": None, "status": 503})
    assert [span.name for span in spans.spans_of(refused)] == ["POST /score", "queue"]


def test_whose_fault_it_was_decides_what_is_an_error() -> None:
    def error(status: int, reason: str) -> str:
        return spans.spans_of(trace_row(status=status, reason=reason))[0].error

    assert error(200, "") == error(404, "NotFound") == error(429, "TooManyRequests") == ""
    assert error(503, "NoReadyInstance") == "NoReadyInstance"
    assert error(424, "") == "the model gave an error"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


async def test_what_the_service_takes_in_reaches_the_collector(make_world: MakeWorld) -> None:
    """A line that comes before its trace waits for it, one that is written outside of requests
    does not."""
    traced, logged = InMemorySpanExporter(), InMemoryLogRecordExporter()
    sink = Otlp(traced, logged)
    world = await make_world()
    await world.stop()
    bus = await world.connect("logs")
    bus.tracer = Tracer("logs", world.clock, sink)
    world.service = await export_service(world, bus)
    rows = (console_row("before", request_id="request-1"), console_row("outside"))
    await world.say("provisioner", ConsoleLogged(writer="p", rows=rows))
    await world.until(lambda reply: len(reply.rows) == 2, "console")
    await world.say("router", TraceLogged(writer="r1", rows=(trace_row(),)))
    await world.until(lambda reply: len(reply.rows) == 1, "traces", where=f"TraceId == '{TRACE}'")

    def exported() -> bool:
        sink._span_processor.force_flush()
        sink._line_processor.force_flush()
        return len(traced.get_finished_spans()) >= 5 and len(logged.get_finished_logs()) >= 2

    await until(exported)
    sink.close()
    run = next(span for span in traced.get_finished_spans() if span.name == "run()")
    assert f"{run.context.span_id:016x}" == RUN
    assert run.resource.attributes["service.name"] == "digits/blue"
    lines = {log.log_record.body: log.log_record for log in logged.get_finished_logs()}
    before, outside = lines["before"], lines["outside"]
    assert (f"{before.trace_id:032x}", f"{before.span_id:016x}") == (TRACE, RUN)
    assert not outside.trace_id
    assert before.attributes is not None
    assert before.attributes["headgate.request_id"] == "request-1"


async def export_service(world: object, bus: object) -> object:
    from headgate.logs import app

    service = await app.build(world.settings, bus, world.clock)  # type: ignore[attr-defined,arg-type]
    await service.start()
    return service


class Kept:
    def __init__(self) -> None:
        self.got: list[str] = []

    def spans(self, spans: object) -> None: ...

    def lines(self, lines: object) -> None:
        self.got += [f"{line.text} {line.trace_id[:4]}" for line in lines]  # type: ignore[attr-defined]


def test_lines_wait_no_longer_than_said_and_never_too_many(monkeypatch: object) -> None:
    sink, clock = Kept(), SystemClock()
    held = Export(sink, clock)
    held.add([ConsoleLogged(writer="p", rows=(console_row("waits", request_id="request-1"),))])
    now = clock.monotonic()
    held.let_go(now)
    assert sink.got == []
    held.add([TraceLogged(writer="r1", rows=(trace_row(),))])
    held.let_go(now + export.TRACE_WAIT_S + 1)
    assert sink.got == [f"waits {TRACE[:4]}"]
    many = tuple(console_row(str(i), request_id=f"r{i}") for i in range(export.LINES_HELD_MAX + 2))
    held.add([ConsoleLogged(writer="p", rows=many)])
    held.let_go(now)
    assert sink.got[1:] == ["0 ", "1 "]
