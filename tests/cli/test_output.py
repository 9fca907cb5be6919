"""What commands print for people: tables on terminals of any width, and words about bad values."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from cli.conftest import Command
from cli.terminal import headgate
from headgate.cli import autoscale_words as words
from headgate.cli import costs, errors, events, output
from headgate.cli.autoscale_edit import recurring, trigger
from headgate.cli.options import Format
from headgate_contracts.autoscale import AutoscaleSpec, Capacity, Direction, Profile, Rule
from headgate_contracts.autoscale import ScaleAction as Action
from headgate_contracts.errors import ErrorCode, HeadgateError


@pytest.fixture(params=[30, 80, 200])
def terminal(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> pytest.CaptureFixture[str]:
    """A terminal of some width."""
    for name, text in {"COLUMNS": str(request.param), "LINES": "24", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, text)
    return capsys


def shown(
    terminal: pytest.CaptureFixture[str],
    document: Any,
    columns: Any = (),
    form: Format = Format.TABLE,
) -> str:
    """What is written to the terminal. Each phase of a test has a stdout of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.stdout, "isatty", lambda: True)
        output.show(document, form, columns=columns)
    return terminal.readouterr().out


def words_of(text: str) -> str:
    return " ".join(text.split())


def test_costs_are_shown_whatever_the_width(terminal: pytest.CaptureFixture[str]) -> None:
    figures = ("cost", "instanceSeconds", "nodeSeconds", "requests", "computeSeconds")
    row = {"group": "digits", "responseBytes": 0, **dict.fromkeys(figures, 3600)}
    columns = {**costs.COLUMNS, "group": "endpoint"}
    text = words_of(shown(terminal, costs.chart({"rows": [row]}, "endpoint"), columns))
    assert "digits" in text and "3600.00" in text


def test_fields_of_fields_are_told_without_brackets_and_microseconds(
    terminal: pytest.CaptureFixture[str],
) -> None:
    document = {
        "creation_context": {"created_at": "2030-01-31T12:30:00.123456Z"},
        "identity": {"type": "system_assigned", "ids": [], "owner": {"name": "me"}},
        "rules": [{"index": 0, "scale": {"by": 2}}, {"index": 1, "scale": {}}],
    }
    text = words_of(shown(terminal, document))
    assert "created_at=2030-01-31 12:30:00Z" in text
    assert "type=system_assigned owner.name=me" in text
    assert "index=0 scale.by=2 index=1" in text
    assert not set("{}[]\"'") & set(text)


@pytest.mark.parametrize("form", list(Format))
def test_what_others_have_written_does_not_steer_a_terminal(
    terminal: pytest.CaptureFixture[str], form: Format
) -> None:
    steering = "\x1b \x07 \x9b \x7f \x08 \u202e"
    written = {"description": f"red{steering}\nnext", "tags": {f"a{steering}": steering}}
    for document in (written, [written], written["description"]):
        text = shown(terminal, document, form=form)
        assert not set(steering.split()) & set(text), text
        assert "red" in text and ("\\u001b" in text or "\\e" in text)  # YAML's own
    errors.say(f"error: {steering}")
    assert "error: \\u001b" in terminal.readouterr().err


def test_a_program_gets_what_others_have_written_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.show({"description": "red\x1b[31m\x9b"}, Format.TSV)
    assert capsys.readouterr().out == "red\x1b[31m\x9b\n"


def test_a_mistake_that_headgate_finds_is_told_from_an_operation_that_failed() -> None:
    mistake = HeadgateError(ErrorCode.BAD_ARGUMENT, "no such size")
    assert errors.report(mistake) == errors.report(errors.UsageError("no such size")) == 2
    assert errors.report(errors.OperationFailedError(mistake)) == 1


def test_a_program_gets_times_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    output.show({"at": "2030-01-31T12:30:00.123456Z"}, Format.JSON)
    assert "12:30:00.123456Z" in capsys.readouterr().out


def test_figures_of_events_are_short() -> None:
    event = {"subject": "instance.a.b.c.ready", "data": {"startup_s": 0.20158347899, "pid": 7}}
    assert events.describe(event).endswith("startup_s=0.2016 pid=7")


def test_autoscale_settings_are_told_in_the_words_of_the_flags() -> None:
    rule = Rule(
        trigger=trigger(
            "RequestsPerMinute > 70 avg 1h30m where deployment == blue or green",
            resource="",
            grain="",
            per_instance=True,
        ),
        action=Action(direction=Direction.DECREASE, value=2, cooldown=90),
    )
    spec = AutoscaleSpec(
        name="a",
        endpoint="digits",
        deployment="blue",
        profiles=(
            Profile(
                name="default", capacity=Capacity(minimum=1, maximum=3, default=1), rules=(rule,)
            ),
        ),
    )
    weekend = Profile(name="weekend", capacity=Capacity(minimum=0, maximum=1, default=0))
    spec = recurring(spec, weekend, ["week", "sat", "sun"], "UTC", "08:30", "")
    told = words.fields(spec)
    assert list(told)[4:] == ["profile default", "profile weekend", "profile default after weekend"]
    assert told["profile weekend"] == "0 to 1, 0 without metrics\nsat sun 08:30 UTC"
    assert told["profile default"].splitlines()[1] == (
        "RequestsPerMinute > 70 avg 1h30m where deployment == blue or green, per instance: in 2"
    )
    assert words.rule_row(0, rule)["cooldown"] == "1m30s"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("quota", "set", "--kind", "rps"), "'--kind' / '-k': 'rps' is not one of 'endpoints'"),
        (("trace", "x", "--wait", "soon"), "'--wait': 'soon' is no number"),
        (
            ("online-deployment", "get-logs", "-n", "b", "-e", "d", "-l", "1.5"),
            "'1.5' is no whole number",
        ),
        (("autoscale", "history", "--top", "0"), "'0' should be greater than or equal to 1"),
    ],
)
def test_a_bad_value_of_an_option_is_told_in_plain_words(
    arguments: tuple[str, ...], said: str
) -> None:
    ran = headgate(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert "Value error" not in ran.err and "Input" not in ran.err


def test_a_problem_is_told_once(cli: Command) -> None:
    assert headgate("compute", "create").err.count("name: is required") == 1


def test_a_deletion_that_finds_nothing_says_so(cli: Command) -> None:
    for group, verb, word in (
        ("model", "delete", "model"),
        ("data", "delete", "data asset"),
        ("compute", "delete", "compute"),
        ("datastore", "delete", "datastore"),
        ("quota", "remove", "quota"),
        ("budget", "delete", "budget"),
        ("alert", "remove", "alert rule"),
    ):
        ran = cli(group, verb, "-n", "none-such", "--yes")
        assert ran.err == f"there was no {word} 'none-such'\n"
