"""Somebody who uses ``azure-ai-ml`` as its documentation shows: YAML files, folders, pollers."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any
from urllib.parse import urlsplit

import yaml
from azure.ai.ml import MLClient, load_online_deployment, load_online_endpoint
from azure.ai.ml.entities import OnlineDeployment, OnlineEndpoint

from acceptance.system import Headgate, environment

# Answers with its own name, what it was sent, and what it found in its model's folder.
SCRIPT = '''
"""Tells which deployment answers."""
import json, os
from pathlib import Path

def init():
    global files
    model = os.environ.get("AZUREML_MODEL_DIR")
    found = sorted(p for p in Path(model).rglob("*") if p.is_file()) if model else []
    files = {str(path.relative_to(model)): path.read_text() for path in found}
    print("ready:", os.environ["NAME"])

def run(raw_data):
    return {"name": os.environ["NAME"], "sent": json.loads(raw_data), "files": files}
'''

INVOKE = """
import sys, warnings
warnings.simplefilter("ignore")
from headgate.azure import ml_client

endpoint, deployment, request = sys.argv[1:]
client = ml_client()
print(client.online_endpoints.invoke(endpoint, deployment_name=deployment, request_file=request))
"""


@dataclass
class User:
    """A client, files of one's own, and the endpoints one has made."""

    client: MLClient
    headgate: Headgate
    folder: Path
    new_name: Callable[[], str]
    endpoints: list[str] = field(default_factory=list)

    def make_endpoint(self, **fields: Any) -> str:
        """Creates an endpoint from a YAML file; its name."""
        name = self.new_name()
        path = self.write(f"{name}.yml", {"name": name, "auth_mode": "key", **fields})
        self.endpoints.append(name)
        made = self.client.online_endpoints.begin_create_or_update(load_online_endpoint(path))
        assert isinstance(made.result(), OnlineEndpoint)
        return name

    def deployment(
        self, endpoint: str, name: str, script: str = SCRIPT, **fields: Any
    ) -> OnlineDeployment:
        """A deployment as its YAML file and its code folder describe it; nothing is sent."""
        code = self.folder / f"{endpoint}-{name}" / "code"
        code.mkdir(parents=True, exist_ok=True)
        (code / "score.py").write_text(dedent(script).lstrip())
        (code / "lib").mkdir(exist_ok=True)
        (code / "lib" / "__init__.py").touch()
        said = {
            "name": name,
            "endpoint_name": endpoint,
            "code_configuration": {"code": "code", "scoring_script": "score.py"},
            "environment_variables": {"NAME": name},
            "instance_type": "Standard_DS3_v2",
            "instance_count": 1,
            "request_settings": {"max_concurrent_requests_per_instance": 8},
            **fields,
        }
        return load_online_deployment(self.write(f"{endpoint}-{name}/{name}.yml", said))

    def deploy(
        self, endpoint: str, name: str, script: str = SCRIPT, **fields: Any
    ) -> OnlineDeployment:
        """Creates a deployment and waits until it serves."""
        wanted = self.deployment(endpoint, name, script, **fields)
        return self.client.online_deployments.begin_create_or_update(wanted).result()

    def set_traffic(self, endpoint: str, **shares: int) -> None:
        """Sets who gets how much, as the documentation does it."""
        found = self.client.online_endpoints.get(endpoint)
        found.traffic = shares
        self.client.online_endpoints.begin_create_or_update(found).result()

    def mirror(self, endpoint: str, **shares: int) -> None:
        """Sets who gets copies."""
        found = self.client.online_endpoints.get(endpoint)
        found.mirror_traffic = shares
        self.client.online_endpoints.begin_create_or_update(found).result()

    def score(self, endpoint: str, request: Any = None) -> Any:
        """What whoever has the traffic answers."""
        path = self.write_request(request)
        return json.loads(self.client.online_endpoints.invoke(endpoint, request_file=str(path)))

    def score_named(self, endpoint: str, deployment: str, request: Any = None) -> Any:
        """What one deployment answers.

        In a process of its own: ``azure-ai-ml`` goes on naming the deployment in every later
        invoke of the process that has named one.
        """
        path = self.write_request(request)
        done = subprocess.run(
            [sys.executable, "-c", INVOKE, endpoint, deployment, str(path)],
            env=environment(HEADGATE_DATA=str(self.headgate.data)),
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def status(self, endpoint: str, credential: str) -> int:
        """The status of a plain HTTP request with that key or token, as any program sends it."""
        uri = urlsplit(self.client.online_endpoints.get(endpoint).scoring_uri)
        assert uri.hostname, uri
        tls = self.headgate.tls
        connection = http.client.HTTPSConnection(uri.hostname, uri.port, context=tls)
        with contextlib.closing(connection):
            headers = {"Authorization": f"Bearer {credential}", "Content-Type": "application/json"}
            connection.request("POST", uri.path, b"{}", headers)
            return connection.getresponse().status

    def write(self, name: str, document: Any) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(document))
        return path

    def write_request(self, request: Any) -> Path:
        path = self.folder / "request.json"
        path.write_text(json.dumps({} if request is None else request))
        return path

    def leave(self) -> None:
        """Deletes what was made, without waiting for it."""
        for name in self.endpoints:
            self.client.online_endpoints.begin_delete(name)
