"""The Open Inference Protocol V2 through a whole Headgate, asked by NVIDIA's own client."""

from __future__ import annotations

import http.client
import json
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from acceptance.system import Headgate, environment, wait_for
from pythons import INSTALL_TIMEOUT_S
from triton.conftest import ENDPOINT

pytestmark = pytest.mark.slow
ROW = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}
WORD = {"name": "words", "datatype": "BYTES", "shape": [1], "data": ["w"]}


@pytest.mark.timeout(INSTALL_TIMEOUT_S + 120)
def test_the_real_client_is_served(headgate: Headgate, triton_python: Path) -> None:
    uri = headgate.cli_json("online-endpoint", "show", "--name", ENDPOINT)["scoring_uri"]
    address = uri.removeprefix("https://").removesuffix("/score")
    key = headgate.keys(ENDPOINT)["primaryKey"]
    done = subprocess.run(
        [triton_python, Path(__file__).with_name("client.py"), address,
         headgate.cli("ca").strip(), ENDPOINT, key],
        env=environment(), capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout == "all is well\n"


def test_by_host_name_with_a_mirror_and_in_the_logs(headgate: Headgate) -> None:
    """What holds for /score holds here: host names, mirrored copies, request logs, counts."""
    parts = urlsplit(headgate.running()["scoring"])
    key = headgate.keys(ENDPOINT)["primaryKey"]
    connection = http.client.HTTPSConnection(parts.hostname, parts.port, context=headgate.tls)
    told = {"Authorization": f"Bearer {key}", "Host": f"{ENDPOINT}.models.example.com"}

    def ask(path: str, body: object = None) -> tuple[int, dict[str, object]]:
        data = json.dumps(body).encode() if body is not None else None
        connection.request("POST" if data else "GET", path, body=data, headers=told)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    headgate.cli("online-endpoint", "update", "-n", ENDPOINT, "--mirror-traffic", "green=50")
    try:
        assert ask("/v2/health/live") == (200, {"live": True})

        def mirrored() -> bool:
            status, said = ask(f"/v2/models/{ENDPOINT}/infer", {"inputs": [ROW, WORD]})
            assert (status, said["model_name"]) == (200, ENDPOINT)
            rows = headgate.cli_json("online-endpoint", "traffic", "--name", ENDPOINT)
            return any(row.get("mirrored") for row in rows)

        wait_for(mirrored, "a copy reaches the mirror")
        assert ask("/v2/../score", {})[0] == 404
    finally:
        connection.close()
        headgate.cli("online-endpoint", "update", "-n", ENDPOINT, "--mirror-traffic", "green=0")
    logged = ("logs", "query", "--table", "traffic", "--where", "ResponseCode == 200")
    path = f"/v2/models/{ENDPOINT}/infer"
    wait_for(
        lambda: any(row["Path"] == path for row in headgate.cli_json(*logged)),
        "the requests are in the traffic log",
    )
