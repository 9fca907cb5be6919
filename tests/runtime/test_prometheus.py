"""What load reports add up to on a page for Prometheus; its own program reads page and rules."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from headgate.runtime.prometheus import LoadPage
from headgate_contracts import limits
from headgate_contracts.load import DeploymentLoad, EndpointLoad, LoadReported

COMPOSE = Path(__file__).parents[2] / "compose"
BEGAN = 1_900_000_000.0


def report(router: str, requests: int, *, since: float = BEGAN + 1, **more: Any) -> LoadReported:
    load = DeploymentLoad(
        workspace="local",
        endpoint="digits",
        deployment=more.pop("deployment", "blue"),
        in_flight=2,
        ready_instances=3,
        statuses={200: requests, 503: 1},
        latency_buckets={0: requests, 8: 1, 84: 1},
        latency_s=0.5 * requests,
        response_bytes=10 * requests,
    )
    refused = EndpointLoad(workspace="local", endpoint="digits", refused={401: 2})
    return LoadReported(
        router=router,
        seq=1,
        since=since,
        mono_s=0.0,
        connections=4,
        connections_opened=9,
        deployments=(load,),
        endpoints=(refused,),
        **more,
    )


def values(text: str) -> dict[str, float]:
    found = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in found}


OF_BLUE = 'workspace="local",endpoint="digits",deployment="blue"'
OK = f'headgate_requests_total{{{OF_BLUE},code="200"}}'


def test_counters_go_on_when_routers_come_and_go() -> None:
    page, seen = LoadPage(BEGAN, "1"), []
    for said, now in (
        (report("a", 5), 1.0),
        (report("a", 7), 2.0),
        (report("b", 10), 2.0),
        (report("a", 8, is_last=True), 3.0),
        (report("c", 1), 4.0),
        (report("b", 11), 30.0),  # the others are silent by now
        (report("b", 3), 31.0),  # its endpoint was deleted and made again
    ):
        page.hear(said, now)
        seen.append(values(page.text(now))[OK])
    assert seen == [5, 7, 17, 18, 19, 20, 23]
    found = values(page.text(31.0))
    assert found["headgate_routers"] == 1 and found["headgate_connections"] == 4
    assert found[f"headgate_ready_instances{{{OF_BLUE}}}"] == 3
    assert (
        found['headgate_refused_requests_total{workspace="local",endpoint="digits",code="401"}']
        == 6
    )


def test_what_was_counted_before_us_is_not_counted_again() -> None:
    """After a restart of the gateway counters begin anew, instead of jumping."""
    page = LoadPage(BEGAN, "1")
    page.hear(report("old", 1_000, since=BEGAN - 500), 1.0)
    assert values(page.text(1.0)).get(OK, 0) == 0
    page.hear(report("old", 1_003, since=BEGAN - 500), 2.0)
    assert values(page.text(2.0))[OK] == 3


def test_instances_are_seen_by_all_routers_and_requests_by_one() -> None:
    page = LoadPage(BEGAN, "1")
    page.hear(report("a", 1), 1.0)
    page.hear(report("b", 1), 1.0)
    found = values(page.text(1.0))
    assert found[f"headgate_ready_instances{{{OF_BLUE}}}"] == 3
    assert found[f"headgate_requests_in_flight{{{OF_BLUE}}}"] == 4


def test_buckets_are_cumulative() -> None:
    page = LoadPage(BEGAN, "1")
    page.hear(report("a", 6), 1.0)
    found = values(page.text(1.0))
    name = "headgate_request_duration_seconds"
    bounds = [value for key, value in found.items() if key.startswith(f"{name}_bucket")]
    assert bounds == sorted(bounds) and len(bounds) == 22
    assert (bounds[0], bounds[2], bounds[-2], bounds[-1]) == (6, 7, 7, 8)
    assert found[f"{name}_count{{{OF_BLUE}}}"] == 8 and found[f"{name}_sum{{{OF_BLUE}}}"] == 3


def test_tenants_see_their_own_and_series_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PROMETHEUS_DEPLOYMENTS_MAX", 3)
    page = LoadPage(BEGAN, "1")
    for number in range(10):
        page.hear(report("a", 1, deployment=f"d{number}"), 1.0)
    text = page.text(1.0)
    assert len(set(re.findall(r'deployment="(\w+)"', text))) == 3
    assert "digits" not in page.text(1.0, lambda workspace: workspace == "other")


def promtool(*arguments: str, text: str = "") -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not here (Debian: prometheus)")
    command = [program, *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_prometheus_reads_the_page() -> None:
    page = LoadPage(BEGAN, "1")
    page.hear(report("a", 5), 1.0)
    assert promtool("check", "metrics", text=page.text(1.0)) == ""


def test_prometheus_reads_its_settings_and_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", str(COMPOSE / "prometheus" / "rules.yml"))
    promtool("check", "config", "--syntax-only", str(COMPOSE / "prometheus" / "prometheus.yml"))


def test_the_dashboard_and_the_rules_ask_for_what_there_is() -> None:
    page = LoadPage(BEGAN, "1")
    page.hear(report("a", 5), 1.0)
    known = set(re.findall(r"^(headgate_\w+)", page.text(1.0), re.MULTILINE))
    for path in (COMPOSE / "grafana" / "headgate.json", COMPOSE / "prometheus" / "rules.yml"):
        asked = set(re.findall(r"(?<![:\w])headgate_\w+", path.read_text()))
        assert asked and asked <= known, asked - known
