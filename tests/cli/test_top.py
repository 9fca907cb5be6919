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
