"""The program itself: quick help, usage errors, flags as ``az`` takes them."""

from __future__ import annotations

import ast
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cli.terminal import headgate, python, started
from headgate.cli.app import app, spread
from headgate.cli.options import Format
from headgate.cli.output import show

HEAVY = (
    "pydantic",
    "aiohttp",
    "rich",
    "yaml",
    "faststream",
    "nats",
    "sqlmodel",
    "asyncio",
    "numpy",
)


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    # typer itself needs pydantic for the types of options
    [(["--help"], ()), (["online-deployment", "create", "--help"], ("pydantic",))],
)
def test_help_imports_nothing_heavy(arguments: list[str], allowed: tuple[str, ...]) -> None:
    done = python(
        "import sys\nfrom headgate.cli.app import run\n"
        f"run({arguments!r})\nprint([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    assert set(ast.literal_eval(done.stderr)) <= set(allowed)
    assert "Usage: headgate" in done.stdout


def test_no_list_of_commands_is_cut_on_a_terminal_of_80_columns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    groups: list[tuple[tuple[str, ...], Any]] = [((), get_command(app))]
    for path, group in groups:
        commands = headgate(*path, "--help").out.partition("\nCommands:\n")[2].splitlines()
        assert commands and not [line for line in commands if line.endswith("...")], path
        groups += [
            ((*path, name), command)
            for name, command in group.commands.items()
            if hasattr(command, "commands")
        ]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--set a=1 b=2", "--set a=1 --set b=2"),
        ("--set a=1 b=2 --no-wait", "--set a=1 --set b=2 --no-wait"),
        ("--traffic blue=90 green=10", "--traffic blue=90 --traffic green=10"),
        ("--remove tags.a", "--remove tags.a"),
        ("--remove list 0", "--remove list[0]"),
        ("--remove list 0 tags.a", "--remove list[0] --remove tags.a"),
        ("--add list x", "--add list=x"),
        ("--add list x y", "--add list=x --add list=y"),
        ("--add list k=v", "--add list=k=v"),
        ("--add list=x", "--add list=x"),
        ("-n blue -f x.yml", "-n blue -f x.yml"),
        ("--set --no-wait", "--set --no-wait"),
    ],
)
def test_options_with_several_values_are_spread_out(given: str, meant: str) -> None:
    assert spread(given.split()) == meant.split()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["online-endpoint", "crate"], "No such command"),
        (["online-endpoint", "create", "--nmae", "x"], "No such option"),
        (["online-endpoint", "show"], "--name"),
        (["online-endpoint", "list", "-o", "xml"], "xml"),
        (["online-endpoint", "create", "-f", "missing.yml"], "missing.yml: does not exist"),
        (["online-endpoint", "create", "-f", "."], "is not a file"),
        (["online-endpoint", "create"], "name: is required"),
        (["online-endpoint", "create", "-n", "abc", "--set", "tags"], "has no '='"),
        (["online-endpoint", "create", "-n", "abc", "--set", "a..b=1"], "is no path"),
        (["online-endpoint", "create", "-n", "abc", "--set", "tgas.a=1"], "did you mean 'tags'"),
        (["online-endpoint", "update", "-n", "abc"], "nothing to change"),
        (["online-endpoint", "update", "-n", "abc", "--traffic", "blue"], "blue=90"),
        (["online-endpoint", "update", "-n", "abc", "--traffic", "a=1 a=2"], "twice"),
        (["online-endpoint", "update", "-n", "abc", "--traffic", "a=101"], "at most 100"),
        (["online-endpoint", "delete", "-n", "abc"], "--yes"),
        (["online-endpoint", "invoke", "-n", "abc", "-r", "missing.json"], "cannot be read"),
        (["online-deployment", "create", "--all-traffic", "--no-wait"], "excludes --no-wait"),
        (["online-deployment", "update", "-n", "blue", "--set", "a=1"], "--endpoint-name"),
        (["model", "create", "-n", "m"], "path: is required"),
        (["environment", "create", "-n", "e"], "image, conda_file or build"),
    ],
)
def test_what_cannot_be_meant_ends_with_2_and_says_why(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = headgate(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert "Traceback" not in ran.err


def test_a_value_of_set_is_not_repeated_in_an_error() -> None:
    ran = headgate("online-deployment", "create", "--set", "environment_variables[0]=hunter2")
    assert ran.code == 2
    assert "hunter2" not in ran.err


# --- whom to talk to ----------------------------------------------------------------------------


@pytest.fixture
def running(data_dir: Path) -> Path:
    """A data folder that names a gateway nobody listens at."""
    (data_dir / "run").mkdir()
    (data_dir / "keys").mkdir()
    (data_dir / "run" / "headgate.json").write_text(json.dumps({"gateway": "http://127.0.0.1:9"}))
    token = data_dir / "keys" / "admin.token"
    token.write_text("secret\n")
    token.chmod(0o600)
    return data_dir


def test_without_a_running_headgate_the_message_says_how_to_start_one(data_dir: Path) -> None:
    ran = headgate("online-endpoint", "list", "--data", data_dir)
    assert ran.code == 1
    assert "headgate up" in ran.err


def test_a_gateway_that_does_not_answer_is_named(running: Path) -> None:
    ran = headgate("online-endpoint", "list", "--data", running)
    assert ran.code == 1
    assert "http://127.0.0.1:9" in ran.err


def test_a_token_file_that_others_can_read_is_refused(running: Path) -> None:
    token = running / "keys" / "admin.token"
    token.chmod(0o644)
    ran = headgate("online-endpoint", "list", "--data", running)
    assert ran.code == 3
    assert f"chmod 600 {token}" in ran.err
    assert stat.S_IMODE(token.stat().st_mode) == 0o644


def test_an_address_without_a_token_ends_with_3(data_dir: Path) -> None:
    ran = headgate("status", "--data", data_dir, "--url", "https://127.0.0.1:9")
    assert ran.code == 3
    assert "HEADGATE_TOKEN" in ran.err


def test_no_option_takes_the_token_itself() -> None:
    """Arguments are seen by every user of the machine and kept in shell histories."""
    assert headgate("status", "--token", "secret").code == 2


def test_the_token_is_not_sent_unencrypted_to_another_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HEADGATE_TOKEN", "secret")
    ran = headgate("status", "--url", "http://192.0.2.1:8900")
    assert ran.code == 2
    assert "unencrypted" in ran.err


def test_broken_running_file_and_missing_ca_are_told(running: Path) -> None:
    ran = headgate("status", "--data", running, "--ca", "/nowhere.pem")
    assert "does not exist" in ran.err
    (running / "run" / "headgate.json").write_text("{")
    ran = headgate("status", "--data", running)
    assert ran.code == 1
    assert "headgate.json" in ran.err


def test_ca_prints_the_path_and_nothing_else(data_dir: Path) -> None:
    assert headgate("ca", "--data", data_dir).code == 1
    (data_dir / "tls").mkdir()
    (data_dir / "tls" / "ca.pem").write_text("x")
    ran = headgate("ca", "--data", data_dir)
    assert ran.out == f"{data_dir / 'tls' / 'ca.pem'}\n"


def test_a_wrong_setting_of_up_is_a_message(data_dir: Path) -> None:
    ran = headgate("up", "--data", data_dir, "--http", "--host", "0.0.0.0")
    assert ran.code != 0
    assert "loopback" in ran.err or "plain HTTP" in ran.err
    assert "Traceback" not in ran.err


def test_any_locale_will_do(running: Path) -> None:
    plain = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    with started("online-endpoint", "create", "-n", "é", "--data", running, **plain) as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert b"Traceback" not in err


@pytest.mark.parametrize("form", list(Format))
def test_ten_thousand_rows_are_printed_whole(
    form: Format, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"name": f"endpoint-{n}", "traffic": {"blue": n}} for n in range(10_000)]
    show(rows, form, columns=("name", "traffic"))
    printed = capsys.readouterr().out
    assert printed.count("endpoint-") == 10_000
    if form is Format.JSON:
        assert json.loads(printed) == rows


def test_a_table_cuts_nothing_and_leaves_out_what_nobody_has(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = "a text that is long enough to be wrapped " * 8
    rows = [
        {"id": f"{n:090}", "at": f"2030-01-31T12:00:0{n}.{'1' * n}Z", "none": None, "text": text}
        for n in (3, 6)
    ]
    show(rows, Format.TABLE)
    printed = capsys.readouterr().out
    assert all(row["id"] in printed for row in rows)
    assert "2030-01-31 12:00:03.111Z" in printed and "2030-01-31 12:00:06Z" in printed
    assert printed.count("wrapped") == 16 and "…" not in printed and "none" not in printed


def test_a_field_is_a_line_that_can_be_copied(capsys: pytest.CaptureFixture[str]) -> None:
    show({"token": "t" * 500, "of": {"a": {"b": 1}, "c": {"d": 2}}, "no": ""}, Format.TABLE)
    printed = capsys.readouterr().out
    assert printed.split() == ["token", "t" * 500, "of", "a", "b=1", "of", "c", "d=2"]


def test_an_empty_table_has_its_headings(capsys: pytest.CaptureFixture[str]) -> None:
    show([], Format.TABLE, columns={"name": "name", "max_size": "largest size"})
    printed = capsys.readouterr().out
    assert "largest size" in printed and "(none)" in printed
