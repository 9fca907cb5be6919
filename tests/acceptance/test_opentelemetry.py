"""One trace from a client that uses OpenTelemetry's SDK to the spans of the script, and back."""

from __future__ import annotations

import json
import ssl
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.propagate import inject
from opentelemetry.sdk.trace import TracerProvider

from acceptance.models import deployment_file, endpoint_file
from acceptance.system import Headgate, wait_for
from otlp_receiver import GotSpan, Receiver, receiving

SCRIPT = """
    import os
    import time

    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    def init():
        provider = TracerProvider(resource=Resource({"service.name": "the script"}))
        exporter = OTLPSpanExporter(endpoint=os.environ["COLLECTOR"] + "/v1/traces")
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace.set_tracer_provider(provider)

    def run(raw_data):
        with trace.get_tracer("script").start_as_current_span("predict"):
            print("predicting")
            time.sleep(0.05)
        return "done"
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def exporting(receiver: Receiver) -> Iterator[Headgate]:
    folder = Path(tempfile.mkdtemp(prefix="hg-acc-"))
    system = Headgate(folder, HEADGATE_OTLP_URL=receiver.url, OTEL_BSP_SCHEDULE_DELAY="200")
    try:
        system.start()
        yield system
    finally:
        system.discard()


def get(headgate: Headgate, url: str, data: bytes | None, headers: dict[str, str]) -> bytes:
    assert isinstance(headgate.tls, ssl.SSLContext)
    asked = urllib.request.Request(url, data, headers)
    with urllib.request.urlopen(asked, context=headgate.tls, timeout=20) as answer:
        return bytes(answer.read())


def test_a_trace_from_client_to_run_and_back(
    exporting: Headgate, receiver: Receiver, files: Path
) -> None:
    name = "traced"
    exporting.cli("online-endpoint", "create", "-f", endpoint_file(files, name))
    file = deployment_file(files, name, "blue", SCRIPT, variables={"COLLECTOR": receiver.url})
    exporting.cli("online-deployment", "create", "-f", file, "--all-traffic")
    target = exporting.target(name)
    headers = {"Authorization": f"Bearer {target.key}"}
    with TracerProvider().get_tracer("client").start_as_current_span("ask") as span:
        inject(headers)
        client = span.get_span_context()
    url = f"https://{target.host}:{target.port}{target.path}"
    assert get(exporting, url, b"{}", headers) == b'"done"'
    trace_id, own = f"{client.trace_id:032x}", f"{client.span_id:016x}"

    names = ("POST /score", "queue", "send", "instance", "run()", "predict")
    wait_for(lambda: receiver.of_trace(trace_id).keys() >= set(names), "all spans are there")
    found = receiver.of_trace(trace_id)
    assert found.keys() == set(names)
    parents = {name: found[name].parent_id for name in names}
    assert parents == {
        "POST /score": own,
        "queue": found["POST /score"].span_id,
        "send": found["POST /score"].span_id,
        "instance": found["send"].span_id,
        "run()": found["instance"].span_id,
        "predict": found["run()"].span_id,
    }
    assert found["POST /score"].service == "headgate-router"
    assert found["run()"].service == f"{name}/blue"
    assert found["run()"].ended - found["run()"].began >= 0.05
    wait_for(lambda: [line for line in receiver.lines if line.text == "predicting"], "the line")
    (line,) = [line for line in receiver.lines if line.text == "predicting"]
    assert (line.trace_id, line.span_id) == (trace_id, found["run()"].span_id)
    assert line.service == f"{name}/blue"

    changed_within_a_trace(exporting, receiver, name)


def changed_within_a_trace(exporting: Headgate, receiver: Receiver, name: str) -> None:
    """A change goes through gateway, registry and provisioner."""
    token = (exporting.data / "keys" / "admin.token").read_text().strip()
    place = "subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices"
    path = f"/{place}/workspaces/local/onlineEndpoints/{name}/deployments/blue"
    url = f"{exporting.running()['gateway']}{path}?api-version=2024-04-01"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with TracerProvider().get_tracer("client").start_as_current_span("change") as span:
        inject(headers)
        client = span.get_span_context()
    asked = urllib.request.Request(
        url, json.dumps({"sku": {"name": "Default", "capacity": 2}}).encode(), headers
    )
    asked.method = "PATCH"
    with urllib.request.urlopen(asked, context=exporting.tls, timeout=20) as answer:
        told = answer.headers["traceresponse"]
    trace_id = f"{client.trace_id:032x}"
    assert told.split("-")[1] == trace_id

    def spans() -> dict[tuple[str, str], GotSpan]:
        found = [span for span in list(receiver.spans) if span.trace_id == trace_id]
        return {(span.service.removeprefix("headgate-"), span.name): span for span in found}

    wait_for(lambda: ("provisioner", "reconcile") in spans(), "the provisioner has looked")
    gateway = spans()["gateway", "PATCH"]
    assert gateway.parent_id == f"{client.span_id:016x}"
    assert gateway.attributes["http.response.status_code"] in (200, 202)
    update = next(span for key, span in spans().items() if key[0] == "registry")
    assert update.parent_id == gateway.span_id
    reconcile = spans()["provisioner", "reconcile"]
    assert reconcile.parent_id in {span.span_id for key, span in spans().items()}


def test_a_setting_that_needs_the_extra_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from headgate import assembly
    from headgate.runtime.settings import Settings
    from headgate_contracts.errors import HeadgateError

    monkeypatch.setattr(assembly, "_has", lambda module: False)
    assembly.check_extras(Settings())
    with pytest.raises(HeadgateError, match=r"headgate\[otel\]"):
        assembly.check_extras(Settings(otlp_url="http://127.0.0.1:4318"))
