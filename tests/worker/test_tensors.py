"""The helpers for batches: numpy here, PyTorch in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from headgate_worker import tensors

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "torch-venv"
TORCH = "torch==2.13.0"
INSTALL_TIMEOUT_S = 400


def test_arrays_of_one_shape_are_stacked_and_split() -> None:
    made = tensors.stack([[1, 2], np.array([3, 4]), (5, 6)])
    assert made.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert [each.tolist() for each in tensors.split(made)] == made.tolist()


def test_shorter_ones_are_filled_up_on_request_only() -> None:
    with pytest.raises(ValueError, match=r"shapes \(1,\), \(2,\) cannot be stacked; pad="):
        tensors.stack([[1], [2, 3]])
    assert tensors.stack([[1], [2, 3]], pad=0).tolist() == [[1, 0], [2, 3]]
    assert tensors.stack([[[1]], [[2, 3]]], pad=9.0).tolist() == [[[1, 9]], [[2, 3]]]
    with pytest.raises(ValueError, match=r"shapes \(1,\), \(1, 1\) cannot be stacked$"):
        tensors.stack([[1], [[1]]], pad=0)


def test_requests_of_several_rows_are_joined_and_parted() -> None:
    joined, sizes = tensors.concatenate([[[1, 2]], [[3, 4], [5, 6]]])
    assert joined.tolist() == [[1, 2], [3, 4], [5, 6]] and sizes == [1, 2]
    assert [each.tolist() for each in tensors.split(joined.sum(axis=1), sizes)] == [[3], [7, 11]]
    with pytest.raises(ValueError, match="2 rows, and 3 went in"):
        tensors.split(np.zeros(2), sizes)
    with pytest.raises(ValueError, match="cannot be joined"):
        tensors.concatenate([[[1, 2]], [[3]]])


def test_several_outputs_are_split_alike() -> None:
    a, b = np.array([1, 2]), np.array([[3], [4]])
    assert tensors.split({"a": a, "b": b}) == [{"a": 1, "b": [3]}, {"a": 2, "b": [4]}]
    assert tensors.split((a, b)) == [(1, [3]), (2, [4])]
    both = tensors.split([a, b], [2])
    assert [each.tolist() for each in both[0]] == [[1, 2], [[3], [4]]]


@pytest.fixture(scope="session")
def torch_python() -> Path:
    """A Python that has PyTorch; made on first use."""
    python = CACHE / "bin" / "python"
    if not (CACHE / "done").exists():
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(CACHE)],
            [str(python), "-m", "pip", "install", "--quiet", TORCH, "numpy"],
        ):
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S
            )
            if done.returncode != 0:
                pytest.skip(f"PyTorch cannot be installed: {done.stderr.strip()[-500:]}")
        (CACHE / "done").touch()
    return python


@pytest.mark.timeout(INSTALL_TIMEOUT_S + 100)
def test_the_same_with_pytorch(torch_python: Path) -> None:
    script = Path(__file__).with_name("torch_cases.py")
    done = subprocess.run(
        [str(torch_python), "-W", "error", str(script)],
        env={"PYTHONPATH": str(ROOT / "services")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "all is well\n"
