"""A first afternoon with Headgate: start it, deploy the examples, score, read logs, stop it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance.system import EXAMPLES, Headgate, processes_of, wait_for

ECHO = EXAMPLES / "echo"
FIRST_ANSWER_S = 15.0  # "within seconds of start", with room for two busy cores
NOTHING_LEFT_S = 25.0


def deploy(headgate: Headgate, folder: Path) -> None:
    headgate.cli("online-endpoint", "create", "-f", folder / "endpoint.yml")
    headgate.cli("online-deployment", "create", "-f", folder / "blue.yml", "--all-traffic")


def post(
    headgate: Headgate, endpoint: str, body: bytes, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One HTTPS request with an ordinary client that trusts the CA of ``headgate ca``."""
    uri = headgate.cli_json("online-endpoint", "show", "--name", endpoint)["scoring_uri"]
    key = headgate.keys(endpoint)["primaryKey"]
    told = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(uri, data=body, headers=told)
    try:
        with urllib.request.urlopen(request, context=headgate.tls, timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


@pytest.fixture(scope="module")
def echo(headgate: Headgate) -> Iterator[str]:
    """The echo example, deployed as its README says."""
    deploy(headgate, ECHO)
    yield "echo"
    headgate.cli("online-endpoint", "delete", "--name", "echo", "--yes")


def test_the_echo_example_scores_over_https_with_our_own_ca(headgate: Headgate, echo: str) -> None:
    sent = (ECHO / "sample_request.json").read_bytes()
    status, headers, body = post(headgate, echo, sent)
    assert status == 200, body
    assert json.loads(body) == {"greeting": "hello from blue", "you_sent": json.loads(sent)}
    assert headers["azureml-model-deployment"] == "blue"
    assert headers["x-request-id"]


def test_curl_scores_with_the_printed_ca(headgate: Headgate, echo: str) -> None:
    """The line of the README, run by a shell."""
    uri = headgate.cli_json("online-endpoint", "show", "--name", echo)["scoring_uri"]
    answer = subprocess.run(
        [
            *("curl", "--silent", "--fail-with-body", "--cacert", headgate.cli("ca").strip()),
            *("-H", f"Authorization: Bearer {headgate.keys(echo)['secondaryKey']}"),
            *("-H", "Content-Type: application/json"),
            *("-d", f"@{ECHO / 'sample_request.json'}", uri),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert json.loads(answer.stdout)["greeting"] == "hello from blue"


def test_invoke_prints_the_answer(headgate: Headgate, echo: str) -> None:
    answer = headgate.cli(
        *("online-endpoint", "invoke", "--name", echo),
        *("--request-file", ECHO / "sample_request.json"),
    )
    assert "hello from blue" in answer


def test_what_the_script_prints_is_in_its_logs(headgate: Headgate, echo: str) -> None:
    logs = headgate.cli("online-deployment", "get-logs", "--endpoint-name", echo, "--name", "blue")
    assert "ready to say 'hello from blue'" in logs


@pytest.mark.parametrize("key", ["", "wrong", "a" * 4_000])
def test_without_the_right_key_nothing_is_scored(headgate: Headgate, echo: str, key: str) -> None:
    status, _, body = post(headgate, echo, b"{}", Authorization=f"Bearer {key}")
    assert status == 401
    assert json.loads(body)["error"]["code"]


def test_a_script_that_raises_is_424_with_its_own_status(headgate: Headgate, echo: str) -> None:
    """The body is no JSON, so the script's ``json.loads`` raises: 500 inside, 424 outside."""
    status, headers, _ = post(headgate, echo, b"no json")
    assert status == 424
    assert headers["ms-azureml-model-error-statuscode"] == "500"


def test_the_digits_example_deploys_and_reads_digits(headgate: Headgate) -> None:
    """Trained here if need be; the sample holds a 4 and an 8."""
    folder = EXAMPLES / "digits"
    if not (folder / "models" / "held_out.json").exists():
        subprocess.run([sys.executable, folder / "train.py"], check=True, capture_output=True)
    deploy(headgate, folder)
    status, _, body = post(headgate, "digits", (folder / "sample_request.json").read_bytes())
    headgate.cli("online-endpoint", "delete", "--name", "digits", "--yes")
    assert (status, json.loads(body)) == (200, [4, 8])


def test_the_rawhttp_example_answers_binary_bodies_with_its_own_statuses(
    headgate: Headgate,
) -> None:
    folder = EXAMPLES / "rawhttp"
    deploy(headgate, folder)
    image = (folder / "four.pgm").read_bytes()
    status, _, body = post(headgate, "images", image, Content_Type="image/x-pgm")
    refused, headers, _ = post(headgate, "images", image, Content_Type="text/plain")
    headgate.cli("online-endpoint", "delete", "--name", "images", "--yes")
    assert status == 200, body
    assert json.loads(body)["width"] == 8
    assert refused == 424
    assert headers["ms-azureml-model-error-statuscode"] == "415"


def test_the_conda_example_gets_an_environment_of_its_own(headgate: Headgate) -> None:
    """The environment is built from the conda file; this one's packages are not in ours."""
    folder = EXAMPLES / "conda"
    deploy(headgate, folder)
    status, _, body = post(headgate, "spelling", (folder / "sample_request.json").read_bytes())
    headgate.cli("online-endpoint", "delete", "--name", "spelling", "--yes")
    assert status == 200, body
    assert [found["word"] for found in json.loads(body)] == ["green", "blue", "vermilion"]


def test_ctrl_c_leaves_no_process_and_the_folder_starts_again(private_headgate: Headgate) -> None:
    """Also: the first request is scored within seconds of the start, and a second ``up`` on the
    same folder says who holds it.
    """
    headgate = private_headgate
    begun = time.monotonic()
    headgate.start()
    assert time.monotonic() - begun < FIRST_ANSWER_S
    deploy(headgate, ECHO)
    assert post(headgate, "echo", b"{}")[0] == 200

    second = headgate.try_cli("up", "--data", headgate.data, "--port", "0", "--scoring-port", "0")
    assert second.returncode != 0
    assert headgate.process is not None
    assert str(headgate.process.pid) in second.stderr

    os.killpg(headgate.process.pid, signal.SIGINT)  # a terminal sends it to all of the group
    headgate.process.wait(NOTHING_LEFT_S)
    assert processes_of(headgate.data) == {}

    begun = time.monotonic()
    headgate.start()
    wait_for(lambda: post(headgate, "echo", b"{}")[0] == 200, "the deployment serves again")
    assert time.monotonic() - begun < 2 * FIRST_ANSWER_S


def test_kill_9_of_up_leaves_no_process_either(private_headgate: Headgate) -> None:
    headgate = private_headgate
    headgate.start()
    deploy(headgate, ECHO)
    assert headgate.process is not None
    headgate.process.kill()
    headgate.process.wait()
    wait_for(
        lambda: not processes_of(headgate.data), "no process is left", timeout_s=NOTHING_LEFT_S
    )
