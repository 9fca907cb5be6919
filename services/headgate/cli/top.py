"""``headgate top``: what every deployment does at this moment, again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from headgate.cli.session import Session, client_command

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = {
    "requests_per_second": "requests/s",
    "failures_per_second": "errors/s",
    "p50_ms": "p50 ms",
    "p95_ms": "p95 ms",
    "p99_ms": "p99 ms",
    "in_flight": "in flight",
    "waiting": "waiting",
    "held": "held",
    "ready_instances": "ready",
    "slots": "slots",
    "mirrored_per_second": "copies/s",
    "cost_today": "cost today",
}
INTERVAL_S_MIN = 0.2
COSTS_S = 30.0


def register(app: typer.Typer) -> None:
    """Adds the command to the root."""
    client_command(app, "top")(top)


async def top(
    session: Session,
    interval_s: Annotated[
        float, Option("--interval", min=INTERVAL_S_MIN, help="Seconds between two looks.")
    ] = 1.0,
    once: Annotated[bool, Option("--once", help="Look once and end.")] = False,
) -> None:
    """Watch requests, latencies, instances and costs of all deployments until Ctrl-C.

    Figures are those of the last seconds, all routers together. Busiest first. Without a terminal,
    one look is printed.
    """
    import asyncio
    import sys
    import time

    from headgate.cli.options import Format
    from headgate.cli.output import form_of

    async with session.client() as client:
        live = form_of(session.form) is Format.TABLE and sys.stdout.isatty()
        if once or not live or session.query:
            rows = await looked(client, await costs_of(client))
            session.show(rows, {"endpoint": "endpoint", "deployment": "deployment", **COLUMNS})
            return
        from rich.live import Live

        costs, asked_at = await costs_of(client), time.monotonic()
        with Live(screen=True, auto_refresh=False) as screen:
            while True:
                if time.monotonic() - asked_at > COSTS_S:
                    costs, asked_at = await costs_of(client), time.monotonic()
                screen.update(table(await looked(client, costs)), refresh=True)
                await asyncio.sleep(interval_s)


async def looked(client: Any, costs: dict[str, float]) -> list[dict[str, Any]]:
    """One row for each deployment that a router knows, the busiest first."""
    from headgate.cli.observed import renamed
    from headgate.client import overview

    rows: list[dict[str, Any]] = renamed((await overview.live(client))["value"])
    for row in rows:
        row["cost_today"] = costs.get(f"{row['endpoint']}/{row['deployment']}")
    return sorted(rows, key=lambda row: (-row["requests_per_second"], row["endpoint"]))


async def costs_of(client: Any) -> dict[str, float]:
    """What each deployment has cost since midnight UTC, by ``<endpoint>/<deployment>``."""
    import time
    from datetime import UTC, datetime

    from headgate.client import costs
    from headgate_contracts.errors import HeadgateError

    midnight = datetime.fromtimestamp(time.time(), UTC).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    try:
        question = {"by": "deployment", "since": midnight.isoformat()}
        told = await costs.costs(client, question)
    except HeadgateError:
        return {}  # the ledger is away; the rest is worth seeing
    return {str(row["group"]): round(float(row["cost"]), 4) for row in told["rows"]}


def table(rows: list[dict[str, Any]]) -> Table:
    """One look, for a terminal."""
    from rich.table import Table
    from rich.text import Text

    total = sum(row["requests_per_second"] for row in rows)
    made = Table(title=f"{len(rows)} deployments, {total:,.1f} requests/s", expand=True)
    made.add_column("deployment")
    for title in COLUMNS.values():
        made.add_column(title, justify="right")
    for row in rows:
        cells = [Text("" if row[name] is None else f"{row[name]:g}") for name in COLUMNS]
        if row["failures_per_second"]:
            cells[1].stylize("bold red")
        made.add_row(Text(f"{row['endpoint']} / {row['deployment']}"), *cells)
    return made
