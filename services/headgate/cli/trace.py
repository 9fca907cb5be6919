"""``headgate trace``: where the time of one request went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from headgate.cli.session import Session, client_command

if TYPE_CHECKING:
    from headgate.client import Client

POLL_S = 0.5
BAR_CHARS = 40
SPANS = (
    ("edge", "EdgeMs", "headers, key, body"),
    ("queue", "QueueMs", "waiting for a slot of an instance"),
    ("bus", "BusMs", "to the instance and back"),
    ("worker", "WorkerMs", "in the instance, outside of run()"),
    ("model", "ModelMs", "in run()"),
    ("answer", "AnswerMs", "on to the client"),
)


def register(app: typer.Typer) -> None:
    """Adds the command to the root."""
    client_command(app, "trace")(trace)


async def trace(
    session: Session,
    request_id: Annotated[str, Argument(help="The x-request-id of the answer.", metavar="ID")],
    wait_s: Annotated[
        float, Option("--wait", min=0, help="Seconds to wait for a trace that is on its way.")
    ] = 5.0,
) -> None:
    """Show where the time of one request went. In edge, queue, bus, worker, model, answer.

    Requests are traced that have the header x-headgate-trace: true, and the share of the others
    that the setting trace_share says.
    """
    from headgate.cli.errors import NOT_FOUND, CommandFailedError
    from headgate.cli.options import Format
    from headgate.cli.output import form_of, show

    async with session.client() as client:
        found = await _found(client, request_id, wait_s)
    if not found:
        raise CommandFailedError(
            f"there is no trace of request {request_id!r}; send it with the header "
            "'x-headgate-trace: true', or set trace_share",
            NOT_FOUND,
        )
    if form_of(session.form) is not Format.TABLE:
        session.show(found[0] if len(found) == 1 else found)
        return
    for row in found:  # a client may have used one id for several requests
        show(_summary(row), Format.TABLE)
        show(_spans(row), Format.TABLE, columns=("span", "ms", "share", "what"))


async def _found(client: Client, request_id: str, wait_s: float) -> list[dict[str, Any]]:
    import asyncio
    import time

    from headgate.client import logs

    quoted = request_id.replace("\\", "\\\\").replace("'", "\\'")
    question = {"table": "traces", "where": f"XRequestId == '{quoted}'", "order": "oldest"}
    until = time.monotonic() + wait_s
    while True:
        rows = logs.as_objects(await logs.query(client, question))
        if rows or time.monotonic() >= until:
            return rows
        await asyncio.sleep(POLL_S)


def _summary(row: dict[str, Any]) -> dict[str, Any]:
    reason = row["ResponseCodeReason"]
    status = f"{row['ResponseCode']} {reason}".strip()
    return {
        "request": row["XRequestId"],
        "time": row["TimeGenerated"],
        "endpoint": f"{row['EndpointName']}/{row['DeploymentName']}",
        "instance": row["InstanceId"] or "none was reached",
        "router": row["RouterId"],
        "status": f"{status}, tries: {row['Tries']}",
        "bytes": f"{row['RequestPayloadSize']} in, {row['ResponsePayloadSize']} out"
        + (" in parts" if row["InParts"] else ""),
        "total_ms": row["TotalMs"],
    }


def _spans(row: dict[str, Any]) -> list[dict[str, Any]]:
    total = max(row["TotalMs"], 0.001)
    return [
        {
            "span": span,
            "ms": f"{row[column]:.3f}",
            "share": "#" * round(BAR_CHARS * row[column] / total) or "|",
            "what": what,
        }
        for span, column, what in SPANS
        if row[column] is not None
    ]
