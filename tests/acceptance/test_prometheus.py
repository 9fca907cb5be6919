"""Debian's Prometheus scrapes a running Headgate, the gateway and a router, and loads its rules."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from acceptance.load import Load
from acceptance.models import deployment_file, endpoint_file
from acceptance.system import ROOT, Headgate, wait_for
from headgate.runtime import ports

PAGE = ports.choose("127.0.0.1", 0, setting="router_metrics_port")
PROMETHEUS = shutil.which("prometheus")
SCRIPT = """
    def init(): ...

    def run(raw_data):
        return "served"
"""


class Prometheus:
    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"{self._url}/{path}", timeout=5) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None  # it is starting

    def value(self, expression: str) -> float | None:
        found = self.get(f"query?query={quote(expression)}")
        return float(found["result"][0]["value"][1]) if found and found["result"] else None


@pytest.fixture
def scraped() -> Iterator[Headgate]:
    """A Headgate whose router has a page of its own."""
    folder = Path(tempfile.mkdtemp(prefix="hg-acc-"))
    system = Headgate(folder, HEADGATE_ROUTER_METRICS_PORT=str(PAGE))
    try:
        if PROMETHEUS is None:
            pytest.skip("prometheus is not here (Debian: prometheus)")
        system.start()
        yield system
    finally:
        system.discard()


@pytest.fixture
def scraping(scraped: Headgate, files: Path) -> Iterator[Prometheus]:
    """A Prometheus with the settings of compose/ that reads it every second."""
    grants = ("--role", "reader", "--workspace", "*")
    token = scraped.cli_json("token", "create", "prometheus", *grants)["token"]
    (files / "prometheus.token").write_text(token)
    settings = yaml.safe_load((ROOT / "compose/prometheus/prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    settings["rule_files"] = [str(ROOT / "compose/prometheus/rules.yml")]
    (job,) = settings["scrape_configs"]
    gateway = scraped.running()["gateway"].partition("://")[2]
    job["static_configs"] = [{"targets": [gateway]}]
    job["authorization"] = {"credentials_file": str(files / "prometheus.token")}
    job["tls_config"] = {"ca_file": scraped.cli("ca").strip()}
    router = {"job_name": "router", "static_configs": [{"targets": [f"127.0.0.1:{PAGE}"]}]}
    settings["scrape_configs"] = [job, router]
    (files / "prometheus.yml").write_text(yaml.safe_dump(settings))
    own = ports.choose("127.0.0.1", 0, setting="port", avoid=(PAGE,))
    command = [str(PROMETHEUS), f"--config.file={files / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={files / 'tsdb'}", f"--web.listen-address=127.0.0.1:{own}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        yield Prometheus(own)
        running.terminate()


@pytest.mark.slow
async def test_prometheus_scrapes_and_its_rules_load(
    scraped: Headgate, scraping: Prometheus, files: Path
) -> None:
    name = "scraped"
    scraped.cli("online-endpoint", "create", "-f", endpoint_file(files, name))
    file = deployment_file(files, name, "blue", SCRIPT)
    scraped.cli("online-deployment", "create", "-f", file, "--all-traffic")
    await Load(scraped.target(name), connections=4).send(200)
    for job in ("headgate", "router"):
        asked = f'headgate_requests_total{{job="{job}",endpoint="{name}",code="200"}}'
        wait_for(lambda asked=asked: scraping.value(asked) == 200, f"{job} is scraped")
    groups = scraping.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == 7
    wait_for(
        lambda: all(
            rule["health"] == "ok"
            for group in scraping.get("rules")["groups"]
            for rule in group["rules"]
        ),
        "every rule has been evaluated",
    )
