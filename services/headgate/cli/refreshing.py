"""``headgate environment refresh``: asks for it, waits, and tells what was found and done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from headgate.cli.errors import CommandFailedError, say
from headgate.cli.observed import renamed
from headgate.cli.progress import Spinner
from headgate.cli.session import Session
from headgate.cli.waiting import POLL_FIRST_S, POLL_S_MAX, UNREACHABLE_S_MAX
from headgate_contracts.errors import ErrorCode, HeadgateError

if TYPE_CHECKING:
    from headgate.client.refreshing import Refresh, Refreshing

Row = dict[str, Any]

COLUMNS = ("environment", "state", "what is new", "deployments")


async def refresh(
    session: Session, name: str, version: str, *, dry_run: bool, no_wait: bool
) -> None:
    """Raises CommandFailedError when something of it has failed."""
    from headgate.client.refreshing import Refreshing

    async with session.client() as client:
        calls = Refreshing(client)
        found = await calls.begin(name, version, dry_run=dry_run)
        if no_wait:
            say(f"refresh {found.id} is under way; 'headgate events tail' tells how it goes")
            return
        found = await _ended(session, calls, found)
    looks = [renamed(look) for look in found.environments]
    if session.is_table:
        session.show([_row(look) for look in looks], COLUMNS)
    else:
        session.show(looks)
    if not looks:
        named = ":".join(filter(None, (name, version)))
        whose = f"environment {named}" if named else "an environment that could change"
        say(f"no deployment uses {whose}")
    _check(looks)


async def _ended(session: Session, calls: Refreshing, found: Refresh) -> Refresh:
    """The refresh once it is over. A gateway that restarts meanwhile is waited for."""
    session.waiting_for = found.id
    pause_s, lost_since = POLL_FIRST_S, 0.0
    with Spinner("looking at environments") as spinner:
        while not found.is_over:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, POLL_S_MAX)
            try:
                found = await calls.get(found.id)
            except HeadgateError as error:
                lost_since = lost_since or time.monotonic()
                is_lost = time.monotonic() - lost_since > UNREACHABLE_S_MAX
                if error.error.code is not ErrorCode.UNAVAILABLE or is_lost:
                    raise
                continue
            lost_since = 0.0
            spinner.update(_progress(found.environments))
    session.waiting_for = ""
    return found


def _progress(looks: Iterable[Row]) -> str:
    for look in looks:
        if look["state"] == "checking":
            return f"looking at environment {_named(look)}"
        for roll in look["deployments"]:
            if roll["state"] == "rolling":
                return f"rolling {roll['endpoint']}/{roll['deployment']}"
    return "looking at environments"


def _row(look: Row) -> Row:
    news = [*look["changes"], *(f"not known: {text}" for text in look["unknown"])]
    if error := look.get("error"):
        news.append(f"{error['code']}: {error['message']}")
    rolls = [
        f"{roll['endpoint']}/{roll['deployment']}"
        + (f" ({roll['state']})" if roll["state"] != "waiting" else "")
        for roll in look["deployments"]
    ]
    return {
        "environment": _named(look),
        "state": look["state"],
        "what is new": "\n".join(news),
        "deployments": "\n".join(rolls),
    }


def _named(look: Row) -> str:
    return ":".join(filter(None, (look["name"], look["version"]))) or "(default image)"


def _check(looks: Iterable[Row]) -> None:
    """Tell what has failed; all of it has left things as they were."""
    failed = []
    for look in looks:
        if error := look.get("error"):
            failed.append(f"environment {_named(look)}: {error['message'].splitlines()[0]}")
        for roll in look["deployments"]:
            if roll["state"] == "failed":
                fault = roll.get("error") or {"message": "it was not rolled"}
                what = f"deployment {roll['endpoint']}/{roll['deployment']}"
                failed.append(f"{what}: {fault['message'].splitlines()[0]}")
    if failed:
        raise CommandFailedError(
            "\n".join(["not everything is new; what ran before goes on:", *failed])
        )
