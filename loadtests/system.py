"""Headgate itself under load: ``headgate up`` on a folder of its own, and deployments in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from loadtests.processes import ServerError, Tree, last_words, spawn
from loadtests.workloads import MODELS, SMALL, Target, Workload

ENDPOINT = "bench"
BLUE, GREEN = "blue", "green"
START_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class System:
    """One running Headgate with one endpoint, over plain HTTP on loopback."""

    data: Path
    tree: Tree
    settings: Mapping[str, str]

    @classmethod
    @contextmanager
    def running(cls, **settings: object) -> Iterator[Self]:
        """Everything on: key check, split, admission, logs, metrics; ended with the block."""
        with tempfile.TemporaryDirectory(prefix="hg-bench-") as name:
            data, log, tree = Path(name) / "data", Path(name) / "up.log", Tree(name)
            data.mkdir()
            named = {f"HEADGATE_{name.upper()}": str(value) for name, value in settings.items()}
            system = cls(data, tree, named)
            command = [sys.executable, "-m", "headgate", "up", "--http", "--data", str(data)]
            command += ["--port", "0", "--scoring-port", "0"]
            process = spawn(command, system.environ(), log)
            try:
                system._until_ready(process, log)
                system.cli("online-endpoint", "create", "-n", ENDPOINT)
                yield system
            finally:
                tree.end(process, signal.SIGTERM)

    def environ(self) -> dict[str, str]:
        kept = {key: text for key, text in os.environ.items() if not key.startswith("HEADGATE_")}
        return {**kept, **self.settings, "HEADGATE_DATA": str(self.data)}

    def _until_ready(self, process: subprocess.Popen[bytes], log: Path) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (self.data / "run" / "headgate.json").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerError(f"headgate up is not ready:\n{last_words(log)}")
            time.sleep(0.1)

    def running_file(self) -> Any:
        """What it tells local clients: addresses, process."""
        return json.loads((self.data / "run" / "headgate.json").read_text())

    def cli(self, *arguments: str) -> str:
        """One command that must succeed; what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "headgate", *arguments],
            env=self.environ(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise ServerError(f"headgate {' '.join(arguments)}: {done.stderr.strip()[-800:]}")
        return done.stdout

    def cli_json(self, *arguments: str) -> Any:
        return json.loads(self.cli(*arguments, "-o", "json"))

    def deploy(
        self,
        name: str,
        script: str,
        *,
        concurrency: int,
        instances: int = 1,
        timeout_ms: int = 5_000,
        traffic: bool = True,
    ) -> None:
        """Create a deployment of a script of ``loadtests/models`` and wait until it serves."""
        said = {
            "name": name,
            "endpoint_name": ENDPOINT,
            "code_configuration": {"code": str(MODELS), "scoring_script": script},
            "instance_type": "Standard_DS3_v2",
            "instance_count": instances,
            "request_settings": {
                "max_concurrent_requests_per_instance": concurrency,
                "request_timeout_ms": timeout_ms,
            },
        }
        file = self.data.parent / f"{name}.json"
        file.write_text(json.dumps(said))
        flags = ["--allow-outside", *(["--all-traffic"] if traffic else [])]
        self.cli("online-deployment", "create", "-f", str(file), *flags)

    def target(self, workload: Workload = SMALL) -> Target:
        """Where the endpoint is scored, with its key."""
        keys = self.cli_json("online-endpoint", "get-credentials", "-n", ENDPOINT)
        parts = urlsplit(self.running_file()["scoring"])
        headers = {
            "Authorization": f"Bearer {keys['primaryKey']}",
            "Content-Type": workload.content_type,
        }
        path = f"/api/v1/endpoint/{ENDPOINT}/score"
        return Target(str(parts.hostname), int(parts.port or 80), path, headers, workload.body)

    def worker_pids(self, deployment: str = BLUE) -> list[int]:
        """The model processes of a deployment."""
        found = self.cli_json("online-deployment", "instances", "-e", ENDPOINT, "-n", deployment)
        return [int(each["pid"]) for each in found if each.get("pid")]
