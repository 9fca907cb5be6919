"""``headgate events``: what changes, while it changes."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer import Option

from headgate.cli import options
from headgate.cli.session import Session, client_command

app = typer.Typer(no_args_is_help=True, help="The events of every resource and instance.")


@app.callback()
def _group() -> None:
    """Keeps ``tail`` a command of a group, though it is the only one."""


@client_command(app, "tail")
async def tail(
    session: Session,
    filter: Annotated[
        str, Option("--filter", help="A kind, or a subject: deployment, endpoint.digits.*")
    ] = "",
    since: Annotated[
        str, Option("--since", help="Begin in the past: 10m, 2h, or an RFC 3339 time.")
    ] = "",
    no_follow: Annotated[bool, Option("--no-follow", help="End with the last event there is.")] = (
        False
    ),
) -> None:
    """Print events as they happen, one line each. JSON lines with --output json."""
    from headgate.cli.output import as_json, form_of, write_shown
    from headgate.client.events import tail as tail_events

    is_for_people = form_of(session.form) is options.Format.TABLE
    async with session.client() as client:
        events = tail_events(client.http, filter=filter, since=since, follow=not no_follow)
        async for event in events:
            told = describe(event) if is_for_people else as_json(event, indent=None)
            write_shown(f"{told}\n")


def describe(event: dict[str, Any]) -> str:
    """``12:30:01  deployment.digits.blue.created  instance_count=2``"""
    hidden = ("id", "at", "cause", "workspace", "revision", "endpoint", "deployment", "instance")
    data = event.get("data") or {}
    subject = str(event.get("subject") or event.get("type", "")).removeprefix("hg.v1.evt.")
    told = [f"{key}={_told(value)}" for key, value in data.items() if key not in hidden and value]
    details = " ".join(told)
    return f"{str(event.get('time', ''))[11:23]}  {subject:<48}  {details}".rstrip()


def _told(value: Any) -> Any:
    """Of numbers as many digits as a person reads."""
    return f"{value:.4g}" if isinstance(value, float) else value
