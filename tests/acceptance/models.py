"""Scoring scripts of the acceptance tests, and the YAML files that deploy them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import yaml

from acceptance.system import Headgate

# Notes every execution, with the clock that all processes of the machine share, before it answers.
JOURNAL = '''
"""Writes id, process and start of every execution into the file that JOURNAL names."""
import json, os, time

def init():
    global journal
    journal = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def run(raw_data):
    asked = json.loads(raw_data)
    os.write(journal, f"{asked['id']} {os.getpid()} {time.monotonic():.6f}\\n".encode())
    time.sleep(asked.get("sleep_s", 0))
    return {"id": asked["id"], "pid": os.getpid()}
'''


@dataclass(frozen=True, slots=True)
class Execution:
    """One line of the journal."""

    id: str
    pid: int
    started: float


class Journal:
    """What the journal script wrote."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Execution]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        parts = (line.split() for line in lines)
        return [Execution(id, int(pid), float(started)) for id, pid, started in parts]


def endpoint_file(folder: Path, name: str) -> Path:
    """Writes the YAML file of an endpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "endpoint.yml"
    path.write_text(yaml.safe_dump({"name": name, "auth_mode": "key"}))
    return path


def deployment_file(
    folder: Path,
    endpoint: str,
    name: str,
    script: str,
    *,
    variables: Mapping[str, str] | None = None,
    **fields: Any,
) -> Path:
    """Writes a scoring script and the YAML file of a deployment of it."""
    code = folder / f"{name}-code"
    code.mkdir(parents=True, exist_ok=True)
    (code / "score.py").write_text(dedent(script).lstrip())
    said = {
        "name": name,
        "endpoint_name": endpoint,
        "code_configuration": {"code": code.name, "scoring_script": "score.py"},
        "environment_variables": dict(variables or {}),
        "instance_type": "Standard_DS3_v2",
        "instance_count": 1,
        "request_settings": {"max_concurrent_requests_per_instance": 8},
        **fields,
    }
    path = folder / f"{name}.yml"
    path.write_text(yaml.safe_dump(said))
    return path


class Journaled:
    """An endpoint whose deployments write every execution into one journal."""

    def __init__(self, headgate: Headgate, endpoint: str, folder: Path) -> None:
        self.headgate = headgate
        self.endpoint = endpoint
        self.folder = folder
        self.journal = Journal(folder / "journal.txt")

    def deploy(self, name: str, *, instances: int = 1, all_traffic: bool = False) -> None:
        path = deployment_file(
            self.folder,
            self.endpoint,
            name,
            JOURNAL,
            variables={"JOURNAL": str(self.journal.path)},
            instance_count=instances,
        )
        flags = ["--all-traffic"] if all_traffic else []
        self.headgate.cli("online-deployment", "create", "-f", path, *flags)
