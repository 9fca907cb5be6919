"""``headgate top``: what every deployment does at this moment, again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

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
QUOTA_COLUMNS = {"quota_percent": "quota %", "quota": "fullest quota"}
_OF_RESOURCES = ("endpoints", "deployments", "instances")
INTERVAL_S_MIN = 0.2
SELDOM_S = 30.0


class Seldom(NamedTuple):
    """What is asked for now and then: costs by ``<endpoint>/<deployment>``, and quotas."""

    costs: dict[str, float]
    quotas: list[dict[str, Any]]


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
    """Watch all deployments at work. Requests, latencies, instances, costs, quotas, until Ctrl-C.

    Figures are those of the last seconds, all routers together. Busiest first. Without a terminal,
    one look is printed. Of the quotas on a deployment's requests the fullest is shown.
    """
    import asyncio
    import sys
    import time

    from headgate.cli.options import Format
    from headgate.cli.output import form_of

    async with session.client() as client:
        live = form_of(session.form) is Format.TABLE and sys.stdout.isatty()
        if once or not live or session.query:
            rows = await looked(client, await seldom_of(client))
            named = {"endpoint": "endpoint", "deployment": "deployment"}
            session.show(rows, named | columns_of(rows))
            return
        from rich.live import Live

        seldom, asked_at = await seldom_of(client), time.monotonic()
        with Live(screen=True, auto_refresh=False) as screen:
            while True:
                if time.monotonic() - asked_at > SELDOM_S:
                    seldom, asked_at = await seldom_of(client), time.monotonic()
                screen.update(table(await looked(client, seldom)), refresh=True)
                await asyncio.sleep(interval_s)


async def looked(client: Any, seldom: Seldom) -> list[dict[str, Any]]:
    """One row for each deployment that a router knows, the busiest first."""
    from headgate.cli.observed import renamed
    from headgate.client import overview

    rows: list[dict[str, Any]] = renamed((await overview.live(client))["value"])
    for row in rows:
        row["cost_today"] = seldom.costs.get(f"{row['endpoint']}/{row['deployment']}")
        row["quota_percent"], row["quota"] = fullest(row, seldom.quotas)
    return sorted(rows, key=lambda row: (-row["requests_per_second"], row["endpoint"]))


def fullest(
    row: dict[str, Any], quotas: list[dict[str, Any]]
) -> tuple[float, str] | tuple[None, None]:
    """How full the fullest quota is that counts this deployment's requests, and its name.

    Quotas of single callers limit those, not the deployment.
    """
    places = (("", ""), (row["endpoint"], ""), (row["endpoint"], row["deployment"]))
    shares = [
        (round(100 * use["used"] / quota["properties"]["limit"], 1), str(quota["name"]))
        for quota in quotas
        if quota["properties"]["limit"] and quota["properties"]["kind"] not in _OF_RESOURCES
        for use in quota["properties"]["uses"] or ()
        if not use["caller"] and (use["endpoint"], use["deployment"]) in places
    ]
    return max(shares, default=(None, None))


def columns_of(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Those of quotas are there when there is one."""
    has_quotas = any(row.get("quota") for row in rows)
    return COLUMNS | QUOTA_COLUMNS if has_quotas else COLUMNS


async def seldom_of(client: Any) -> Seldom:
    """What is away is left out; the rest is worth seeing."""
    from headgate.client import quotas
    from headgate_contracts.errors import HeadgateError

    costs = await costs_of(client)
    try:
        return Seldom(costs, await quotas.all_quotas(client))
    except HeadgateError:
        return Seldom(costs, [])


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
    columns = columns_of(rows)
    for title in columns.values():
        made.add_column(title, justify="right")
    for row in rows:
        cells = [Text(_cell(row[name])) for name in columns]
        if row["failures_per_second"]:
            cells[1].stylize("bold red")
        made.add_row(Text(f"{row['endpoint']} / {row['deployment']}"), *cells)
    return made


def _cell(value: float | str | None) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:g}"
