"""``python -m loadtests.idle``: the processor time that a system at rest takes.

Many deployments, one instance each, no request: what then runs is heartbeats, looks and probes. The
figures are the kernel's counts of processor time, so other work on the machine does not matter.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
PER_ENDPOINT = 10
PARTS = {
    "nats-server": "bus",
    "run control": "control",
    "run router": "router",
    "headgate up": "supervisor",
    "headgate_worker": "workers",
}
SCRIPT = "def init(): pass\ndef run(data): return data\n"


def headgate(folder: str, *arguments: str) -> None:
    environ = {**os.environ, "HEADGATE_DATA": folder}
    command = [sys.executable, "-m", "headgate", *arguments]
    subprocess.run(command, env=environ, check=True, stdout=subprocess.DEVNULL)


def cpu_s(folder: str) -> dict[str, float]:
    """Processor seconds so far of every part of the system on this data folder."""
    ticks = os.sysconf("SC_CLK_TCK")
    spent = dict.fromkeys(PARTS.values(), 0.0)
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            environ = (process / "environ").read_bytes()
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if folder not in command and folder.encode() not in environ:
            continue
        part = next((part for word, part in PARTS.items() if word in command), "")
        if part:
            spent[part] += (int(fields[11]) + int(fields[12])) / ticks
    return spent


def deploy(folder: str, deployments: int) -> None:
    """So many deployments that share one script."""
    with tempfile.TemporaryDirectory() as name:
        files = Path(name)
        (files / "code").mkdir()
        (files / "code" / "score.py").write_text(SCRIPT)
        for number in range(deployments):
            endpoint = f"idle-{number // PER_ENDPOINT}"
            if number % PER_ENDPOINT == 0:
                headgate(folder, "online-endpoint", "create", "-n", endpoint)
            said = {
                "name": f"d{number:03}",
                "endpoint_name": endpoint,
                "code_configuration": {"code": "code", "scoring_script": "score.py"},
                "instance_type": "Standard_DS3_v2",
                "instance_count": 1,
            }
            (files / "d.yml").write_text(json.dumps(said))
            headgate(folder, "online-deployment", "create", "-f", str(files / "d.yml"), "--no-wait")


def until_ready(folder: str, deployments: int) -> None:
    environ = {**os.environ, "HEADGATE_DATA": folder}
    command = [sys.executable, "-m", "headgate", "status", "--output", "json"]
    while True:
        said = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=False)
        if said.returncode == 0 and json.loads(said.stdout)["ready_instances"] >= deployments:
            return
        time.sleep(2)


def main() -> int:
    parser = argparse.ArgumentParser(prog="loadtests.idle", description=__doc__)
    parser.add_argument("--deployments", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hg-idle-") as folder:
        environ = {**os.environ, "HEADGATE_DATA": folder}
        up = [sys.executable, "-m", "headgate", "up", "--port", "0", "--scoring-port", "0"]
        process = subprocess.Popen(
            up, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            while not (Path(folder) / "run" / "headgate.json").exists():
                if process.poll() is not None:
                    raise RuntimeError("headgate up ended")
                time.sleep(0.1)
            deploy(folder, chosen.deployments)
            until_ready(folder, chosen.deployments)
            time.sleep(5)
            before, begun = cpu_s(folder), time.monotonic()
            time.sleep(chosen.seconds)
            after, took = cpu_s(folder), time.monotonic() - begun
        finally:
            process.terminate()
            process.wait()
    for part, spent in after.items():
        share = 100 * (spent - before[part]) / took
        sys.stdout.write(f"{part:12} {share:6.2f} % of a core\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
