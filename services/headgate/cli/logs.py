"""``headgate logs``: questions about requests, lines and events, as tables."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from typer import Option

from headgate.cli.session import Session, client_command

app = typer.Typer(no_args_is_help=True, help="Questions about requests, log lines and events.")

SHORT_COLUMNS = {
    "traffic": (
        *("TimeGenerated", "EndpointName", "DeploymentName", "Method", "Path"),
        *("ResponseCode", "TotalDurationMs", "XRequestId"),
    ),
    "console": ("TimeGenerated", "DeploymentName", "InstanceId", "XRequestId", "Message"),
    "events": ("TimeGenerated", "DeploymentName", "InstanceId", "Name", "Message"),
    "traces": (
        *("TimeGenerated", "DeploymentName", "XRequestId", "ResponseCode", "TotalMs", "EdgeMs"),
        *("QueueMs", "BusMs", "WorkerMs", "ModelMs", "AnswerMs"),
    ),
}


class Table(StrEnum):
    TRAFFIC = "traffic"
    CONSOLE = "console"
    EVENTS = "events"
    TRACES = "traces"


class Order(StrEnum):
    NEWEST = "newest"
    OLDEST = "oldest"


@client_command(app, "query")
async def query(
    session: Session,
    table: Annotated[Table, Option("--table", "-t", help="Which log.")],
    where: Annotated[
        str,
        Option("--where", help="A filter: \"ResponseCode >= 500 and DeploymentName == 'blue'\"."),
    ] = "",
    since: Annotated[
        str, Option("--since", help="From when on: 10m, 2h, 7d, or an RFC 3339 time.")
    ] = "",
    until: Annotated[str, Option("--until", help="Before when.")] = "",
    endpoint_name: Annotated[
        str, Option("--endpoint-name", "--endpoint", "-e", help="Only of this endpoint.")
    ] = "",
    order: Annotated[Order, Option("--order", help="Which rows come first.")] = Order.NEWEST,
    limit: Annotated[int, Option("--limit", "-l", min=1, max=10_000, help="How many rows.")] = 100,
    columns: Annotated[
        str, Option("--columns", help="Only these: TimeGenerated,ResponseCode.")
    ] = "",
) -> None:
    """Print rows of a log. 'headgate logs tables' tells the columns."""
    from headgate.cli.errors import say
    from headgate.cli.options import Format
    from headgate.cli.output import form_of
    from headgate.client import logs

    named = tuple(name.strip() for name in columns.split(",") if name.strip())
    is_for_people = form_of(session.form) is Format.TABLE
    wanted = named or (SHORT_COLUMNS[table.value] if is_for_people else ())
    given = {"where": where, "since": since, "until": until}
    question = {
        **{name: text for name, text in given.items() if text},
        "table": table.value,
        "order": order.value,
        "limit": limit,
        "columns": list(wanted),
    }
    async with session.client() as client:
        answer = await logs.query(client, question, endpoint_name)
    names = [str(column["name"]) for column in answer["columns"]]
    session.show(logs.as_objects(answer), names)
    if answer.get("isCut"):
        say("there are more such rows; raise --limit, or narrow --since and --where")
    if lost := answer.get("lost"):
        say(f"{lost} rows of this time were not stored, because too many came at once")


@client_command(app, "tables")
async def tables(
    session: Session,
    table: Annotated[Table | None, Option("--table", "-t", help="The columns of this one.")] = None,
) -> None:
    """List the logs, or with --table the columns of one."""
    from headgate.cli.observed import renamed
    from headgate.client import logs

    async with session.client() as client:
        found = await logs.tables(client)
    if table is None:
        session.show(renamed(found), ("name", "azure_name", "description"))
        return
    columns = next(each["columns"] for each in found if each["name"] == table.value)
    session.show(renamed(columns), ("name", "type", "description"))
