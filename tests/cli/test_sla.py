"""``headgate sla`` against a running system."""

from __future__ import annotations

from cli.conftest import Command
from cli.terminal import headgate
from headgate.cli.sla import row, window_row


def test_an_objective_is_set_shown_and_reset(cli: Command, endpoint: str) -> None:
    made = cli("sla", "set", "-e", endpoint, "--availability", "99.5").document
    assert (made["availability_target_percent"], made["is_default"]) == (99.5, False)
    made = cli("sla", "set", "-e", endpoint, "--latency-ms", "300").document
    assert (made["availability_target_percent"], made["latency_target_ms"]) == (99.5, 300)
    assert cli("sla", "show", "-e", endpoint).document == made
    shown = cli("sla", "show", "-e", endpoint, "-o", "table").out
    assert "99.5 %" in shown and "95 % in 300 ms" in shown
    assert endpoint in cli("sla", "list", "-o", "table").out
    cli("sla", "reset", "-e", endpoint)
    (found,) = [each for each in cli("sla", "list").document if each["endpoint"] == endpoint]
    assert found["is_default"]
    ran = headgate("sla", "set", "-e", endpoint, "--availability", "100")
    assert ran.code != 0 and "availabilityTargetPercent" in ran.err


def test_what_is_unknown_is_not_shown_as_a_hundred_per_cent() -> None:
    window = {
        "window": "PT1H",
        "availability_percent": None,
        "availability_burn_rate": None,
        "good": 0,
        "bad": 0,
        "excluded": 4,
        "latency_percent": 99.95,
        "latency_burn_rate": 0.5,
    }
    shown = window_row(window)
    assert (shown["availability"], shown["availability_burn"]) == ("-", "-")
    assert (shown["latency"], shown["window"]) == ("99.95 %", "1h")
    found = {
        "endpoint": "e",
        "availability_target_percent": 99.9,
        "latency_target_ms": 0,
        "latency_target_percent": 95,
        "windows": [window],
        "availability_budget_left_percent": -12.5,
        "alerts": [{"severity": "page", "indicator": "availability"}],
    }
    assert row(found) == {
        "endpoint": "e",
        "objective": "99.9 %",
        "hour": "-",
        "window": "-",
        "budget_left": "-12.5 %",
        "alerts": "page:availability",
    }
