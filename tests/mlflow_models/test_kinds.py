"""Kinds of models that need no deployment of their own to be asked."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from acceptance.system import ROOT

HERE = Path(__file__).parent
ASKED: list[tuple[str, Any]] = [
    ("hints", {"input_data": [{"word": "ab", "times": 2}, {"word": "c"}]}),
    ("hints", {"input_data": [{"times": 2}]}),
    ("unsigned", {"input_data": {"columns": ["a", "b"], "index": ["x"], "data": [[1, 2.5]]}}),
    ("unsigned", {"input_data": [{"a": 1}, {"a": None}]}),
    ("unsigned", {"input_data": [[1, 2], [3, 4]]}),
    ("unsigned", {"input_data": {"x": [1, 2]}}),
    ("nested", {"input_data": [[1]]}),
]


@pytest.fixture(scope="module")
def answers(mlflow_python: Path, models: Path) -> list[tuple[int, Any]]:
    lines = "".join(f"{json.dumps(each)}\n" for each in ASKED)
    done = subprocess.run(
        [str(mlflow_python), str(HERE / "ask_models.py"), str(models)],
        input=lines,
        env={**os.environ, "PYTHONPATH": str(ROOT / "services")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    return [tuple(json.loads(line.removeprefix("ANSWER "))) for line in said]


def test_a_model_made_from_type_hints_gets_its_input_as_it_is(
    answers: list[tuple[int, Any]],
) -> None:
    assert answers[0] == (200, ["abab", "c"])
    status, said = answers[1]
    assert status == 400
    assert "word" in said


def test_a_model_without_a_signature_gets_what_the_form_says(
    answers: list[tuple[int, Any]],
) -> None:
    """A table for the split form and for records, arrays for lists and for objects."""
    assert answers[2:6] == [
        (200, [{"a": 1, "b": 2.5}]),
        (200, [{"a": 1.0}, {"a": None}]),
        (200, [[1, 2], [3, 4]]),
        (200, {"x": [1, 2]}),
    ]


def test_what_a_model_asks_wrongly_of_another_is_its_own_fault(
    answers: list[tuple[int, Any]],
) -> None:
    status, said = answers[6]
    assert status == 500
    assert "missing inputs" in said


def test_in_batches_and_as_tensors(mlflow_python: Path, models: Path) -> None:
    """The same answers as one by one, and the V2 protocol from the signature."""
    done = subprocess.run(
        [str(mlflow_python), str(HERE / "ask_together.py"), str(models)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "services")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("all is well\n")
