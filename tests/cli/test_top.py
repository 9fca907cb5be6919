"""``headgate top``."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from cli.conftest import Command
from headgate.cli import top


def row(deployment: str, rate: float, errors: float = 0.0, **more: Any) -> dict[str, Any]:
    empty = dict.fromkeys(top.COLUMNS, 0)
    figures = {"requests_per_second": rate, "failures_per_second": errors, "p50_ms": None}
    return {**empty, **figures, "endpoint": "echo", "deployment": deployment, **more}


def test_one_look_is_a_document(cli: Command) -> None:
    assert cli("top", "--once").document == []


def test_a_look_names_every_deployment_and_adds_their_requests_up() -> None:
    console = Console(width=160, record=True, force_terminal=True)
    console.print(top.table([row("blue", 120.5, p95_ms=3.2), row("[b]green[/b]", 9.5, errors=1)]))
    text = console.export_text()
    assert "2 deployments, 130.0 requests/s" in text
    assert "echo / blue" in text and "3.2" in text
    assert "[b]green[/b]" in text  # a name is no markup


def quota(name: str, limit: float, *uses: tuple[str, str, float], **more: Any) -> dict[str, Any]:
    told = [
        {"endpoint": endpoint, "deployment": deployment, "caller": "", "used": used}
        for endpoint, deployment, used in uses
    ]
    return {
        "name": name,
        "properties": {"kind": "requests", "limit": limit, "uses": told, **more},
    }


def test_the_fullest_quota_of_a_deployment_is_shown() -> None:
    quotas = [
        quota("day", 1_000, ("", "", 250)),
        quota("each", 200, ("other", "", 200), ("echo", "", 60)),
        quota("blue", 10, ("echo", "blue", 4)),
        quota("machines", 2, ("echo", "", 2), kind="instances"),
        quota("away", 5, uses=None),
        quota("none", 0, ("", "", 1)),
    ]
    assert top.fullest(row("blue", 1), quotas) == (40, "blue")
    assert top.fullest(row("green", 1), quotas) == (30, "each")
    assert top.fullest(row("green", 1), quotas[3:]) == (None, None)
    shown = row("blue", 1, quota="blue", quota_percent=40.0)
    console = Console(width=200, record=True, force_terminal=True)
    console.print(top.table([shown, row("green", 1, quota=None, quota_percent=None)]))
    assert "fullest quota" in console.export_text()
    console.print(top.table([row("blue", 1)]))
    assert "quota" not in console.export_text()
