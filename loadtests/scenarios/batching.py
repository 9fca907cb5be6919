"""A PyTorch model one by one and in batches, in the same system.

The same model is deployed twice behind one endpoint, with ``run`` and with ``run_batch``; the loads
take turns, so that what else the machine does meets both. PyTorch comes into an environment of its
own under ``.cache``.
"""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from loadtests import closed_loop
from loadtests.closed_loop import Outcome as Figures
from loadtests.scenarios.outcome import Outcome
from loadtests.system import ENDPOINT, System
from loadtests.workloads import Target

LOADTESTS = Path(__file__).parents[1]
CACHE = LOADTESTS.parent / ".cache" / "torch-venv"
TORCH = "torch==2.13.0"
SINGLE, BATCHED = DEPLOYMENTS = ("single", "batched")
PROMPT, WORDS = 5, 200
CONNECTIONS = 32
GAIN_MIN, P50_MAX = 5.0, 1.10


async def measure(quick: bool) -> Outcome:
    seconds, turns = (2.0, 3) if quick else (3.0, 5)
    with System.running() as system:
        for name in DEPLOYMENTS:
            file = system.data.parent / f"{name}.json"
            file.write_text(json.dumps(_deployment(name)))
            system.cli("online-deployment", "create", "-f", str(file), "--allow-outside")
        target = dataclasses.replace(system.target(), body=_question())
        found = await _measured(target, seconds, turns)
    outcome = Outcome(f"a PyTorch model with run() and with run_batch(), {CONNECTIONS} connections")
    for (name, connections), runs in found.items():
        outcome.figures[f"{name}, {connections} connections: requests/s, p50 and p99 ms"] = (
            f"{median(each.per_s for each in runs):,.0f} "
            f"{median(each.p50_ms for each in runs):.3f} "
            f"{median(each.p99_ms for each in runs):.3f}"
        )
    gains = _ratios(found, CONNECTIONS, "per_s")
    prices = _ratios(found, 1, "p50_ms")
    outcome.at_least("requests/s in batches by those one by one", median(gains), GAIN_MIN)
    outcome.at_most("p50 at one connection by that one by one", median(prices), P50_MAX)
    return outcome


Found = dict[tuple[str, int], list[Figures]]


async def _measured(target: Target, seconds: float, turns: int) -> Found:
    """Figures by deployment and number of connections, one of each turn."""
    found: Found = {}
    for turn in range(turns + 1):
        for connections in (1, CONNECTIONS):
            for name in DEPLOYMENTS[:: 1 if turn % 2 else -1]:  # neither always after the other
                headers = {**target.headers, "azureml-model-deployment": name}
                asked = dataclasses.replace(target, headers=headers)
                figures = await closed_loop.run(asked, connections, seconds)
                if figures.errors:
                    raise RuntimeError(f"{figures.errors} requests failed")
                if turn:  # the first one warms up
                    found.setdefault((name, connections), []).append(figures)
    return found


def _ratios(found: Found, connections: int, figure: str) -> list[float]:
    """Of each turn: in batches by one by one."""
    pairs = zip(found[BATCHED, connections], found[SINGLE, connections], strict=True)
    return [getattr(batched, figure) / getattr(single, figure) for batched, single in pairs]


def _packages() -> Path:
    """Where PyTorch is; installed on first use."""
    if not (CACHE / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(CACHE)], check=True)
        pip = [str(CACHE / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, TORCH, "numpy"], check=True)
        (CACHE / "done").touch()
    return next(CACHE.glob("lib/python*/site-packages"))


def _deployment(name: str) -> dict[str, Any]:
    said: dict[str, Any] = {
        "name": name,
        "endpoint_name": ENDPOINT,
        "code_configuration": {
            "code": str(LOADTESTS / "batched" / "code"),
            "scoring_script": f"{name}.py",
        },
        "environment_variables": {"PYTHONPATH": str(_packages())},
        "instance_type": "Standard_DS3_v2",
        "instance_count": 1,
    }
    if name == SINGLE:  # a worker that is never without a next request
        said["request_settings"] = {"max_concurrent_requests_per_instance": 64}
    return said


def _question() -> bytes:
    dice = random.Random(0)
    return json.dumps({"data": [dice.randrange(WORDS) for _ in range(PROMPT)]}).encode()
