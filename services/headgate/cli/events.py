"""``headgate events``: what changes, while it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from headgate.cli import options
from headgate.cli.session import Session, client_command

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(no_args_is_help=True, help="The events of every resource and instance.")


@app.callback()
def _group() -> None:
    """Keeps ``tail`` a command of a group, though it is the only one."""


@client_command(app, "tail")
async def tail(
    session: Session,
    filter: Annotated[
        str, Option("--filter", help="Subjects, such as deployment.digits.> or instance.>.")
    ] = "",
    since: Annotated[
        str, Option("--since", help="Begin in the past: 10m, 2h, or an RFC 3339 time.")
    ] = "",
) -> None:
    """Print events as they happen, one line each; JSON lines with --output json."""
    from headgate.cli.output import as_json, write
    from headgate.client.events import tail as tail_events

    query = {name: text for name, text in (("filter", filter), ("since", since)) if text}
    line = _line_writer(session.form)
    async with session.client() as client:
        async for event in tail_events(client.http, query):
            write(f"{line(event) if line else as_json(event, indent=None)}\n")


def _line_writer(form: options.Format | None) -> Callable[[dict[str, Any]], str] | None:
    """How a person reads an event; None where a program reads it."""
    import sys

    if form is None:
        form = options.Format.TABLE if sys.stdout.isatty() else options.Format.JSON
    if form is options.Format.TABLE:
        return describe
    return None


def describe(event: dict[str, Any]) -> str:
    """``12:30:01  deployment.digits.blue.created  instance_count=2``"""
    hidden = ("id", "at", "cause", "workspace", "revision", "endpoint", "deployment", "instance")
    data = event.get("data") or {}
    subject = str(event.get("subject") or event.get("type", "")).removeprefix("hg.v1.evt.")
    told = [f"{key}={value}" for key, value in data.items() if key not in hidden and value]
    details = " ".join(told)
    return f"{str(event.get('time', ''))[11:23]}  {subject:<48}  {details}".rstrip()
