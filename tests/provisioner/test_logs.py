"""Log files of several instances as one text: in time order, filtered, read on from a cursor."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.provisioner import logs

T = "2026-11-24T12:00:0"


@pytest.fixture
def sources(data_dir: Path) -> list[logs.Source]:
    texts = {
        "one": f"{T}0.100Z INFO r-1 a\n{T}0.900Z ERROR r-1 Traceback\n"
        f"{T}0.901Z ERROR r-1   line 1\n{T}0.905Z ERROR r-1 Boom\n"
        f"raw output\n{T}3.000Z INFO - late\n",
        "two": f"{T}0.200Z INFO r-2 b\n{T}0.902Z INFO r-2 between\n{T}2.000Z INFO r-22 c\n",
    }
    found = []
    for name, text in texts.items():
        path = data_dir / f"{name}.log"
        path.write_text(text)
        found.append(logs.Source(name, path, began=0.0, live=True))
    return found


def said(sources: list[logs.Source], tail: int = 100, cursor: str = "", **wanted: str) -> list[str]:
    pick = logs.of_request(wanted.get("request_id", ""), wanted.get("contains", ""))
    content, _ = logs.read(sources, tail, cursor, prefixed=True, wanted=pick)
    return [line.replace(T, "") for line in content.splitlines()]


def test_tracebacks_stay_together_among_lines_of_others(sources: list[logs.Source]) -> None:
    assert said(sources) == [
        "[one] 0.100Z INFO r-1 a",
        "[two] 0.200Z INFO r-2 b",
        "[one] 0.900Z ERROR r-1 Traceback",
        "[one] 0.901Z ERROR r-1   line 1",
        "[one] 0.905Z ERROR r-1 Boom",
        "[one] raw output",
        "[two] 0.902Z INFO r-2 between",
        "[two] 2.000Z INFO r-22 c",
        "[one] 3.000Z INFO - late",
    ]


def test_lines_of_one_request(sources: list[logs.Source]) -> None:
    assert said(sources, request_id="r-2") == [
        "[two] 0.200Z INFO r-2 b",
        "[two] 0.902Z INFO r-2 between",
    ]
    assert said(sources, request_id="r-1", contains="Boom") == ["[one] 0.905Z ERROR r-1 Boom"]
    assert said(sources, contains="raw") == ["[one] raw output"]
    assert said(sources, tail=1, request_id="r-1") == ["[one] 0.905Z ERROR r-1 Boom"]
    assert said(sources, request_id="nobody") == []


def test_a_cursor_goes_on_behind_lines_that_were_not_wanted(sources: list[logs.Source]) -> None:
    pick = logs.of_request("r-3", "")
    content, cursor = logs.read(sources, 100, "", prefixed=True, wanted=pick)
    assert content == ""
    with sources[1].path.open("a") as file:
        file.write(f"{T}4.000Z INFO r-3 new\n{T}4.100Z INFO r-4 other\n")
    content, cursor = logs.read(sources, 100, cursor, prefixed=True, wanted=pick)
    assert content == f"[two] {T}4.000Z INFO r-3 new\n"
    assert logs.read(sources, 100, cursor, prefixed=True, wanted=pick)[0] == ""


def test_a_cursor_hands_out_every_line_once_in_small_parts(sources: list[logs.Source]) -> None:
    whole = said(sources)
    found, cursor = [], "one:0,two:0"
    while True:
        content, cursor = logs.read(sources, 2, cursor, prefixed=True)
        if not content:
            break
        found += [line.replace(T, "") for line in content.splitlines()]
    assert sorted(found) == sorted(whole)
