"""Waits for a long-running operation and tells how it goes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from textwrap import shorten
from typing import TYPE_CHECKING

from headgate.cli.errors import CommandFailedError, OperationFailedError, say
from headgate.cli.progress import Spinner
from headgate.cli.session import Session
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import OperationStatus

if TYPE_CHECKING:
    from headgate.client import Client, Started

UNREACHABLE_S_MAX = 60.0
PREPARED_PERCENT = 30.0  # from there on what is waited for are instances
STEP_CHARS_MAX = 60
POLL_FIRST_S = 0.1
POLL_S_MAX = 5.0


async def wait(
    session: Session,
    client: Client,
    started: Started,
    text: str,
    *,
    deployment: tuple[str, str] | None = None,
) -> None:
    """Until the operation has ended. Raises OperationFailedError when it failed.

    Looks come slower and slower, up to the pause that the gateway asks for: many operations end
    at once. A gateway that restarts meanwhile is waited for; the operation does not need it.
    """
    if not started.url:
        return
    session.waiting_for = started.id
    pause_s, asked_s, lost_since = POLL_FIRST_S, started.retry_after_s, 0.0
    with Spinner(text) as spinner:
        while True:
            await asyncio.sleep(min(pause_s, asked_s, POLL_S_MAX))
            pause_s *= 2
            try:
                progress = await client.look_at(started)
                detail = await _instances(client, deployment) if deployment else ""
                if deployment and progress.percent_complete < PREPARED_PERCENT:
                    detail += await _step(client, deployment)
            except HeadgateError as error:
                lost_since = lost_since or time.monotonic()
                if (
                    error.error.code is not ErrorCode.UNAVAILABLE
                    or time.monotonic() - lost_since > UNREACHABLE_S_MAX
                ):
                    raise
                spinner.update(f"{text}: the gateway does not answer, trying again")
                continue
            asked_s, lost_since = max(progress.retry_after_s, POLL_FIRST_S), 0.0
            if progress.status is not OperationStatus.IN_PROGRESS:
                break
            spinner.update(f"{text}{detail}")
    session.waiting_for = ""
    if progress.error is not None:
        raise OperationFailedError(HeadgateError.of(progress.error))
    if progress.status is not OperationStatus.SUCCEEDED:
        raise CommandFailedError(f"{text}: {progress.status.value.lower()}")


async def _instances(client: Client, deployment: tuple[str, str]) -> str:
    """How many instances are ready, while the deployment is there."""
    try:
        found = await client.get_deployment(*deployment)
    except HeadgateError as error:
        if error.error.code is ErrorCode.RESOURCE_NOT_FOUND:
            return ""
        raise
    ready = found.properties.get("readyInstances", 0)
    return f": {found.state}, {ready} of {found.spec.instance_count} instances ready"


async def _step(client: Client, deployment: tuple[str, str]) -> str:
    """What goes on before an instance can start: to fetch a model or build an environment takes
    minutes sometimes, and whoever waits should see that it goes on."""
    with contextlib.suppress(HeadgateError):  # nothing depends on it
        text, _ = await client.logs(*deployment, container="storage-initializer", tail=1)
        said = text.strip().rpartition("\n")[2].partition("Z ")
        if line := said[2] or said[0]:
            return f" ({shorten(line, STEP_CHARS_MAX, placeholder=' ...')})"
    return ""


async def end_deletion(
    session: Session, client: Client, started: Started, what: str, *, no_wait: bool
) -> None:
    """The rest of a deletion. To find nothing is no failure: it is gone, as was wanted."""
    if not started.url:
        say(f"there was no {what}")
    else:
        await waited(session, client, started, f"deleting {what}", no_wait=no_wait)


async def waited(
    session: Session, client: Client, started: Started, text: str, *, no_wait: bool
) -> bool:
    """Waits as :func:`wait` does, unless nobody wants that; whether the operation has ended."""
    if no_wait:
        tell_started(started, text)
    else:
        await wait(session, client, started, text)
    return not no_wait


def tell_started(started: Started, what: str) -> None:
    """The last word of a command with ``--no-wait``."""
    say(f"{what}: operation {started.id} is under way" if started.id else f"{what}: done")
