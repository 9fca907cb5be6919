"""Logs as a user sees them: one request in every table, follow mode, a failed start, a flood."""

from __future__ import annotations

import http.client
import re
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from acceptance.load import Target
from acceptance.models import deployment_file
from acceptance.system import PROGRAM, Headgate, environment, wait_for

REQUEST = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
FLOOD_LINES = 300_000
ROWS_MAX = 10_000
GROWTH_BYTES_MAX = 120 * 1024 * 1024
SCRIPT = f"""
import os, threading
def init():
    print("loaded")
def flood():
    line = b"y" * 95 + b"\\n"
    for _ in range({FLOOD_LINES} // 1_000):
        os.write(1, line * 1_000)
def run(data):
    print("asked for", data)
    if "flood" in data:
        threading.Thread(target=flood, daemon=True).start()
    if "boom" in data:
        raise ValueError("no such luck")
    return len(data)
"""
BROKEN = (
    "def init():\n    raise RuntimeError('the weights are missing')\ndef run(data):\n    pass\n"
)
pytestmark = pytest.mark.timeout(180)
QUICK_PROBE = {"initial_delay": 1, "period": 1, "timeout": 1, "failure_threshold": 3}


def score(target: Target, body: str, request_id: str = "") -> int:
    """One request; the status of its answer."""
    connection = http.client.HTTPSConnection(target.host, target.port, context=target.tls)
    headers = {"Authorization": f"Bearer {target.key}", "User-Agent": "logs-test"}
    if request_id:
        headers["x-request-id"] = request_id
    connection.request("POST", target.path, body, headers)
    status = connection.getresponse().status
    connection.close()
    return status


def rows(headgate: Headgate, table: str, where: str, *flags: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = headgate.cli_json(
        "logs", "query", "--table", table, "--where", where, *flags
    )
    return found


def test_a_request_is_found_in_every_table_by_its_owner_alone(
    headgate: Headgate, new_endpoint: Callable[[], str], files: Path
) -> None:
    endpoint = new_endpoint()
    path = deployment_file(files / "good", endpoint, "blue", SCRIPT, instance_count=2)
    headgate.cli("online-deployment", "create", "-f", path, "--all-traffic")
    target = headgate.target(endpoint)
    assert score(target, "boom", REQUEST) == 424
    by_id = f"XRequestId == '{REQUEST}'"
    (seen,) = wait_for(lambda: rows(headgate, "traffic", by_id), "its row of traffic")
    assert (seen["ResponseCode"], seen["ModelStatusCode"]) == (424, 500)
    assert (seen["EndpointName"], seen["DeploymentName"]) == (endpoint, "blue")
    assert (seen["UserAgent"], seen["RequestPayloadSize"]) == ("logs-test", 4)
    assert seen["AzureMLWorkspaceName"] == "local"
    assert seen["AzureMLWorkspaceId"].endswith("/workspaces/local")
    lines = wait_for(
        lambda: [row["Message"] for row in rows(headgate, "console", by_id, "--order", "oldest")],
        "its lines of the console",
    )
    assert lines[0] == "asked for boom"
    assert "ValueError: no such luck" in lines[-1]

    flags = ("--name", "blue", "--endpoint-name", endpoint, "--request-id", REQUEST)
    text = headgate.cli("online-deployment", "get-logs", *flags)
    assert "asked for boom" in text and "loaded" not in text
    text = headgate.cli("online-deployment", "get-logs", *flags, "--grep", "Error: no")
    assert text.count("\n") == 1

    assert rows(headgate, "traffic", by_id, "--workspace", "other") == []
    assert rows(headgate, "console", by_id, "--workspace", "other") == []
    grant = ("stranger", "--role", "reader", "--workspace", "other")
    token = headgate.cli_json("token", "create", *grant)["token"]
    refused = subprocess.run(
        [str(PROGRAM), "logs", "query", "--table", "traffic"],
        env=environment(HEADGATE_DATA=str(headgate.data), HEADGATE_TOKEN=token),
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode != 0 and REQUEST not in refused.stdout


def test_a_failed_start_is_in_the_events(
    headgate: Headgate, new_endpoint: Callable[[], str], files: Path
) -> None:
    endpoint = new_endpoint()
    probe = {"readiness_probe": QUICK_PROBE, "startup_probe": QUICK_PROBE}
    path = deployment_file(files / "bad", endpoint, "blue", BROKEN, **probe)
    assert headgate.try_cli("online-deployment", "create", "-f", path).returncode != 0
    where = f"EndpointName == '{endpoint}' and Name == 'BackOff'"
    found = wait_for(lambda: rows(headgate, "events", where), "BackOff among the events")
    assert "the weights are missing" in found[0]["Message"]
    names = {row["Name"] for row in rows(headgate, "events", f"EndpointName == '{endpoint}'")}
    assert names >= {"Pulled", "Created", "Started", "BackOff"}
    told = f"EndpointName == '{endpoint}' and Message contains 'weights are missing'"
    wait_for(lambda: rows(headgate, "console", told), "its traceback on the console")


def test_follow_mode_shows_what_comes(
    headgate: Headgate, new_endpoint: Callable[[], str], files: Path
) -> None:
    endpoint = new_endpoint()
    path = deployment_file(files / "good", endpoint, "blue", SCRIPT, instance_count=2)
    headgate.cli("online-deployment", "create", "-f", path, "--all-traffic")
    target = headgate.target(endpoint)
    command = ["online-deployment", "get-logs", "-n", "blue", "-e", endpoint, "-l", "5", "-f"]
    following = subprocess.Popen(
        [str(PROGRAM), *command, "--grep", "asked"],
        stdout=subprocess.PIPE,
        env=environment(HEADGATE_DATA=str(headgate.data)),
        text=True,
    )
    seen: list[str] = []
    assert following.stdout is not None
    reader = threading.Thread(target=lambda: seen.extend(following.stdout or ()), daemon=True)
    reader.start()
    for number in range(6):
        assert score(target, f"number-{number}") == 200
        wait_for(lambda: any(f"number-{number}" in line for line in seen), "the line")  # noqa: B023
    following.terminate()
    following.wait()
    reader.join()
    following.stdout.close()
    assert all("asked for" in line and line.startswith("[") for line in seen)


def test_a_flood_is_bounded_and_the_model_goes_on(
    headgate: Headgate, new_endpoint: Callable[[], str], files: Path
) -> None:
    endpoint = new_endpoint()
    path = deployment_file(files / "loud", endpoint, "blue", SCRIPT)
    headgate.cli("online-deployment", "create", "-f", path, "--all-traffic")
    target = headgate.target(endpoint)
    control = psutil.Process(headgate.pid_of("run control"))
    before = control.memory_info().rss
    assert score(target, "flood") == 200
    for _ in range(20):
        assert score(target, "small") == 200
    told = f"EndpointName == '{endpoint}' and Message startswith 'yyy'"

    def lost() -> int:
        done = headgate.try_cli("logs", "query", "-t", "console", "--where", told, "-o", "json")
        said = re.search(r"(\d+) rows of this time were not stored", done.stderr)
        return int(said[1]) if said else 0

    wait_for(lambda: lost() > FLOOD_LINES // 2, "the lost lines are counted", timeout_s=50)
    kept = rows(headgate, "console", told, "--limit", str(ROWS_MAX))
    assert 0 < len(kept) < ROWS_MAX
    assert control.memory_info().rss - before < GROWTH_BYTES_MAX
    held = sum(path.stat().st_size for path in headgate.data.glob("instances/*/worker.log*"))
    assert held < 100 * 1024 * 1024
