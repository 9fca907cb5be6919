"""Whether anybody reads a page: what nobody reads is not brought up to date, and asks for nothing.

A browser says every few seconds which message it has had last (the page library's ``ack``), so a
socket that takes bytes and a program that answers pings are no proof. What was missed is made up
for by the next refresh after the browser is back.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from urllib.parse import parse_qs

from nicegui import Client, ui

from headgate_contracts import limits

LOOK_S = 2.0


def is_read(client: Client) -> bool:
    """Whether the page's browser is there and has read what it got some seconds ago."""
    if not client.has_socket_connection:
        return False
    unread = client.outbox.message_history
    return not unread or time.time() - unread[0][1] < limits.STUDIO_UNREAD_S


def every(seconds: float, action: Callable[[], object]) -> None:
    """Call a refresh, async or not, as soon as the page is there and again and again from then on,
    as long as it is read; one that was left out comes soon after it is read again."""
    is_first = True

    async def act() -> None:
        nonlocal is_first
        if not is_first and not is_read(ui.context.client):
            timer.interval = min(seconds, LOOK_S)
            return
        is_first, timer.interval = False, seconds
        done = action()
        if inspect.isawaitable(done):
            await done

    timer = ui.timer(seconds, act)


def take_back(client: Client) -> None:
    """A browser is back, and says with its connection what it has had: that is read, even if the
    word of it was lost with the last one."""
    query = parse_qs(str((client.environ or {}).get("QUERY_STRING", "")))
    if (told := query.get("next_message_id", [""])[0]).isdecimal():
        client.outbox.prune_history(int(told))
