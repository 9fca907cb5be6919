"""``make bench``: Headgate with all its features on, beside bare servers, in one run.

Every server runs the same model (a dot product in numpy) behind plain HTTP on this machine, one
after the other, under the same closed loop. Figures are ratios to the plain in-process server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from loadtests import closed_loop, servers

RESULTS = Path(__file__).parent / "results"
BODY = b'{"data":[[1,2,3,4,5,6,7,8,9,10],[10,9,8,7,6,5,4,3,2,1]]}'
CONNECTIONS = (1, 32, 128)


async def measure(seconds: float) -> list[dict[str, float | str | int]]:
    """One row per server and number of connections."""
    rows: list[dict[str, float | str | int]] = []
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("measuring", total=len(servers.ALL) * len(CONNECTIONS))
        for name, serve in servers.ALL.items():
            async with serve() as target:
                for connections in CONNECTIONS:
                    progress.update(task, description=f"{name}, {connections} connections")
                    await _run(target, connections, seconds / 4)  # warm-up
                    outcome = await _run(target, connections, seconds)
                    rows.append(_row(name, connections, outcome))
                    progress.advance(task)
    return rows


async def _run(target: servers.Target, connections: int, seconds: float) -> closed_loop.Outcome:
    return await closed_loop.run(
        target.url, target.headers, BODY, connections=connections, seconds=seconds
    )


def _row(name: str, connections: int, outcome: closed_loop.Outcome) -> dict[str, float | str | int]:
    return {
        "server": name,
        "connections": connections,
        "requests_per_s": round(outcome.per_second, 1),
        "p50_ms": round(outcome.quantile_ms(0.50), 3),
        "p95_ms": round(outcome.quantile_ms(0.95), 3),
        "p99_ms": round(outcome.quantile_ms(0.99), 3),
        "errors": outcome.errors,
    }


def show(rows: list[dict[str, float | str | int]]) -> None:
    """The table for people; the ratio is to the plain server at the same connections."""
    plain = {r["connections"]: float(r["requests_per_s"]) for r in rows if r["server"] == "plain"}
    table = Table(title="closed loop, load generator on the same machine")
    for column in ("server", "connections", "requests/s", "ratio", "p50 ms", "p99 ms", "errors"):
        table.add_column(column, justify="left" if column == "server" else "right")
    for row in rows:
        ratio = float(row["requests_per_s"]) / plain[row["connections"]]
        table.add_row(
            str(row["server"]),
            str(row["connections"]),
            f"{row['requests_per_s']:,.0f}",
            f"{ratio:.2f}",
            str(row["p50_ms"]),
            str(row["p99_ms"]),
            str(row["errors"]),
        )
    Console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="loadtests", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="time of each measurement")
    parser.add_argument("--save", action="store_true", help="keep the result in loadtests/results")
    chosen = parser.parse_args()
    rows = asyncio.run(measure(chosen.seconds))
    show(rows)
    if chosen.save:
        at = datetime.now(UTC)
        machine = (
            f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        )
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{at:%Y-%m-%d}.json"
        path.write_text(
            json.dumps({"at": at.isoformat(), "machine": machine, "rows": rows}, indent=2) + "\n"
        )
    return 1 if any(row["errors"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
