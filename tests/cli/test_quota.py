"""``headgate quota`` against a running system."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cli.conftest import Command
from cli.terminal import headgate


def test_a_quota_is_set_shown_kept_and_removed(
    cli: Command, endpoint: str, folder: Path, unique: Callable[[str], str]
) -> None:
    name = unique("quota")
    place = ("--kind", "deployments", "--limit", "0", "-e", endpoint)
    made = cli("quota", "set", "-n", name, *place).document
    assert (made["kind"], made["limit"], made["used"]) == ("deployments", 0, 0)
    assert name in [each["name"] for each in cli("quota", "list").document]
    assert cli("quota", "show", "-n", name).document == made
    create = ("online-deployment", "create", "-f", "blue.yml", "-e", endpoint, "--no-wait")
    ran = headgate(*create)
    assert ran.code != 0 and "QuotaExceeded" in ran.err and name in ran.err
    cli("quota", "remove", "-n", name, "--yes")
    cli(*create)
    assert name not in [each["name"] for each in cli("quota", "list").document]


def test_a_quota_of_a_file_may_be_changed_by_flags(
    cli: Command, tmp_path: Path, unique: Callable[[str], str]
) -> None:
    name, file = unique("quota"), tmp_path / "quota.yml"
    file.write_text(f"name: {name}\nkind: requests\nlimit: 1000\nwindow: 1d\ncaller: '*'\n")
    made = cli("quota", "set", "-f", file, "--limit", "5", "--window", "1h").document
    assert (made["limit"], made["window"], made["caller"]) == (5, "PT1H", "*")
    table = cli("quota", "show", "-n", name, "-o", "table").out
    assert name in table and "PT1H" in table
    cli("quota", "remove", "-n", name, "--yes")


def test_what_is_wrong_with_a_quota_is_named(cli: Command, tmp_path: Path) -> None:
    file = tmp_path / "quota.yml"
    file.write_text("name: q\nkind: reqests\nlimit: 1\n")
    ran = headgate("quota", "set", "-f", file)
    assert ran.code != 0 and "quota.yml" in ran.err and "kind" in ran.err
    ran = headgate("quota", "set", "-n", "q", "--kind", "requests", "--limit", "1")
    assert ran.code != 0 and "window" in ran.err and "Traceback" not in ran.err
    ran = headgate("quota", "set", "-n", "q", "--kind", "requests", "-l", "1", "--window", "soon")
    assert ran.code != 0 and "window" in ran.err
