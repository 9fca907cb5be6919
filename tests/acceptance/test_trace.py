"""``headgate trace``: from a header of a request to a table on the terminal."""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Callable
from pathlib import Path

from acceptance.models import deployment_file
from acceptance.system import Headgate

SCRIPT = """
import time

def init():
    pass

def run(raw_data):
    time.sleep(0.2)
    return "done"
"""


def test_a_request_is_traced(
    headgate: Headgate, new_endpoint: Callable[[], str], files: Path
) -> None:
    name = new_endpoint()
    file = deployment_file(files / name, name, "blue", SCRIPT)
    headgate.cli("online-deployment", "create", "-f", file, "--all-traffic")
    target = headgate.target(name)
    assert isinstance(target.tls, ssl.SSLContext)
    asked = urllib.request.Request(
        f"https://{target.host}:{target.port}{target.path}",
        b"{}",
        {"Authorization": f"Bearer {target.key}", "x-headgate-trace": "true"},
    )
    with urllib.request.urlopen(asked, context=target.tls, timeout=20) as answer:
        request_id = answer.headers["x-request-id"]
        assert answer.read() == b'"done"'
    row = json.loads(headgate.cli("trace", request_id, "--wait", "20"))
    assert row["DeploymentName"] == "blue" and row["ResponseCode"] == 200
    assert row["ModelMs"] >= 200
    spans = ("EdgeMs", "QueueMs", "BusMs", "WorkerMs", "ModelMs", "AnswerMs")
    assert abs(sum(row[span] for span in spans) - row["TotalMs"]) < 0.1
    table = headgate.cli("trace", request_id, "-o", "table")
    assert request_id in table and "model" in table
    unknown = headgate.try_cli("trace", "no-such-request", "--wait", "0")
    assert unknown.returncode == 4 and "x-headgate-trace: true" in unknown.stderr
