"""``python -m loadtests.batch_listing``: a job over a million files.

The files are hard links to one small file of their folder, a thousand in each. Told are how soon
the first mini-batch has run, and how much memory the batch service takes at most while it lists.
The job is canceled once all is listed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from headgate_contracts.jobs import CancelJob
from loadtests import batch_system
from loadtests.batch_user import DATA, STORED, WORKSPACE

PER_FOLDER = 1_000
SCRIPT = "def init(): pass\ndef run(mini_batch): return mini_batch\n"
WITHIN_S = 900.0


def make_files(folder: Path, count: int) -> None:
    for number in range(0, count, PER_FOLDER):
        within = folder / f"{number:08}"
        within.mkdir(parents=True)
        first = f"{within}/{number:08}.txt"
        Path(first).write_bytes(b"1")
        for other in range(number + 1, min(number + PER_FOLDER, count)):
            os.link(first, f"{within}/{other:08}.txt")


def memory_mib(pid: int, which: str) -> float:
    """``VmRSS`` now, or ``VmHWM``: the most so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(which))


async def measure(chosen: argparse.Namespace, folder: Path) -> int:
    async with batch_system.running(folder) as system:
        await asyncio.to_thread(make_files, folder / "store" / STORED / "many", chosen.files)
        print(f"{chosen.files} files are there", flush=True)
        await system.deploy(SCRIPT, mini_batch_size=chosen.mini_batch_size)
        pid = system.processes["batch"].pid
        before, begun, first_s = memory_mib(pid, "VmRSS"), time.monotonic(), 0.0
        name = (await system.submit(f"{DATA}/many/")).name
        while not (job := await system.job(name)).counts.is_listed and not job.status.is_final:
            if job.counts.settled and not first_s:
                first_s, listed = time.monotonic() - begun, job.counts.items
                print(f"first mini-batch done after {first_s:.1f} s, {listed} files were listed")
            if time.monotonic() - begun > WITHIN_S:
                raise SystemExit(f"the listing does not end: {job}")
            await asyncio.sleep(0.1)
        took_s, most = time.monotonic() - begun, memory_mib(pid, "VmHWM")
        await system.ask(CancelJob(workspace=WORKSPACE, name=name))
        await system.until(name)
    print(
        f"{job.counts.items} files were listed in {took_s:.1f} s ({job.counts.items / took_s:.0f}"
        f"/s) while {job.counts.settled} mini-batches ran; memory {before:.0f} MiB before, "
        f"{most:.0f} MiB at most"
    )
    is_kept = job.counts.items == chosen.files and first_s and most * 1.048576 < chosen.most_mb
    return 0 if is_kept else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="loadtests.batch_listing", description=__doc__)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--mini-batch-size", type=int, default=10)
    parser.add_argument("--most-mb", type=float, default=200.0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hg-batch-", ignore_cleanup_errors=True) as name:
        return asyncio.run(measure(chosen, Path(name)))


if __name__ == "__main__":
    sys.exit(main())
