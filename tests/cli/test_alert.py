"""``headgate alert`` against a running system, whose settings list no address."""

from __future__ import annotations

from cli.conftest import Command
from cli.terminal import headgate


def test_an_address_that_is_not_listed_is_refused_with_the_setting_that_lists_it(
    cli: Command,
) -> None:
    ran = headgate(
        *("alert", "set", "-n", "r", "--on", "sla-burning", "--webhook", "https://a.example/x")
    )
    assert ran.code != 0 and "alert_urls" in ran.err and "listed: none" in ran.err
    assert cli("alert", "list").document == []
    ran = headgate("alert", "test", "-n", "r")
    assert ran.code != 0 and "no alert rule 'r'" in ran.err
    cli("alert", "remove", "-n", "r", "--yes")
