"""A million requests: memory, files, threads, tasks and subscriptions stay where they are."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path

from loadtests import closed_loop, processes
from loadtests.scenarios.outcome import Outcome
from loadtests.system import BLUE, System

REQUESTS, QUICK_REQUESTS = 1_000_000, 100_000
WARM_UP_SHARE = 0.1
CONNECTIONS, CHUNK_S = 32, 5.0
GROWTH_MAX = 1.05
TASKS = "headgate_router_tasks "


async def measure(quick: bool) -> Outcome:
    total = QUICK_REQUESTS if quick else REQUESTS
    page_port = processes.free_port()
    with System.running(router_metrics_port=page_port) as system:
        system.deploy(BLUE, "small.py", concurrency=128)
        target = system.target()
        warm, errors = await _send(target, int(WARM_UP_SHARE * total))
        before = _state(system, page_port)
        sent, failed = await _send(target, total - warm)
        after = _state(system, page_port)
    outcome = Outcome(f"{warm + sent:,} requests over {CONNECTIONS} connections")
    outcome.figures = {"failed": errors + failed}
    for part in ("router", "worker"):
        for key in before[part]:
            outcome.figures[f"{part}, {key}"] = f"{before[part][key]:g} -> {after[part][key]:g}"
    outcome.figures["subscriptions on the bus"] = (
        f"{before['bus']['subscriptions']} -> {after['bus']['subscriptions']}"
    )
    for part in ("router", "worker"):
        growth = after[part]["memory MiB"] / before[part]["memory MiB"]
        outcome.at_most(f"memory of the {part} by that after warm-up", growth, GROWTH_MAX)
        for key in sorted(before[part].keys() - {"memory MiB"}):
            grown = after[part][key] - before[part][key]
            outcome.at_most(f"{key} of the {part} that were added", grown, 0)
    grown = after["bus"]["subscriptions"] - before["bus"]["subscriptions"]
    outcome.at_most("subscriptions that were added", grown, 0)
    outcome.at_most("failed requests", errors + failed, 0)
    return outcome


async def _send(target, requests: int) -> tuple[int, int]:
    """At least so many; how many they were and how many failed."""
    sent = failed = 0
    while sent < requests:
        outcome = await closed_loop.run(target, CONNECTIONS, CHUNK_S)
        sent, failed = sent + outcome.requests, failed + outcome.errors
    return sent, failed


def _state(system: System, page_port: int) -> dict[str, dict[str, float]]:
    (router,) = system.tree.pids("run router")
    (worker,) = system.worker_pids()
    port = json.loads((system.data / "run" / "nats.json").read_text())["monitor_port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/subsz") as answer:
        subscriptions = json.load(answer)["num_subscriptions"]
    return {
        "router": {**_process(router), "tasks": _tasks(page_port)},
        "worker": _process(worker),
        "bus": {"subscriptions": subscriptions},
    }


def _tasks(page_port: int) -> int:
    """Of the router's event loop, as its own page of metrics tells: those that stay, of some looks,
    for the work that comes every now and then makes one too."""
    looks = []
    for _ in range(5):
        with urllib.request.urlopen(f"http://127.0.0.1:{page_port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        looks += [int(line.split()[1]) for line in lines if line.startswith(TASKS)]
        time.sleep(0.1)
    return min(looks)


def _process(pid: int) -> dict[str, float]:
    return {
        "memory MiB": processes.memory_mib(pid),
        "files": processes.open_files(pid),
        "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
    }
