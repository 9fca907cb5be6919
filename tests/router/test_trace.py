"""Traces: who is traced, and that the spans tell where the time went."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from headgate.router import trace
from headgate.runtime import natsd
from headgate_contracts.logs import TraceRow
from router.stage import Stage, request, staged
from router.test_streams import ASYNC, Served, head_of, serving, whole

SLEEPS = """
    import time

    def init():
        pass

    def run(data):
        time.sleep(float(data))
        return "slept"
"""
ASKED = "x-headgate-trace: true\r\n"
SPANS = ("edge_ms", "queue_ms", "bus_ms", "worker_ms", "model_ms", "answer_ms")


def traces(stage: Stage) -> list[TraceRow]:
    return stage.router.traces.rows


def assert_whole(row: TraceRow) -> None:
    """The spans follow one another without a gap."""
    spans = [getattr(row, span) for span in SPANS]
    assert all(span >= 0 for span in spans), row
    assert sum(spans) == pytest.approx(row.total_ms, abs=0.01)


async def ask(served: Served, body: str, headers: str = "") -> bytes:
    wire = await served.send(body, headers=headers)
    return await whole(wire)


@pytest.mark.parametrize("headers", ["", "x-headgate-trace: false\r\n", "x-headgate-trace: 0\r\n"])
async def test_nothing_is_traced_that_does_not_ask(stage: Stage, headers: str) -> None:
    async with serving(stage, SLEEPS) as served:
        await ask(served, "0", headers)
        assert traces(stage) == []


async def test_the_model_has_its_share_and_the_queue_has_its(stage: Stage) -> None:
    async with serving(stage, SLEEPS) as served:
        first = asyncio.create_task(ask(served, "0.3", ASKED))
        instance = stage.ready(served.one.endpoint)[0]
        while not instance.flights:
            await asyncio.sleep(0.001)
        await asyncio.gather(first, ask(served, "0", ASKED))
        ran, waited = traces(stage)
        for row in (ran, waited):
            assert_whole(row)
            assert (row.status, row.tries, row.deployment) == (200, 1, "blue")
            assert row.instance == served.one.instance and row.router == stage.router.id
            assert row.response_bytes == len('"slept"')
        assert ran.model_ms is not None and ran.model_ms >= 300
        assert waited.queue_ms > 100 > (waited.model_ms or 0)


async def test_a_share_of_all_is_traced_within_the_bound(
    nats: natsd.RunningServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "ROWS_PER_S", 2)
    async with staged(nats, data_dir, trace_share=1.0) as stage, serving(stage, SLEEPS) as served:
        await stage.router.traces.say()  # a second begins
        for _ in range(3):
            await ask(served, "0")
        assert len(traces(stage)) == 2
        assert stage.router.traces.lost == {"local": 1}


async def test_parts_are_traced_to_their_end(stage: Stage) -> None:
    async with serving(stage, ASYNC) as served:
        await ask(served, "much 200", ASKED)
        (row,) = traces(stage)
        assert_whole(row)
        assert row.in_parts == 1 and row.response_bytes == 200 * 65_536


async def test_where_a_request_ended_that_got_no_answer(stage: Stage) -> None:
    async with serving(stage, SLEEPS, timeout_ms=300) as served:
        wire = await served.send("30", headers=ASKED)
        assert (await head_of(wire)).status == 408
        (row,) = traces(stage)
        assert row.reason == "RequestTimeout" and row.model_ms is None and row.answer_ms is None
        assert row.edge_ms + row.queue_ms + (row.bus_ms or 0) == pytest.approx(
            row.total_ms, abs=0.01
        )


async def test_a_second_try_is_counted(stage: Stage) -> None:
    async with serving(stage, SLEEPS) as served:
        endpoint = served.one.endpoint
        real = stage.ready(endpoint)[0]
        real.withheld, real.withheld_until = True, 1e12
        real.deployment.refresh()
        first = await stage.instance(endpoint)
        first.gate.clear()
        wire = await stage.wire()
        await wire.send(request(endpoint, b"0", headers={"x-headgate-trace": "true"}))
        while not first.runs:
            await asyncio.sleep(0.001)
        real.withheld = False
        real.deployment.refresh()
        await first.die()
        await stage.say_lost(first)
        assert (await wire.receive()).status == 200
        (row,) = traces(stage)
        assert (row.tries, row.instance) == (2, served.one.instance)
        assert_whole(row)


TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TELLS = """
    import json
    from azureml.contrib.services.aml_request import rawhttp
    from azureml.contrib.services.aml_response import AMLResponse

    def init():
        pass

    @rawhttp
    def run(request):
        told = {name: request.headers.get(name) for name in ("traceparent", "tracestate")}
        return AMLResponse(json.dumps(told), 200)
"""
SPANS_OF_RUN = """
    import json

    from opentelemetry import baggage, trace
    from opentelemetry.sdk.trace import TracerProvider

    def init():
        trace.set_tracer_provider(TracerProvider())

    def run(data):
        with trace.get_tracer("script").start_as_current_span("predict") as span:
            found, parent = span.get_span_context(), span.parent
        return {
            "trace": format(found.trace_id, "032x"),
            "parent": format(parent.span_id, "016x") if parent else "",
            "tenant": baggage.get_baggage("tenant"),
        }
"""


def said(flags: str) -> str:
    return f"traceparent: 00-{TRACE}-{CALLER}-{flags}\r\ntracestate: vendor=1\r\n"


async def answer(served: Served, headers: str) -> tuple[dict[str, str], dict[str, str]]:
    wire = await served.send("{}", headers=headers)
    found = await wire.receive()
    assert found.status == 200, found.body
    return found.headers, json.loads(found.body)


async def test_a_callers_trace_goes_on_to_the_model(
    nats: natsd.RunningServer, data_dir: Path
) -> None:
    async with (
        staged(nats, data_dir, otlp_url="http://127.0.0.1:9") as stage,
        serving(stage, TELLS) as served,
    ):
        headers, told = await answer(served, said("01"))
        (row,) = traces(stage)
        assert (row.trace_id, row.parent_id, row.trace_state) == (TRACE, CALLER, "vendor=1")
        assert told == {"traceparent": f"00-{TRACE}-{row.run_id}-01", "tracestate": "vendor=1"}
        assert headers["traceresponse"] == f"00-{TRACE}-{row.span_id}-01"
        assert len({CALLER, row.span_id, row.run_id}) == 3


@pytest.mark.parametrize("headers", ["", said("00"), said("01") + said("01"), said("0x")])
async def test_no_other_request_is_traced_for_that(
    nats: natsd.RunningServer, data_dir: Path, headers: str
) -> None:
    async with (
        staged(nats, data_dir, otlp_url="http://127.0.0.1:9") as stage,
        serving(stage, TELLS) as served,
    ):
        answered, told = await answer(served, headers)
        assert traces(stage) == [] and "traceresponse" not in answered
        assert (told["traceparent"] or "") in headers


async def test_a_caller_that_does_not_trace_is_not_drawn(
    nats: natsd.RunningServer, data_dir: Path
) -> None:
    where = "http://127.0.0.1:9"
    async with (
        staged(nats, data_dir, otlp_url=where, trace_share=1.0) as stage,
        serving(stage, TELLS) as served,
    ):
        await answer(served, said("00"))
        assert traces(stage) == []
        await answer(served, "")
        (row,) = traces(stage)
        assert row.trace_id and not row.parent_id


async def test_without_a_collector_only_who_asks_is_traced(stage: Stage) -> None:
    async with serving(stage, TELLS) as served:
        assert (await answer(served, said("01")))[1]["traceparent"] == f"00-{TRACE}-{CALLER}-01"
        assert traces(stage) == []
        await answer(served, said("00") + ASKED)
        (row,) = traces(stage)
        assert (row.trace_id, row.parent_id) == (TRACE, CALLER)


async def test_spans_of_a_script_are_children_of_run(stage: Stage) -> None:
    async with serving(stage, SPANS_OF_RUN) as served:
        _, told = await answer(served, said("01") + ASKED + "baggage: tenant=a%20b\r\n")
        (row,) = traces(stage)
        assert told == {"trace": TRACE, "parent": row.run_id, "tenant": "a b"}
        _, told = await answer(served, "")
        assert told["trace"] != TRACE and told["parent"] == ""
        assert row.method == "POST" and row.path == "/score"


async def test_spans_of_an_asynchronous_script_too(stage: Stage) -> None:
    script = SPANS_OF_RUN.replace("def run", "async def run")
    async with serving(stage, script) as served:
        answers = await asyncio.gather(*(answer(served, said("01") + ASKED) for _ in range(3)))
        assert {told["parent"] for _, told in answers} == {row.run_id for row in traces(stage)}
