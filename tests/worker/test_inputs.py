"""Bodies and queries that no script ever sees."""

from __future__ import annotations

import inspect

import pytest

from headgate_worker.inputs import InputError, Inputs, reader
from headgate_worker.request import Request
from headgate_worker.script import OBJECT, Script

DEEP = "[" * 100_000 + "]" * 100_000


def run(data: object) -> object:
    return data


def read(body: str, method: str = "POST", query: str = "") -> Inputs:
    parameters = tuple(inspect.signature(run).parameters.values())
    script = Script("score.py", "", lambda: None, run, OBJECT, parameters, False)
    meta = {"id": "r1", "m": method, "q": query, "h": [["Content-Type", "application/json"]]}
    return reader(script)(Request("", meta, body.encode(), float("inf")))


def test_json_that_is_nested_too_deeply_is_the_callers_fault() -> None:
    with pytest.raises(InputError, match="nested too deeply") as caught:
        read('{"data": ' + DEEP + "}")
    assert caught.value.status == 400


def test_a_query_that_is_nested_too_deeply_stays_a_text() -> None:
    assert read("", "GET", f"data={DEEP}") == {"data": DEEP}
