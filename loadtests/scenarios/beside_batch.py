"""Requests beside a batch job of low priority that takes what is left of the processors."""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median

from loadtests import open_loop
from loadtests.open_loop import poisson
from loadtests.processes import cpu_s
from loadtests.scenarios.outcome import Outcome
from loadtests.system import BLUE, System
from loadtests.workloads import Target

BATCH, PROCESSES, FILES = "batch", 2, 300
RATE_PER_S = 300
P99_MAX = 1.10
# Half a second of work for each file.
SCRIPT = """
import time
def init(): pass
def run(mini_batch):
    until = time.process_time() + 0.5
    while time.process_time() < until:
        sum(range(1_000))
    return mini_batch
"""


async def measure(quick: bool) -> Outcome:
    seconds, turns = (4.0, 3) if quick else (8.0, 5)
    alone: list[float] = []
    beside: list[float] = []
    used: list[float] = []
    with System.running() as system:
        system.deploy(BLUE, "small.py", concurrency=128)
        data = _deploy_batch(system)
        target = system.target()
        await _p99_ms(target, seconds, 0)
        for turn in range(turns):
            alone.append(await _p99_ms(target, seconds, turn))
            job = _start(system, data, f"turn-{turn}")
            before = _batch_cpu_s(system)
            beside.append(await _p99_ms(target, seconds, turn))
            used.append((_batch_cpu_s(system) - before) / seconds)
            system.cli("job", "cancel", "-n", job)
            _until(system, job, "Canceled")
    outcome = Outcome(f"a batch job of low priority beside {RATE_PER_S} requests/s")
    outcome.figures = {
        "p99 ms alone, each turn": " ".join(f"{ms:.2f}" for ms in alone),
        "p99 ms beside it": " ".join(f"{ms:.2f}" for ms in beside),
        "cores that the job had": " ".join(f"{cores:.2f}" for cores in used),
    }
    ratios = [after / before for before, after in zip(alone, beside, strict=True)]
    outcome.at_most("p99 beside it by p99 alone, median of turns", median(ratios), P99_MAX)
    return outcome


async def _p99_ms(target: Target, seconds: float, seed: int) -> float:
    shots = await open_loop.run(target, poisson(RATE_PER_S, seconds, seed))
    if shots.errors:
        raise RuntimeError(f"{shots.errors} of {len(shots)} requests failed")
    return shots.quantile_ms(0.99)


def _deploy_batch(system: System) -> Path:
    """A batch endpoint with the script; the folder of its inputs."""
    files = system.data.parent / "batch"
    (files / "code").mkdir(parents=True)
    (files / "code" / "score.py").write_text(SCRIPT)
    data = files / "data"
    data.mkdir()
    for number in range(FILES):
        (data / f"{number:04}").write_text("1")
    said = {
        "name": BATCH,
        "endpoint_name": BATCH,
        "type": "model",
        "code_configuration": {"code": "code", "scoring_script": "score.py"},
        "resources": {"instance_count": 1},
        "settings": {"mini_batch_size": 1, "max_concurrency_per_instance": PROCESSES},
    }
    (files / "deployment.yml").write_text(json.dumps(said))
    system.cli("batch-endpoint", "create", "-n", BATCH)
    file = str(files / "deployment.yml")
    system.cli("batch-deployment", "create", "-f", file, "--set-default")
    return data


def _start(system: System, data: Path, name: str) -> str:
    """A job whose processes are at work."""
    arguments = ("--input", str(data), "--job-name", name, "--priority", "-1")
    system.cli("batch-endpoint", "invoke", "-n", BATCH, *arguments)
    _until(system, name, "Running")
    begun = _batch_cpu_s(system)
    while _batch_cpu_s(system) < begun + 0.5:
        time.sleep(0.1)
    return name


def _until(system: System, job: str, status: str) -> None:
    while system.cli_json("job", "show", "-n", job)["status"] != status:
        time.sleep(0.2)


def _batch_cpu_s(system: System) -> float:
    """Processor time of the processes that stand back, which only those of the job do."""
    return sum(cpu_s(pid) for pid in system.tree.pids("headgate_worker") if _stands_back(pid))


def _stands_back(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[38] == "5"  # policy: SCHED_IDLE
