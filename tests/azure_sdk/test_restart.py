"""The control plane is killed while the real client waits for long-running operations."""

from __future__ import annotations

import pytest
from azure.core.exceptions import HttpResponseError

from acceptance.system import Headgate, wait_for
from azure_sdk.user import User
from headgate.azure import ml_client

# Starts up only when the test says so.
GATED = """
import os, pathlib, time

def init():
    while not pathlib.Path(os.environ["GATE"]).exists():
        time.sleep(0.05)
    if os.environ["NAME"] == "bad":
        raise RuntimeError("no such weights")

def run(raw_data):
    return "served"
"""


@pytest.mark.slow
def test_pollers_end_with_the_true_results_when_the_gateway_dies(
    private_headgate: Headgate, user: User
) -> None:
    private_headgate.start()
    client = ml_client(data=private_headgate.data)
    mine = User(client, private_headgate, user.folder, user.new_name)
    endpoint, gate = mine.make_endpoint(), user.folder / "gate"
    pollers = {}
    for name in ("good", "bad"):
        variables = {"NAME": name, "GATE": str(gate)}
        wanted = mine.deployment(endpoint, name, GATED, environment_variables=variables)
        pollers[name] = client.online_deployments.begin_create_or_update(wanted)

    def states() -> set[str]:
        return {each.provisioning_state for each in client.online_deployments.list(endpoint)}

    assert states() == {"Creating"}
    killed = private_headgate.kill("run control")
    assert not any(poller.done() for poller in pollers.values())
    wait_for(
        lambda: any(
            "run control" in each.command and each.pid != killed
            for each in private_headgate.processes().values()
        ),
        "the control plane is started again",
    )
    gate.touch()

    assert pollers["good"].result(timeout=45).provisioning_state == "Succeeded"
    with pytest.raises(HttpResponseError, match="no such weights"):
        pollers["bad"].result(timeout=45)
    assert client.online_deployments.get("good", endpoint).provisioning_state == "Succeeded"
    assert client.online_deployments.get("bad", endpoint).provisioning_state == "Failed"
    mine.set_traffic(endpoint, good=100)
    assert mine.score(endpoint) == "served"
