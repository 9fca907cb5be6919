"""Programs of other people: an example, and code that knows nothing of Headgate."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import certifi
import pytest

from acceptance.system import EXAMPLES, Headgate, environment
from azure_sdk.user import User

# Nothing in it is of Headgate: it would do the same in Azure.
UNCHANGED = """
import os, sys, warnings
warnings.simplefilter("ignore")
from azure.ai.ml import MLClient
from azure.identity import DefaultAzureCredential

client = MLClient(
    DefaultAzureCredential(),
    os.environ["AZUREML_ARM_SUBSCRIPTION"],
    os.environ["AZUREML_ARM_RESOURCEGROUP"],
    os.environ["AZUREML_ARM_WORKSPACE_NAME"],
    show_progress=False,
)
endpoint, request = sys.argv[1:]
print(client.online_endpoints.get(endpoint).traffic)
print(client.online_endpoints.invoke(endpoint, request_file=request))
client.models.download("weights", "1", download_path=os.environ["TARGET"])
"""


def fresh_shell(**extra: str) -> dict[str, str]:
    """An environment in which no ``MLClient`` of this process has left anything."""
    left = ("AZUREML_CURRENT_CLOUD", "REQUESTS_CA_BUNDLE")
    return {name: text for name, text in environment(**extra).items() if name not in left}


@pytest.mark.slow
def test_a_program_for_azure_needs_only_the_variables(user: User, headgate: Headgate) -> None:
    weights = user.folder / "w.txt"
    weights.write_text("w")
    endpoint = user.make_endpoint()
    user.deploy(endpoint, "blue", model={"name": "weights", "version": "1", "path": str(weights)})
    user.set_traffic(endpoint, blue=100)
    variables = headgate.cli_json("azure-env")
    # Somebody signed in to Azure; a mistake here would send these credentials or find nobody.
    signed_in = {"AZURE_CLIENT_ID": "x", "AZURE_TENANT_ID": "x", "AZURE_CLIENT_SECRET": "x"}
    target = user.folder / "target"
    done = subprocess.run(
        [sys.executable, "-c", UNCHANGED, endpoint, str(user.write_request({"a": 1}))],
        env={**fresh_shell(), **signed_in, **variables, "TARGET": str(target)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    traffic, answer = done.stdout.splitlines()[:2]
    assert traffic == "{'blue': 100}"
    assert json.loads(answer)["sent"] == {"a": 1}
    assert (target / "weights" / "w.txt").read_text() == "w"


def test_the_lines_for_a_shell_set_the_same_variables(headgate: Headgate) -> None:
    expected = headgate.cli_json("azure-env", "--workspace", "team-a", "-g", "it's mine")
    assert expected["AZUREML_ARM_WORKSPACE_NAME"] == "team-a"
    assert expected["AZUREML_ARM_RESOURCEGROUP"] == "it's mine"
    lines = headgate.cli("azure-env", "--workspace", "team-a", "-g", "it's mine")
    names = " ".join(expected)
    script = f"{lines}\nfor name in {names}; do printf '%s\\0' \"$(printenv $name)\"; done"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split("\0")[:-1] == list(expected.values())
    powershell = headgate.cli("azure-env", "--shell", "powershell", "-g", "it's mine")
    assert "$env:AZUREML_ARM_RESOURCEGROUP = 'it''s mine'" in powershell.splitlines()


def test_the_bundle_keeps_what_was_trusted_and_is_the_same_the_second_time(
    headgate: Headgate, files: Path
) -> None:
    own = (headgate.data / "tls" / "ca.pem").read_text().strip()
    other = re.findall(r"-----BEGIN.+?END CERTIFICATE-----", certifi.contents(), re.DOTALL)[0]
    chosen = files / "corporate.pem"
    chosen.write_text(f"# ours\n{other}\n")
    command = [sys.executable, "-m", "headgate", "azure-env", "--output", "json"]
    bundles = []
    for before in (chosen, None):
        variables = environment(HEADGATE_DATA=str(headgate.data))
        variables["REQUESTS_CA_BUNDLE"] = str(before or bundles[0])
        done = subprocess.run(command, env=variables, capture_output=True, check=True)
        bundles.append(Path(json.loads(done.stdout)["REQUESTS_CA_BUNDLE"]))
    assert bundles[0] == bundles[1]
    text = bundles[0].read_text()
    assert own in text and other in text and text.count("BEGIN CERTIFICATE") == 2


@pytest.mark.slow
def test_the_example_deploys_as_it_is(headgate: Headgate) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", EXAMPLES / "azure" / "deploy.py", "--delete"],
        env={**fresh_shell(HEADGATE_DATA=str(headgate.data)), "PATH": os.defpath},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 'answer: ["setosa", "virginica"]' in done.stdout
    assert "traffic: {'blue': 100}" in done.stdout and "deleted" in done.stdout
