"""``python -m loadtests.fleet``: how a large installation answers and how long it takes to restart.

Fifty endpoints, 200 deployments, 400 instances unless said, the instances stand-ins (``stubs.py``).
Lists are read one after the other by one client; times are seen from there.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headgate.azure.yaml_files import YamlFile
from headgate.client import Client, find_target
from headgate.client.assets import register_all
from headgate.client.http import API_VERSION
from loadtests.stubs import FOLDER

PER_ENDPOINT = 4
LIST_MS_MAX = 200.0
RESTART_S_MAX = 30.0
START_TIMEOUT_S = 60.0
POLL_S = 0.1
QUERY = {"api-version": API_VERSION}
SCRIPT = "def init(): pass\ndef run(data): return data\n"


class Fleet:
    """A Headgate on a folder, with stand-ins for its instances."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._up: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when the gateway and the scoring port answer."""
        command = [sys.executable, "-m", "loadtests.stubs", "up", "--http", "--data", self.data]
        kept = {key: text for key, text in os.environ.items() if not key.startswith("HEADGATE_")}
        room = {"HEADGATE_HOST_CORES": "10000", "HEADGATE_HOST_MEMORY_GIB": "100000"}
        with (self.data.parent / "up.log").open("ab") as log:
            self._up = subprocess.Popen(
                [*map(str, command), "--port", "0", "--scoring-port", "0"],
                env={**kept, **room, "HEADGATE_STUDIO": "false"}, stdout=log, stderr=log,
            )  # fmt: skip
        until = time.monotonic() + START_TIMEOUT_S
        while not (self.data / "run" / "headgate.json").exists():
            if self._up.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"it did not start; see {self.data.parent / 'up.log'}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        if self._up is not None:
            self._up.send_signal(signal.SIGINT)
            self._up.wait()

    @contextmanager
    def stand_ins(self) -> Iterator[None]:
        command = [sys.executable, "-m", "loadtests.stubs", "instances", self.data / FOLDER]
        process = subprocess.Popen([*map(str, command)])
        try:
            yield
        finally:
            process.terminate()
            process.wait()


async def fill(client: Client, endpoints: int, instances: int) -> None:
    """So many endpoints, each with four deployments of as many instances."""
    with tempfile.TemporaryDirectory() as name:
        files = Path(name)
        (files / "code").mkdir()
        (files / "code" / "score.py").write_text(SCRIPT)
        for number in range(endpoints):
            endpoint, file = f"fleet-{number:03}", files / "d.yml"
            said = f"name: {endpoint}\n".encode()
            await client.create_endpoint(YamlFile.of_text(said, files / "e.yml").endpoint())
            for deployment in range(PER_ENDPOINT):
                file.write_text(
                    f"name: d{deployment}00\nendpoint_name: {endpoint}\n"
                    f"instance_count: {instances}\ninstance_type: Standard_DS1_v2\n"
                    "code_configuration: {code: code, scoring_script: score.py}\n"
                )
                spec = await register_all(client, YamlFile.open(file).deployment())
                await client.create_deployment(spec)


async def all_ready(client: Client, instances: int) -> None:
    """Wait until the router knows as many ready instances."""
    path = f"{client.context.workspace_id}/live"
    while True:
        rows = (await client.http.send("GET", path, query=QUERY)).body["value"]
        if sum(row["readyInstances"] for row in rows) == instances:
            return
        await asyncio.sleep(POLL_S)


async def read_lists(client: Client, times: int) -> dict[str, list[float]]:
    """Milliseconds of every read of every list."""
    base = client.context.workspace_id
    paths = {
        "endpoints, all": f"{base}/onlineEndpoints?$top=100",
        "endpoints, one page": f"{base}/onlineEndpoints",
        "deployments of an endpoint": f"{base}/onlineEndpoints/fleet-000/deployments",
        "instances of a deployment": (
            f"{base}/onlineEndpoints/fleet-000/deployments/d000/instances"
        ),
        "deployments of the workspace": f"{base}/onlineDeployments",
        "live": f"{base}/live",
    }
    found: dict[str, list[float]] = {}
    for name, path in paths.items():
        where, _, rest = path.partition("?")
        query = {**QUERY, **dict(part.split("=") for part in rest.split("&") if part)}
        for number in range(times + 1):
            begun = time.perf_counter()
            await client.http.send("GET", where, query=query)
            if number:  # the first one opens the connection
                found.setdefault(name, []).append(1000 * (time.perf_counter() - begun))
    return found


async def measure(fleet: Fleet, chosen: argparse.Namespace) -> bool:
    """Whether everything was fast enough."""
    per_deployment = chosen.instances // (chosen.endpoints * PER_ENDPOINT)
    total = per_deployment * chosen.endpoints * PER_ENDPOINT
    fleet.start()
    kept = True
    async with Client(find_target(fleet.data)) as client:
        begun = time.monotonic()
        await fill(client, chosen.endpoints, per_deployment)
        await all_ready(client, total)
        tell(f"made, {total} instances ready", time.monotonic() - begun)
        for name, took in (await read_lists(client, chosen.times)).items():
            p95 = statistics.quantiles(took, n=20)[-1]
            kept &= p95 < LIST_MS_MAX
            said = f"p50 {statistics.median(took):6.1f} ms, p95 {p95:6.1f} ms"
            sys.stdout.write(f"{name:32} {said}\n")
    begun = time.monotonic()
    fleet.stop()
    tell("stopped", time.monotonic() - begun)
    again = time.monotonic()
    fleet.start()
    tell("started: gateway and scoring answer", time.monotonic() - again)
    async with Client(find_target(fleet.data)) as client:
        await all_ready(client, total)
    tell("started: all instances ready", time.monotonic() - again)
    tell("restart of everything", restart_s := time.monotonic() - begun)
    return kept and restart_s < RESTART_S_MAX


def tell(what: str, seconds: float) -> None:
    sys.stdout.write(f"{what:36} {seconds:6.1f} s\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="loadtests.fleet", description=__doc__)
    parser.add_argument("--endpoints", type=int, default=50)
    parser.add_argument("--instances", type=int, default=400)
    parser.add_argument("--times", type=int, default=100, help="reads of each list")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hg-fleet-") as name:
        fleet = Fleet(Path(name) / "data")
        fleet.data.mkdir()
        with fleet.stand_ins():
            try:
                kept = asyncio.run(measure(fleet, chosen))
            finally:
                fleet.stop()
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
