"""``python -m loadtests.batching``: a PyTorch model one by one and in batches, in the same system.

The same model is deployed twice behind one endpoint, with ``run`` and with ``run_batch``; the loads
take turns, so that what else the machine does meets both. PyTorch comes into an environment of its
own under ``.cache``.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from loadtests import closed_loop
from loadtests.closed_loop import Outcome
from loadtests.system import ENDPOINT, System

HERE = Path(__file__).parent
CACHE = HERE.parent / ".cache" / "torch-venv"
TORCH = "torch==2.13.0"
DEPLOYMENTS = ("single", "batched")
PROMPT, WORDS = 5, 200


def packages() -> Path:
    """Where PyTorch is; installed on first use."""
    if not (CACHE / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(CACHE)], check=True)
        pip = [str(CACHE / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, TORCH, "numpy"], check=True)
        (CACHE / "done").touch()
    return next(CACHE.glob("lib/python*/site-packages"))


def deployment(name: str) -> dict[str, Any]:
    said: dict[str, Any] = {
        "name": name,
        "endpoint_name": ENDPOINT,
        "code_configuration": {
            "code": str(HERE / "batched" / "code"),
            "scoring_script": f"{name}.py",
        },
        "environment_variables": {"PYTHONPATH": str(packages())},
        "instance_type": "Standard_DS3_v2",
        "instance_count": 1,
    }
    if name == "single":  # a worker that is never without a next request
        said["request_settings"] = {"max_concurrent_requests_per_instance": 64}
    return said


def question() -> bytes:
    dice = random.Random(0)
    return json.dumps({"data": [dice.randrange(WORDS) for _ in range(PROMPT)]}).encode()


Outcomes = dict[tuple[str, int], list[Outcome]]


async def measure(system: System, rounds: int, seconds: float) -> Outcomes:
    """Outcomes by deployment and number of connections."""
    target = dataclasses.replace(system.target(), body=question())
    outcomes: Outcomes = {}
    for number in range(rounds + 1):
        for connections in (1, 32):
            for name in DEPLOYMENTS[:: 1 if number % 2 else -1]:  # neither always after the other
                headers = {**target.headers, "azureml-model-deployment": name}
                asked = dataclasses.replace(target, headers=headers)
                outcome = await closed_loop.run(asked, connections, seconds)
                if outcome.errors:
                    raise RuntimeError(f"{outcome.errors} requests failed")
                if number:  # the first round warms up
                    outcomes.setdefault((name, connections), []).append(outcome)
    return outcomes


def show(outcomes: Outcomes) -> None:
    """Medians over the rounds."""
    rates: dict[tuple[str, int], float] = {}
    halves: dict[tuple[str, int], float] = {}
    for (name, connections), runs in outcomes.items():
        key = name, connections
        rates[key] = statistics.median(each.per_s for each in runs)
        halves[key] = statistics.median(each.p50_ms for each in runs)
        tail = statistics.median(each.p99_ms for each in runs)
        print(
            f"{name:8} {connections:3} connections {rates[key]:8,.0f} requests/s  "
            f"p50 {halves[key]:7.3f} ms  p99 {tail:7.3f} ms"
        )
    gain = rates["batched", 32] / rates["single", 32]
    price = halves["batched", 1] / halves["single", 1]
    print(f"requests/s at 32 connections: {gain:.2f} times; p50 at one: {price:.3f} times")


def main() -> int:
    parser = argparse.ArgumentParser(prog="loadtests.batching", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="time of each measurement")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hg-batching-") as folder, System.running() as system:
        for name in DEPLOYMENTS:
            file = Path(folder) / f"{name}.json"
            file.write_text(json.dumps(deployment(name)))
            system.cli("online-deployment", "create", "-f", str(file), "--allow-outside")
        show(asyncio.run(measure(system, chosen.rounds, chosen.seconds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
