"""Several routers on one bus: what is revoked is refused by each of them, within seconds."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acceptance.models import deployment_file
from acceptance.system import PROGRAM, Headgate, environment, wait_for
from headgate.runtime import ports

REFUSED_WITHIN_S = 5.0
ROUTERS = 3
SCRIPT = """
    def init(): ...

    def run(raw_data):
        return "served"
"""


class Routers:
    """The router that ``headgate up`` runs, and others beside it."""

    def __init__(self, headgate: Headgate, scoring_ports: list[int]) -> None:
        self._headgate = headgate
        self._ports = scoring_ports

    def statuses(self, endpoint: str, credential: str) -> set[int]:
        """What each of them answers to that key or token."""
        return {self._status(port, endpoint, credential) for port in self._ports}

    def _status(self, port: int, endpoint: str, credential: str) -> int:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, context=self._headgate.tls, timeout=10
        )
        with contextlib.closing(connection):
            headers = {"Authorization": f"Bearer {credential}", "Content-Type": "application/json"}
            path = f"/api/v1/endpoint/{endpoint}/score"
            try:
                connection.request("POST", path, b"{}", headers)
                return connection.getresponse().status
            except ConnectionRefusedError:
                return 0  # it has not started yet

    def refuse(self, endpoint: str, credential: str) -> bool:
        return self.statuses(endpoint, credential) == {401}

    def serve(self, endpoint: str, credential: str) -> bool:
        return self.statuses(endpoint, credential) == {200}


@pytest.fixture(scope="module")
def routers(headgate: Headgate) -> Iterator[Routers]:
    running = headgate.running()
    first = int(running["scoring"].rpartition(":")[2])
    chosen, processes = [first], []
    with contextlib.ExitStack() as stack:
        for _ in range(ROUTERS - 1):
            port = ports.choose("127.0.0.1", 0, setting="scoring_port", avoid=chosen)
            chosen.append(port)
            command = [PROGRAM, "run", "router", "--data", headgate.data, "--nats", running["nats"]]
            process = subprocess.Popen(
                [*map(str, command), "--scoring-port", str(port)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment(),
            )
            processes.append(process)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        yield Routers(headgate, chosen)


def deploy(headgate: Headgate, files: Path, name: str) -> None:
    file = deployment_file(files, name, "blue", SCRIPT)
    headgate.cli("online-deployment", "create", "-f", file, "--all-traffic")


@pytest.mark.slow
def test_a_replaced_key_is_refused_by_all_of_them_and_the_other_goes_on(
    headgate: Headgate, routers: Routers, new_endpoint: Callable[[], str], files: Path
) -> None:
    name = new_endpoint()
    deploy(headgate, files, name)
    old = headgate.keys(name)
    wait_for(lambda: routers.serve(name, old["primaryKey"]), "all routers serve")

    headgate.cli("online-endpoint", "regenerate-keys", "-n", name, "--key-type", "primary")
    replaced_at = time.monotonic()
    while not routers.refuse(name, old["primaryKey"]):
        assert time.monotonic() - replaced_at < REFUSED_WITHIN_S
        assert routers.serve(name, old["secondaryKey"])
    new = headgate.keys(name)
    assert new["primaryKey"] not in old.values()
    assert routers.serve(name, new["primaryKey"])
    assert new["secondaryKey"] == old["secondaryKey"]


@pytest.mark.slow
def test_a_revoked_token_is_refused_by_all_of_them(
    headgate: Headgate, routers: Routers, files: Path
) -> None:
    name = "acc-directory"
    headgate.cli("online-endpoint", "create", "-n", name, "--auth-mode", "aad_token")
    deploy(headgate, files, name)
    grants = ["--role", "operator", "--workspace", "local"]
    made = json.loads(headgate.cli("token", "create", "robot", *grants, "--output", "json"))
    kept = json.loads(headgate.cli("token", "create", "other", *grants, "--output", "json"))
    wait_for(lambda: routers.serve(name, made["token"]), "all routers serve")

    headgate.cli("token", "revoke", made["id"], "--yes")
    revoked_at = time.monotonic()
    while not routers.refuse(name, made["token"]):
        assert time.monotonic() - revoked_at < REFUSED_WITHIN_S
    assert routers.serve(name, kept["token"])
    headgate.cli("online-endpoint", "delete", "-n", name, "--yes")
