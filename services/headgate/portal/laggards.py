"""Browsers that take less than their pages say: they stand still, or read just enough to live.

Between a page and its browser there is a queue without a bound of its own (the web socket
library's). A browser that is cut off comes back by itself: it gets what it has missed where that
is still known, else the page anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from engineio.async_socket import AsyncSocket
from nicegui import core

from headgate.runtime.log import Log
from headgate_contracts import limits

LOOK_S = 1.0
_log = Log("portal")


async def watch_over() -> None:
    """Until cancelled."""
    while True:
        await asyncio.sleep(LOOK_S)
        await cut_off(core.sio.eio.sockets.values())


async def cut_off(sockets: Iterable[AsyncSocket]) -> None:
    """End the connections whose browsers are too far behind."""
    for socket in list(sockets):
        waiting = socket.queue.qsize()
        if waiting <= limits.STUDIO_BACKLOG_MESSAGES_MAX:
            continue
        _log.warning("viewer_too_slow", waiting=waiting, most=limits.STUDIO_BACKLOG_MESSAGES_MAX)
        while not socket.queue.empty():
            socket.queue.get_nowait()
            socket.queue.task_done()
        await socket.close(wait=False, abort=True, reason="the viewer is too slow")
        socket.queue.put_nowait(None)  # its writer ends after what it has in hand
