"""The closed loop: each connection sends its next request when its last one is answered.

``wrk`` where it is installed (``apt-get install wrk``), else our own, which takes more of the
processor itself. A closed loop slows down with its server, so its latencies leave out the waiting
that clients see who do not wait for each other: the open loop tells that.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from loadtests import open_loop
from loadtests.processes import ServerError
from loadtests.workloads import Target

_SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run measured."""

    requests: int
    errors: int
    elapsed_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @classmethod
    def of(cls, shots: open_loop.Shots) -> Self:
        return cls(
            len(shots), shots.errors, shots.elapsed_s,
            shots.quantile_ms(0.50), shots.quantile_ms(0.95), shots.quantile_ms(0.99),
        )  # fmt: skip

    @property
    def per_s(self) -> float:
        return (self.requests - self.errors) / self.elapsed_s


def generator() -> str:
    return "wrk" if shutil.which("wrk") else "own"


async def run(target: Target, connections: int, seconds: float) -> Outcome:
    """Load the target over so many connections for a time."""
    if generator() == "wrk":
        return await _wrk(target, connections, seconds)
    return Outcome.of(await open_loop.closed(target, connections, seconds))


async def _wrk(target: Target, connections: int, seconds: float) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="hg-wrk-") as name:
        body, headers = Path(name) / "body", Path(name) / "headers"
        body.write_bytes(target.body)
        headers.write_text("".join(f"{key}: {value}\n" for key, value in target.headers.items()))
        # Whole seconds are wrk's smallest unit; one thread, since the server needs the cores.
        process = await asyncio.create_subprocess_exec(
            "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s",
            "--latency", "-s", str(_SCRIPT), target.url, "--", target.path,
            env={**os.environ, "LOADTESTS_BODY": str(body), "LOADTESTS_HEADERS": str(headers)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
    lines = [line for line in err.decode().splitlines() if line.startswith("{")]
    if process.returncode or not lines:
        raise ServerError(f"wrk: {(err or out).decode()[-400:]}")
    return Outcome(**json.loads(lines[-1]))
