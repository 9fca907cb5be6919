"""A model acts under the managed identity of its endpoint, and may do what that one may."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from acceptance.models import deployment_file
from acceptance.system import Headgate

SCRIPT = '''
"""Asks the gateway under the managed identity, with Azure's own client library."""
import json, os, ssl, urllib.error, urllib.request

from azure.identity import ManagedIdentityCredential

def init():
    global credential, trusted
    credential = ManagedIdentityCredential()
    trusted = ssl.create_default_context(cafile=os.environ["GATEWAY_CA"])
    credential.get_token("https://management.azure.com/.default")  # works before run() as well

def run(raw_data):
    asked = json.loads(raw_data)
    token = credential.get_token("https://management.azure.com/.default").token
    request = urllib.request.Request(
        os.environ["GATEWAY"] + asked["path"],
        data=json.dumps(asked["body"]).encode() if "body" in asked else None,
        method=asked["verb"],
        headers={"Authorization": "Bearer " + token, "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, context=trusted, timeout=5) as answer:
            return {"status": answer.status, "said": json.loads(answer.read() or b"null")}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "said": json.loads(error.read() or b"null")}
'''
BASE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/{}"


@pytest.mark.slow
def test_a_model_reads_its_workspace_and_changes_nothing(
    headgate: Headgate, new_endpoint: Callable[[], str], files: Path
) -> None:
    name = new_endpoint()
    running = headgate.running()
    file = deployment_file(
        files,
        name,
        "blue",
        SCRIPT,
        variables={"GATEWAY": running["gateway"], "GATEWAY_CA": running["ca"]},
        request_settings={"request_timeout_ms": 20_000},
    )
    headgate.cli("online-deployment", "create", "-f", file, "--all-traffic")
    uri = headgate.cli_json("online-endpoint", "show", "--name", name)["scoring_uri"]
    key = headgate.keys(name)["primaryKey"]

    def ask(verb: str, path: str, **more: object) -> tuple[int, dict]:
        body = json.dumps({"verb": verb, "path": path, **more}).encode()
        told = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        request = urllib.request.Request(uri, data=body, headers=told)
        with urllib.request.urlopen(request, context=headgate.tls, timeout=30) as answer:
            said = json.loads(answer.read())
        return said["status"], said["said"]

    mine, other = BASE.format("local"), BASE.format("other")
    status, said = ask("GET", f"{mine}/onlineEndpoints/{name}")
    assert (status, said["name"]) == (200, name)
    status, said = ask("PATCH", f"{mine}/onlineEndpoints/{name}", body={"tags": {"a": "b"}})
    assert status == 403
    assert "operator" in said["error"]["message"]
    assert ask("POST", f"{mine}/onlineEndpoints/{name}/listKeys")[0] == 403
    assert ask("GET", f"{other}/onlineEndpoints/{name}")[0] == 404
    status, said = ask("GET", "/whoami")
    assert (status, said["subject"]) == (200, f"endpoint:local/{name}")
