"""``headgate alert``: who is told of what by webhook."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer
from typer import Option

from headgate.cli import errors, options
from headgate.cli.errors import tell_removal
from headgate.cli.session import Session, client_command, confirm

app = typer.Typer(no_args_is_help=True, help="Alert rules, and their deliveries by webhook.")

COLUMNS = ("name", "topics", "url", "endpoint", "enabled", "waiting", "delivered", "given_up")
DELIVERIES = (*("created_at", "topic", "state", "attempts", "status", "error", "due_at", "id"),)
TEST_WAIT_S = 15.0
_LOOK_S = 0.25


class On(StrEnum):
    BUDGET_ALERTED = "budget-alerted"
    SLA_BURNING = "sla-burning"
    SLA_RECOVERED = "sla-recovered"
    QUOTA_REFUSED = "quota-refused"
    DEPLOYMENT_FAILED = "deployment-failed"
    AUTOSCALE_FAILED = "autoscale-failed"
    JOB_FAILED = "job-failed"


@client_command(app, "set")
async def set_rule(
    session: Session,
    name: options.AssetName,
    on: Annotated[list[On], Option("--on", help="Of what; may be repeated.")],
    url: Annotated[str, Option("--webhook", help="Where to; the setting alert_urls lists those.")],
    endpoint: Annotated[
        str, Option("--endpoint-name", "--endpoint", "-e", help="Only about this endpoint.")
    ] = "",
    secret: Annotated[
        str, Option("--secret", envvar="HEADGATE_ALERT_SECRET", help="Signs what is sent.")
    ] = "",
    enabled: Annotated[bool, Option("--enabled/--disabled", help="On or off.")] = True,
) -> None:
    """Make an alert rule, or replace the one of this name.

    Without a secret it gets one, which is told now and never again.
    """
    from headgate.client import alerts as calls

    properties: dict[str, Any] = {
        "topics": [each.value for each in on],
        "url": url,
        "endpoint": endpoint,
        "enabled": enabled,
    }
    if secret:
        properties["secret"] = secret
    async with session.client() as client:
        made = _flat(await calls.put_rule(client, name, properties))
    if made.get("secret"):
        errors.say("this is the only time that the secret is shown")
    session.show(made)


@client_command(app, "list")
async def list_all(session: Session) -> None:
    """List alert rules. With deliveries that wait, came and were given up."""
    from headgate.client import alerts as calls

    async with session.client() as client:
        found = [_flat(each) for each in await calls.rules(client)]
    session.show([{**each, "topics": " ".join(each["topics"])} for each in found], COLUMNS)


@client_command(app, "show")
async def show(session: Session, name: options.AssetName) -> None:
    """Show one alert rule."""
    from headgate.client import alerts as calls

    async with session.client() as client:
        session.show(_flat(await calls.rule(client, name)))


@client_command(app, "deliveries")
async def deliveries(session: Session, name: options.AssetName) -> None:
    """List what was sent for a rule and what waits. The latest first."""
    from headgate.cli.observed import renamed
    from headgate.client import alerts as calls

    async with session.client() as client:
        session.show(renamed(await calls.deliveries(client, name)), DELIVERIES)


@client_command(app, "test")
async def test(session: Session, name: options.AssetName) -> None:
    """Send a test, and wait for what becomes of its first try."""
    import asyncio

    from headgate.cli.observed import renamed
    from headgate.client import alerts as calls

    async with session.client() as client:
        found = await calls.send_test(client, name)
        for _ in range(int(TEST_WAIT_S / _LOOK_S)):
            if found["attempts"]:
                break
            await asyncio.sleep(_LOOK_S)
            kept = await calls.deliveries(client, name)
            found = next((each for each in kept if each["id"] == found["id"]), found)
    session.show(renamed(found))
    if found["state"] != "delivered":
        why = found["error"] or "it has not been tried yet"
        raise errors.CommandFailedError(f"the test has not come: {why}")


@client_command(app, "remove")
async def remove(session: Session, name: options.AssetName, yes: options.Yes = False) -> None:
    """Remove an alert rule with its deliveries. There need not be one."""
    from headgate.client import alerts as calls

    confirm(f"Remove the alert rule {name!r}?", yes=yes)
    async with session.client() as client:
        tell_removal(await calls.delete_rule(client, name), f"alert rule {name!r}")


def _flat(rule: dict[str, Any]) -> dict[str, Any]:
    from headgate.cli.observed import renamed

    found: dict[str, Any] = renamed({"name": rule["name"], **rule["properties"]})
    return found
