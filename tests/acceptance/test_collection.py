"""Data collection on a whole Headgate: what was asked and answered is in the store, once."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent
from typing import Any

from acceptance.load import Target
from acceptance.models import deployment_file, endpoint_file
from acceptance.system import EventTail, Headgate, wait_for

PLAIN = """
    import json

    def init():
        pass

    def run(raw_data):
        return {"doubled": 2 * json.loads(raw_data)["n"]}
"""
# As much of pandas as a collector looks at; the real one is in the tests beside the reference.
PANDAS = """
    import json

    class DataFrame:
        def __init__(self, rows):
            self.rows = rows

        def to_json(self, orient):
            return json.dumps(self.rows)
"""
COLLECTING = """
    import json
    import pandas as pd
    from azureml.ai.monitoring import Collector

    def init():
        global inputs, outputs
        inputs = Collector(name="model_inputs")
        outputs = Collector(name="model_outputs")

    def run(raw_data):
        n = json.loads(raw_data)["n"]
        context = inputs.collect(pd.DataFrame([{"n": n}]))
        outputs.collect(pd.DataFrame([{"doubled": 2 * n}]), context)
        return {"doubled": 2 * n}
"""
SHIPPED_WITHIN_S = 30.0


def ask(target: Target, number: int) -> None:
    """One request; its answer must be right."""
    assert target.tls is not None
    connection = http.client.HTTPSConnection(target.host, target.port, context=target.tls)
    headers = {
        "Authorization": f"Bearer {target.key}",
        "Content-Type": "application/json",
        "x-request-id": f"request-{number}",
        "X-Customer": f"customer {number}",
    }
    with contextlib.closing(connection):
        connection.request("POST", target.path, json.dumps({"n": number}), headers)
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())) == (200, {"doubled": 2 * number})


def collected(headgate: Headgate, endpoint: str) -> dict[str, list[dict[str, Any]]]:
    """Every line in the store, by deployment and collection."""
    root = headgate.data / "store/workspaces/local/workspaceblobstore/modelDataCollector" / endpoint
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(root.rglob("*.jsonl")):
        name = "/".join(path.relative_to(root).parts[:2])
        found.setdefault(name, []).extend(map(json.loads, path.read_text().splitlines()))
    return found


def numbers(events: list[dict[str, Any]]) -> list[str]:
    return sorted(event["correlationid"] for event in events)


def test_payloads_and_data_frames_are_in_the_store_once_whoever_is_killed(
    private_headgate: Headgate, files: Path
) -> None:
    headgate = private_headgate
    headgate.start()
    headgate.cli("online-endpoint", "create", "-f", endpoint_file(files, "watched"))
    collector = {
        "request_logging": {"capture_headers": ["X-Customer"]},
        "collections": {
            name: {"enabled": "True"}
            for name in ("request", "response", "model_inputs", "model_outputs")
        },
    }
    path = deployment_file(files, "watched", "blue", COLLECTING, data_collector=collector)
    (files / "blue-code" / "pandas.py").write_text(dedent(PANDAS))
    headgate.cli("online-deployment", "create", "-f", path, "--all-traffic")
    target = headgate.target("watched")
    for number in range(10):
        ask(target, number)
    wait_for(
        lambda: len(collected(headgate, "watched").get("blue/model_outputs", ())) == 10,
        "the first ten are in the store",
        timeout_s=SHIPPED_WITHIN_S,
    )
    (one,) = instances(headgate)
    assert one["collection"] == {"collected": 40, "shipped": 40, "dropped": 0, "failed": 0}

    headgate.kill("run control")  # nobody carries anything away now
    for number in range(10, 20):
        ask(target, number)
    lines = headgate.data / "collected" / one["id"] / "lines"
    wait_for(lambda: on_disk(lines) == 80, "all twenty are on the disk")
    os.kill(one["pid"], signal.SIGKILL)  # and the model's process dies as well
    wait_for(
        lambda: (
            {name: len(each) for name, each in collected(headgate, "watched").items()}
            == dict.fromkeys(
                ("blue/request", "blue/response", "blue/model_inputs", "blue/model_outputs"), 20
            )
        ),
        "all twenty are in the store",
        timeout_s=2 * SHIPPED_WITHIN_S,
    )
    wait_for(lambda: not lines.exists(), "nothing of the dead instance is left behind")

    found = collected(headgate, "watched")
    for events in found.values():
        assert numbers(events) == sorted(f"request-{number}" for number in range(20))
    for event in found["blue/request"]:
        number = event["data"]["n"]
        assert event["correlationid"] == event["xrequestid"] == f"request-{number}"
        assert event["xcustomer"] == f"customer {number}"
        assert (event["path"], event["method"]) == ("/score", "POST")
    today = datetime.now(UTC).strftime("%Y/%m/%d/")
    root = headgate.data / "store/workspaces/local/workspaceblobstore/modelDataCollector"
    for path in root.rglob("*.jsonl"):
        relative = path.relative_to(root / "watched" / "blue").as_posix()
        assert relative.partition("/")[2].startswith(today) and path.stem == one["id"]
    (data,) = headgate.cli_json("data", "list", "--name", "watched-blue-request")
    assert data["path"].endswith("/paths/modelDataCollector/watched/blue/request")


def test_a_destination_that_fails_is_told_and_costs_scoring_nothing(
    headgate: Headgate, new_endpoint: Any, files: Path
) -> None:
    endpoint = new_endpoint()
    nowhere = {"path": "azureml://datastores/nowhere/paths/x", "name": f"{endpoint}-lost"}
    collector = {"collections": {"request": {"enabled": "True", "data": nowhere}}}
    path = deployment_file(files, endpoint, "blue", PLAIN, data_collector=collector)
    with EventTail(headgate) as tail:
        headgate.cli("online-deployment", "create", "-f", path, "--all-traffic")
        target = headgate.target(endpoint)
        for number in range(20):
            ask(target, number)
        told = wait_for(
            lambda: [e for e in tail.events if e["subject"].endswith(".collection_failing")],
            "the failure is told",
            timeout_s=SHIPPED_WITHIN_S,
        )
    assert "nowhere" in json.dumps(told[0]) and f".instance.{endpoint}.blue." in told[0]["subject"]
    counts = headgate.cli_json("online-deployment", "instances", "-n", "blue", "-e", endpoint)
    (one,) = counts
    assert one["collection"]["collected"] == 20 and one["collection"]["shipped"] == 0
    assert one["collection"]["failed"] >= 1
    for number in range(20, 40):
        ask(target, number)


def test_collection_is_changed_by_an_update(
    headgate: Headgate, new_endpoint: Any, files: Path
) -> None:
    endpoint = new_endpoint()
    path = deployment_file(files, endpoint, "blue", PLAIN)
    headgate.cli("online-deployment", "create", "-f", path, "--all-traffic")
    target = headgate.target(endpoint)
    ask(target, 0)
    path = deployment_file(
        files, endpoint, "blue", PLAIN, data_collector={"collections": {"request": {}}}
    )
    headgate.cli("online-deployment", "update", "-f", path)
    for number in range(1, 6):
        ask(target, number)
    headgate.cli(
        *("online-deployment", "update", "-n", "blue", "-e", endpoint),
        *("--set", "data_collector.sampling_rate=0"),
    )
    for number in range(6, 10):
        ask(target, number)
    wait_for(
        lambda: (
            numbers(collected(headgate, endpoint).get("blue/request", []))
            == [f"request-{number}" for number in range(1, 6)]
        ),
        "what was asked in between is in the store",
        timeout_s=SHIPPED_WITHIN_S,
    )


def instances(headgate: Headgate) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = headgate.cli_json(
        "online-deployment", "instances", "-n", "blue", "-e", "watched"
    )
    return found


def on_disk(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob("*.jsonl"))
