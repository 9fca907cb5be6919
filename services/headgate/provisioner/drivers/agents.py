"""The process beside a container that has a server of its own: its way to the bus.

It is our worker without a script, and runs on this machine. It outlives this service as its
container does, and is found again by pid and start time.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from headgate.provisioner.drivers import Launch
from headgate.provisioner.logs import LOG
from headgate.runtime import procs
from headgate.runtime.files import write_atomic
from headgate_contracts.resources import InferenceConfig, InferenceRoute

RECORD = "agent.json"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def start(
    launch: Launch,
    server: InferenceConfig,
    address: str,
    folder: Path,
    *,
    archive: Path,
    said: dict[str, str],
) -> None:
    """Start the agent of an instance whose container has this address."""
    environ = {
        "PATH": _PATH,
        "LANG": "C.UTF-8",
        "HEADGATE_ENDPOINT": launch.endpoint,
        "HEADGATE_DEPLOYMENT": launch.deployment,
        "HEADGATE_INSTANCE": launch.instance,
        "HEADGATE_SPEC": launch.spec,
        "HEADGATE_CAPACITY": str(launch.capacity),
        "HEADGATE_SERVER": json.dumps(_told(server, address)),
        **said,
    }
    if launch.collect:
        environ["HEADGATE_COLLECT"] = launch.collect
        environ["HEADGATE_COLLECT_DIR"] = str(launch.collect_folder)
    with (folder / LOG).open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-u", "-X", "faulthandler", str(archive)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=environ,
            start_new_session=True,
        )
    child.returncode = 0  # it may outlive us; then whoever is its parent reaps it
    write_atomic(folder / RECORD, json.dumps(procs.identity(child.pid)))


def identity(folder: Path) -> str:
    """Of the agent of the instance in this folder; empty when it has none."""
    try:
        return str(json.loads((folder / RECORD).read_text()))
    except (OSError, ValueError):
        return ""


async def ended(agent: str) -> int | None:
    """Wait until the agent has ended; its exit status, if it was our child."""
    pid = int(agent.partition(":")[0])
    if procs.is_running(agent):
        await procs.wait_ended(pid)
    return procs.reap(pid)


def send(agent: str, number: signal.Signals) -> None:
    if procs.is_running(agent):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(agent.partition(":")[0]), number)


def _told(server: InferenceConfig, address: str) -> dict[str, object]:
    def route(found: InferenceRoute | None) -> dict[str, object] | None:
        return found.model_dump() if found is not None else None

    return {
        "host": address,
        "scoring": route(server.scoring_route),
        "readiness": route(server.readiness_route or server.startup_route),
        "liveness": route(server.liveness_route),
    }
