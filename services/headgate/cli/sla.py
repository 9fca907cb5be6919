"""``headgate sla``: what endpoints should keep, and how they do."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer import Option

from headgate.cli import options
from headgate.cli.errors import tell_removal
from headgate.cli.session import Session, client_command

app = typer.Typer(no_args_is_help=True, help="Service levels: list, show, set, reset.")

COLUMNS = {
    "endpoint": "endpoint",
    "objective": "objective",
    "hour": "1 h",
    "window": "window",
    "budget_left": "budget left",
    "alerts": "alerts",
}
WINDOWS = {
    "window": "over",
    "availability": "available",
    "availability_burn": "burns",
    "good": "good",
    "bad": "bad",
    "excluded": "excluded",
    "latency": "in time",
    "latency_burn": "burns",
}
UNKNOWN = "-"


@client_command(app, "list")
async def list_all(session: Session) -> None:
    """List how each endpoint keeps its objective."""
    from headgate.cli.observed import renamed
    from headgate.client import sla as calls

    async with session.client() as client:
        found = [renamed(each["properties"]) for each in await calls.all_slas(client)]
    session.show([row(each) for each in found] if session.is_table else found, COLUMNS)


@client_command(app, "show")
async def show(session: Session, endpoint: options.OfEndpoint) -> None:
    """Show how one endpoint keeps its objective. Over several times up to now.

    A burn of 1 uses the budget up exactly within its window.
    """
    from headgate.cli.observed import renamed
    from headgate.cli.output import people_time, write
    from headgate.client import sla as calls

    async with session.client() as client:
        found = renamed((await calls.sla(client, endpoint))["properties"])
    if not session.is_table:
        session.show(found)
        return
    session.show([row(found)], COLUMNS)
    session.show([window_row(each) for each in found["windows"]], WINDOWS)
    for alert in found["alerts"]:
        write(
            f"{alert['severity']}: {alert['indicator']} burns since {people_time(alert['since'])}\n"
        )


@client_command(app, "set")
async def set_objective(
    session: Session,
    endpoint: options.OfEndpoint,
    availability: Annotated[
        float | None, Option("--availability", help="Per cent of requests. Default: 99.9.")
    ] = None,
    latency_ms: Annotated[
        float | None, Option("--latency-ms", help="Answered within so long; 0: no such objective.")
    ] = None,
    latency_percent: Annotated[
        float | None, Option("--latency-percent", help="Per cent in that time. Default: 95.")
    ] = None,
    window_days: Annotated[
        int | None, Option("--window-days", help="Over how long. Default: 30.")
    ] = None,
) -> None:
    """Set the objective of an endpoint. What is not said stays as it is."""
    from headgate.cli.observed import renamed
    from headgate.client import sla as calls

    given = {
        "availabilityTargetPercent": availability,
        "latencyTargetMs": latency_ms,
        "latencyTargetPercent": latency_percent,
        "windowDays": window_days,
    }
    async with session.client() as client:
        known = (await calls.sla(client, endpoint))["properties"]
        wanted = {name: known[name] if value is None else value for name, value in given.items()}
        made = renamed((await calls.put_objective(client, endpoint, wanted))["properties"])
    session.show([row(made)] if session.is_table else made, COLUMNS)


@client_command(app, "reset")
async def reset(session: Session, endpoint: options.OfEndpoint) -> None:
    """Give an endpoint the usual objective again: 99.9 % over 30 days."""
    from headgate.client import sla as calls

    async with session.client() as client:
        existed = await calls.delete_objective(client, endpoint)
    tell_removal(existed, f"objective of the endpoint {endpoint!r} but the usual one")


def row(found: dict[str, Any]) -> dict[str, Any]:
    """One endpoint for people."""
    objective = f"{found['availability_target_percent']:g} %"
    if found["latency_target_ms"]:
        share, limit = found["latency_target_percent"], found["latency_target_ms"]
        objective += f", {share:g} % in {limit:g} ms"
    hour = next(each for each in found["windows"] if each["window"] == "PT1H")
    return {
        "endpoint": found["endpoint"],
        "objective": objective,
        "hour": _percent(hour["availability_percent"]),
        "window": _percent(found["windows"][-1]["availability_percent"]),
        "budget_left": _percent(found["availability_budget_left_percent"]),
        "alerts": " ".join(f"{a['severity']}:{a['indicator']}" for a in found["alerts"]),
    }


def window_row(window: dict[str, Any]) -> dict[str, Any]:
    """One time for people."""
    return {
        "window": window["window"].removeprefix("PT").lower(),
        "availability": _percent(window["availability_percent"]),
        "availability_burn": _rate(window["availability_burn_rate"]),
        "good": window["good"],
        "bad": window["bad"],
        "excluded": window["excluded"],
        "latency": _percent(window["latency_percent"]),
        "latency_burn": _rate(window["latency_burn_rate"]),
    }


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.5g} %"


def _rate(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3g}"
