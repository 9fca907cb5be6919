"""``headgate costs`` and ``headgate budget`` against a running system."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest

from cli.conftest import Command
from cli.terminal import headgate
from headgate.cli.costs import BAR_CHARS, bar, chart


def test_costs_are_one_document_in_every_form(cli: Command) -> None:
    told = cli("costs", "--since", "2h").document
    assert told["currency"] == "USD" and told["total"]["cost"] == 0 and told["rows"] == []
    assert "in all 0.00 USD" in cli("costs", "--by", "key", "-o", "table").out
    assert cli("costs", "--by", "day", "-o", "csv").out.strip() == ""


def test_a_budget_is_made_listed_and_deleted(cli: Command, unique: Callable[[str], str]) -> None:
    name = unique("budget")
    made = cli(
        *("budget", "create", "-n", name, "--amount", "12.5", "--time-grain", "week"),
        *("--threshold", "90", "--threshold", "100", "--tag", "team=vision"),
    ).document
    assert (made["amount"], made["thresholds"], made["tag"]) == (12.5, [90, 100], "team=vision")
    assert name in [each["name"] for each in cli("budget", "list").document]
    rows = list(csv.DictReader(io.StringIO(cli("budget", "list", "-o", "csv").out)))
    assert any(row["name"] == name and row["current_spend"] == "0.0" for row in rows)
    cli("budget", "delete", "-n", name, "--yes")
    assert name not in [each["name"] for each in cli("budget", "list").document]


def test_a_bad_question_names_what_is_wrong(cli: Command) -> None:
    ran = headgate("costs", "--since", "yesterday")
    assert ran.code != 0 and "since" in ran.err and "Traceback" not in ran.err


@pytest.mark.parametrize(("share", "chars"), [(0, 0), (1, BAR_CHARS), (0.5, BAR_CHARS / 2)])
def test_bars_are_as_long_as_what_they_stand_for(share: float, chars: int) -> None:
    assert len(bar(share)) == chars


def test_the_dearest_has_the_longest_bar() -> None:
    row: dict[str, Any] = {
        "instanceSeconds": 5_400,
        "nodeSeconds": 900,
        "requests": 2,
        "computeSeconds": 1.25,
        "responseBytes": 1_500_000_000,
    }
    rows = [{**row, "group": "a", "cost": 3.0}, {**row, "group": "", "cost": 0.0}]
    shown = chart({"rows": rows}, "key")
    assert shown[0]["share"] == "█" * BAR_CHARS and shown[1]["share"] == ""
    assert shown[0]["instance_hours"] == "1.50" and shown[0]["response_gb"] == "1.500"
    assert shown[1]["group"] == "(no request)"
