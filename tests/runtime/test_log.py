"""Log lines: an action with values, for people or as JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from headgate.runtime import log


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("headgate")
    kept = (root.handlers[:], root.level, ours.handlers[:], ours.level, ours.propagate)
    yield
    root.handlers[:], root.level = kept[0], kept[1]
    ours.handlers[:], ours.level, ours.propagate = kept[2], kept[3], kept[4]


def test_json_lines_hold_every_value(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("INFO", "json")
    log.Log("router").info("instance_lost", endpoint="digits", exit_code=3)
    line = json.loads(capsys.readouterr().err)
    assert line["service"] == "router"
    assert (line["action"], line["endpoint"], line["exit_code"]) == ("instance_lost", "digits", 3)


def test_text_lines_are_one_line_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("WARNING", "text")
    log.Log("router").info("hidden")
    log.Log("router").warning("shown", why="because")
    assert capsys.readouterr().err.rstrip().endswith("shown why=because")


def test_what_comes_from_outside_is_no_line_of_its_own_and_steers_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.configure("INFO", "text")
    log.Log("gateway").info("request", path="/a\x1b[31m\r\n2030-01-31T12:00:00Z INFO forged\x9b")
    (line,) = capsys.readouterr().err.rstrip("\n").split("\n")
    assert line.endswith(r"path=/a\u001b[31m\u000d\n2030-01-31T12:00:00Z INFO forged\u009b")


def test_a_failure_carries_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("INFO", "json")
    try:
        raise ValueError("reason")
    except ValueError:
        log.Log("registry").exception("handler_failed")
    assert "ValueError: reason" in json.loads(capsys.readouterr().err)["traceback"]
