"""Azure's own ``azureml-ai-monitoring``, installed and unchanged, collects through the worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headgate.runtime import natsd
from headgate_contracts.scoring import InstanceState
from pythons import python_with
from worker.harness import Router, worker

CACHE = Path(__file__).parents[2] / ".cache" / "monitoring-venv"
PACKAGES = ("azureml-ai-monitoring==1.0.0", "pandas", "setuptools")
COLLECTIONS = ("request", "model_inputs", "model_outputs")
SCRIPT = """
    import json
    import pandas as pd
    from azureml.ai.monitoring import Collector
    from azureml.ai.monitoring.context import BasicCorrelationContext

    def init():
        global inputs, outputs
        inputs = Collector(name="model_inputs")
        outputs = Collector(name="model_outputs")
        Collector(name="other", on_error=lambda error: print("on_error:", error))

    def run(data):
        said = json.loads(data)
        frame = pd.DataFrame(said["rows"])
        mine = BasicCorrelationContext(id=said["id"], headers={"x-batch": "b 7"})
        context = inputs.collect(frame, mine)
        outputs.collect(frame.sum().to_frame().T, context)
        return context.get_id()
"""


@pytest.fixture(scope="session")
def monitoring_python() -> Path:
    """A Python with Azure's package; made on first use."""
    return python_with(PACKAGES, CACHE)


async def test_azures_package_collects_through_the_worker(
    monitoring_python: Path, nats: natsd.RunningServer, folder: Path
) -> None:
    """Both data frames of a call are kept or none, though the package knows nothing of that."""
    place = folder / "collected"
    place.mkdir()
    every = {name: {"rate": 0.5, "address": f"azureml://{name}"} for name in COLLECTIONS}
    told = {"source": "s", "rolling_rate": "hour", "capture_headers": [], "collections": every}
    variables = {"HEADGATE_COLLECT": json.dumps(told), "HEADGATE_COLLECT_DIR": str(place)}
    async with (
        Router.connected(nats) as router,
        worker(nats, folder, SCRIPT, python=str(monitoring_python), variables=variables) as one,
    ):
        await router.until(one, InstanceState.READY)
        assert "on_error: collection other is not enabled, drop the data" in one.log()
        for number in range(40):
            body = json.dumps({"id": f"id-{number}", "rows": [{"n": number}, {"n": 1}]})
            answer = await router.post(one, body, h=[["content-type", "application/json"]])
            assert answer.json() == f"id-{number}", one.log()
        one.signal()  # what the package still has in memory is sent before the end
        assert await one.wait() == 0, one.log()
    inputs, outputs = (_events(place, name) for name in ("model_inputs", "model_outputs"))
    assert 5 < len(inputs) < 35
    assert inputs.keys() == outputs.keys()
    for key, event in inputs.items():
        number = int(key.removeprefix("id-"))
        assert event["data"] == [{"n": number}, {"n": 1}]
        assert outputs[key]["data"] == [{"n": number + 1}]
        assert event["type"] == "azureml.inference.model_inputs"
        assert event["agent"] == "azureml-ai-monitoring/1.0.0"
        assert event["collectdatatype"].endswith("DataFrame")
        assert event["modelversion"] == "default"
        assert event["xbatch"] == "b 7" and event["xrequestid"] == key


def _events(place: Path, collection: str) -> dict[str, dict[str, Any]]:
    """By correlation id."""
    lines = [
        json.loads(line)
        for path in (place / collection).rglob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    found = {event["correlationid"]: event for event in lines}
    assert len(found) == len(lines)
    return found
