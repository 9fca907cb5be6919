"""``headgate costs`` and ``headgate budget``: what things cost, and who is told when."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer
from typer import Option

from headgate.cli import options
from headgate.cli.errors import tell_removal
from headgate.cli.session import Session, client_command, confirm

budgets = typer.Typer(no_args_is_help=True, help="Budgets: create, list, delete.")

BAR_CHARS = 24
COLUMNS = {
    "group": "",
    "cost": "cost",
    "share": "",
    "instance_hours": "instance hours",
    "node_hours": "node hours",
    "requests": "requests",
    "compute_seconds": "compute s",
    "response_gb": "GB out",
}
BUDGET_COLUMNS = (
    *("name", "amount", "time_grain", "current_spend", "currency", "period_end", "alerted"),
    *("endpoint", "deployment", "tag"),
)

Endpoint = Annotated[
    str, Option("--endpoint-name", "--endpoint", "-e", help="Only of this endpoint.")
]
Deployment = Annotated[str, Option("--deployment", "-d", help="Only of this deployment.")]
Tag = Annotated[
    str, Option("--tag", metavar="NAME=VALUE", help="Only of deployments with this tag.")
]


class By(StrEnum):
    ENDPOINT = "endpoint"
    DEPLOYMENT = "deployment"
    DAY = "day"
    KEY = "key"
    TAG = "tag"
    JOB = "job"


class Grain(StrEnum):
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


def register(app: typer.Typer) -> None:
    """Add ``costs`` to the root command."""
    client_command(app, "costs")(costs)


async def costs(
    session: Session,
    by: Annotated[By, Option("--by", help="What costs are added up by.")] = By.ENDPOINT,
    since: Annotated[
        str, Option("--since", help="From when on: 12h, 7d, or an RFC 3339 time; whole hours.")
    ] = "30d",
    until: Annotated[str, Option("--until", help="Before when.")] = "",
    endpoint_name: Endpoint = "",
    deployment: Deployment = "",
    tag: Tag = "",
) -> None:
    """Tell what instances and traffic cost.

    By key, the instances of an hour are shared by the time that requests of each key computed.
    """
    from headgate.cli.errors import say
    from headgate.cli.observed import renamed
    from headgate.cli.output import form_of, people_time, write
    from headgate.client import costs as calls

    given = {
        "until": until,
        "endpoint": endpoint_name,
        "deployment": deployment,
        "tag": tag,
    }
    question = {
        "by": by.value,
        "since": since,
        **{name: text for name, text in given.items() if text},
    }
    async with session.client() as client:
        answer = await calls.costs(client, question)
    form = form_of(session.form)
    if session.is_table:
        session.show(chart(answer, by.value), {**COLUMNS, "group": by.value})
        total = answer["total"]
        write(
            f"in all {total['cost']:.2f} {answer['currency']} from {people_time(answer['since'])} "
            f"to {people_time(answer['until'])}: instances {total['instanceCost']:.2f}, "
            f"nodes of batch jobs {total['nodeCost']:.2f}, traffic {total['trafficCost']:.2f}\n"
        )
    elif form in (options.Format.CSV, options.Format.TSV):
        session.show(renamed(answer["rows"]))
    else:
        session.show(renamed(answer))
    if answer.get("isCut"):
        say("there are more rows than one answer holds; narrow it by --endpoint or --since")


def chart(answer: Any, by: str) -> list[dict[str, Any]]:
    """Rows for people: the dearest has the longest bar."""
    rows: Sequence[dict[str, Any]] = answer["rows"]
    most = max((row["cost"] for row in rows), default=0)
    nobody = {"key": "(no request)", "job": "(online)"}.get(by, "(none)")
    return [
        {
            "group": row["group"] or nobody,
            "cost": f"{row['cost']:.2f}",
            "share": bar(row["cost"] / most if most else 0.0),
            "instance_hours": f"{row['instanceSeconds'] / 3600:.2f}",
            "node_hours": f"{row['nodeSeconds'] / 3600:.2f}",
            "requests": row["requests"],
            "compute_seconds": f"{row['computeSeconds']:.1f}",
            "response_gb": f"{row['responseBytes'] / 1e9:.3f}",
        }
        for row in rows
    ]


def bar(share: float) -> str:
    """A share of one as a bar of eighths of characters."""
    eighths = round(8 * BAR_CHARS * share)
    return "█" * (eighths // 8) + ("▏▎▍▌▋▊▉"[eighths % 8 - 1] if eighths % 8 else "")


@client_command(budgets, "create")
async def create(
    session: Session,
    name: Annotated[str, Option("--name", "-n", help="Name of the budget.")],
    amount: Annotated[float, Option("--amount", help="How much, in the prices' currency.")],
    time_grain: Annotated[Grain, Option("--time-grain", help="Per what.")] = Grain.MONTH,
    threshold: Annotated[
        list[float] | None,
        Option("--threshold", help="Per cent to tell of; may be repeated. Default: 50, 80, 100."),
    ] = None,
    endpoint_name: Endpoint = "",
    deployment: Deployment = "",
    tag: Tag = "",
) -> None:
    """Create a budget, or replace the one of this name. Events tell when a threshold is reached."""
    from headgate.client import costs as calls

    properties: dict[str, Any] = {"amount": amount, "timeGrain": time_grain.value}
    given = {"endpoint": endpoint_name, "deployment": deployment, "tag": tag}
    properties |= {field: text for field, text in given.items() if text}
    if threshold:
        properties["thresholds"] = threshold
    async with session.client() as client:
        session.show(_flat(await calls.put_budget(client, name, properties)))


@client_command(budgets, "list")
async def list_all(session: Session) -> None:
    """List budgets and what of them is spent."""
    from headgate.client import costs as calls

    async with session.client() as client:
        found = await calls.budgets(client)
    session.show([_flat(each) for each in found], BUDGET_COLUMNS)


@client_command(budgets, "delete")
async def delete(
    session: Session,
    name: Annotated[str, Option("--name", "-n", help="Name of the budget.")],
    yes: options.Yes = False,
) -> None:
    """Delete a budget; there need not be one."""
    from headgate.client import costs as calls

    confirm(f"Delete the budget {name!r}?", yes=yes)
    async with session.client() as client:
        tell_removal(await calls.delete_budget(client, name), f"budget {name!r}")


def _flat(budget: dict[str, Any]) -> dict[str, Any]:
    from headgate.cli.observed import renamed

    found = renamed({"name": budget["name"], **budget["properties"]})
    return {**found, "alerted": " ".join(f"{each:g} %" for each in found.get("alerted") or ())}
