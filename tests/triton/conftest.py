"""NVIDIA's client in an environment of its own, made once and kept, and an endpoint for it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance.system import Headgate
from pythons import python_with

CACHE = Path(__file__).parents[2] / ".cache" / "triton-venv"
PACKAGES = ("tritonclient[http]==2.73.0",)
ENDPOINT = "tensors"
SCRIPTS = {
    "blue": """\
import numpy as np
from headgate_worker import v2


def init():
    pass


def run(data):
    return "blue"


@v2.signature(
    inputs={"x": ("FP32", [-1, 3]), "words": ("BYTES", [-1])},
    outputs={"sum": ("FP32", [-1]), "words": ("BYTES", [-1])},
)
def infer(inputs):
    return {"sum": inputs["x"].sum(axis=1), "words": inputs["words"]}
""",
    "green": "def init():\n    pass\n\n\ndef run(data):\n    return 'green'\n",
}


@pytest.fixture(scope="session")
def triton_python() -> Path:
    """A Python that has the client; made on first use."""
    return python_with(PACKAGES, CACHE)


@pytest.fixture(scope="module")
def headgate() -> Iterator[Headgate]:
    """An endpoint with two deployments: one that speaks V2, and one that does not."""
    system = Headgate(Path(tempfile.mkdtemp(prefix="hg-tri-")))
    try:
        system.start()
        files = system.data / "files"
        system.cli("online-endpoint", "create", "--name", ENDPOINT)
        for name, script in SCRIPTS.items():
            (files / name).mkdir(parents=True)
            (files / name / "score.py").write_text(script)
            (files / f"{name}.yml").write_text(
                f"name: {name}\nendpoint_name: {ENDPOINT}\ninstance_count: 1\n"
                f"code_configuration: {{code: {name}, scoring_script: score.py}}\n"
            )
            system.cli("online-deployment", "create", "-f", files / f"{name}.yml")
        system.set_traffic(ENDPOINT, "blue=100 green=0")
        yield system
    finally:
        system.discard()
