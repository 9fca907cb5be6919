"""``python -m loadtests.batch_throughput``: a job beside the same function in multiprocessing.

The function works 10 ms for one small file: by the processor, or asleep. The bare loop is
``multiprocessing.Pool.imap`` over the files on two processes: no bus, no copies of inputs, no
record, nothing that survives. Both are timed from the first result to the last, so that neither
start-up counts.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

from loadtests import batch_system
from loadtests.batch_user import STORED

PROCESSES = 2
WORK = """
import os, time

def init():
    global is_asleep, seconds
    is_asleep, seconds = os.environ["WORK"] == "sleep", float(os.environ["SECONDS"])

def run(mini_batch):
    found = []
    for path in mini_batch:
        with open(path) as file:
            number = int(file.read())
        if is_asleep:
            time.sleep(seconds)
        else:
            until = time.process_time() + seconds
            while time.process_time() < until:
                number ^= 0
        found.append(f"{os.path.basename(path)},{2 * number},{time.time():.6f}")
    return found
"""


def bare(folder: Path, kind: str, seconds: float) -> tuple[float, str]:
    """Files per second of the bare loop, and what it found."""
    os.environ |= {"WORK": kind, "SECONDS": str(seconds)}
    scope: dict[str, object] = {}
    exec(WORK, scope)
    global _run
    _run = scope["run"]
    paths = [[str(path)] for path in sorted(folder.iterdir())]
    context = multiprocessing.get_context("fork")
    with context.Pool(PROCESSES, initializer=scope["init"]) as pool:
        found = [line for lines in pool.imap(_call, paths) for line in lines]
    return _per_s(found), _without_times(found)


def _call(paths: list[str]) -> list[str]:
    return _run(paths)


def _per_s(lines: list[str]) -> float:
    times = [float(line.rpartition(",")[2]) for line in lines]
    return (len(times) - 1) / (max(times) - min(times))


def _without_times(lines: list[str]) -> str:
    return "\n".join(line.rpartition(",")[0] for line in lines)


async def job(
    system: batch_system.BatchSystem, uri: str, kind: str, seconds: float
) -> tuple[float, str]:
    """Mini-batches per second of a job of one file each, and what it found."""
    await system.deploy(
        WORK,
        mini_batch_size=1,
        max_concurrency_per_instance=PROCESSES,
        environment_variables={"WORK": kind, "SECONDS": str(seconds)},
    )
    done = await system.until((await system.submit(uri)).name, within_s=600, every_s=0.5)
    lines = (await system.output(done)).splitlines()
    return _per_s(lines), _without_times(lines)


async def measure(chosen: argparse.Namespace, folder: Path) -> int:
    kept = True
    async with batch_system.running(folder / "data") as system:
        uri = await system.numbers(chosen.files)
        files = folder / "data" / "store" / STORED / "numbers"
        for kind in chosen.work:
            ratios = []
            for _ in range(chosen.rounds):
                plain, expected = await asyncio.to_thread(bare, files, kind, chosen.work_ms / 1e3)
                ours, found = await job(system, uri, kind, chosen.work_ms / 1e3)
                if found != expected:
                    raise SystemExit("the results differ")
                ratios.append(ours / plain)
                print(
                    f"{chosen.work_ms:g} ms of {kind:5}: {ours:7.1f} mini-batches/s, "
                    f"multiprocessing {plain:7.1f}/s, ratio {ours / plain:.3f}",
                    flush=True,
                )
            kept &= sorted(ratios)[len(ratios) // 2] >= chosen.least
    return 0 if kept else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="loadtests.batch_throughput", description=__doc__)
    parser.add_argument("--files", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--work-ms", type=float, default=10.0)
    parser.add_argument("--work", nargs="+", choices=("sleep", "cpu"), default=["sleep", "cpu"])
    parser.add_argument("--least", type=float, default=0.85, help="ratio that is promised")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hg-batch-") as name:
        return asyncio.run(measure(chosen, Path(name)))


if __name__ == "__main__":
    sys.exit(main())
