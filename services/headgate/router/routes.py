"""Keeps the table's routes equal to the routes bucket, whatever happens to the bus.

A watch is only a hint: after a server restart it stays blind for up to twenty seconds, and says
nothing. So the bucket is read as a whole after every reconnect, and whenever it has moved on and
the watch has not.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.errors import Error as JetStreamError
from nats.js.kv import KeyValue
from pydantic import ValidationError

from headgate.router.table import Table
from headgate.runtime.bus import Bus
from headgate.runtime.log import Log
from headgate_contracts import limits, streams
from headgate_contracts.scoring import Route

RETRY_S = 0.5
_READ_TIMEOUT_S = 5.0
_REMOVED = ("DEL", "PURGE")

_log = Log("router")


class RouteFollower:
    """Reads the routes bucket, as a loop of the service."""

    def __init__(self, bus: Bus, table: Table) -> None:
        self.loaded = asyncio.Event()
        self._bus = bus
        self._table = table
        self._seen = 0  # the newest sequence number of the bucket that the table contains
        self._again = asyncio.Event()
        bus.on_reconnect(self._on_reconnect)

    async def load(self) -> None:
        """Return when the routes have been read once."""
        while not self.loaded.is_set():
            await self._attempt(listen=False)

    async def run(self) -> None:
        """Follow for ever."""
        while True:
            self._again.clear()
            await self._attempt(listen=True)

    async def _on_reconnect(self) -> None:
        self._again.set()

    async def _attempt(self, *, listen: bool) -> None:
        try:
            await self._read(listen=listen)
        except (NatsError, JetStreamError, TimeoutError, ConnectionError) as error:
            _log.warning("routes_unreadable", error=str(error) or type(error).__name__)
            await asyncio.sleep(RETRY_S)

    async def _read(self, *, listen: bool) -> None:
        """Read everything; then listen until there is reason to read everything again."""
        bucket = await self._bus.js.key_value(streams.ROUTES.name)
        newest = await _newest(bucket)
        watcher: Any = await bucket.watchall()  # its methods carry no types
        try:
            await self._read_all(watcher, newest)
            while listen and not self._again.is_set():
                entry = await self._next(watcher)
                if entry is not None:
                    self._take(entry)
                elif await _newest(bucket) != self._seen:
                    return
        finally:
            with contextlib.suppress(NatsError, JetStreamError, ConnectionError):
                await watcher.stop()

    async def _read_all(self, watcher: Any, newest: int) -> None:
        routes: list[Route] = []
        while (entry := await watcher.updates(timeout=_READ_TIMEOUT_S)) is not None:
            newest = max(newest, entry.revision or 0)
            route = None if entry.operation in _REMOVED else _parsed(entry)
            if route is not None:
                routes.append(route)
        if newest >= self._seen:
            self._table.replace(routes)
        else:
            # A bucket younger than our memory was made anew after a loss: until the registry has
            # written it in full, what is missing there says nothing.
            for route in routes:
                self._table.apply(route)
        self._seen = newest
        self.loaded.set()

    async def _next(self, watcher: Any) -> KeyValue.Entry | None:
        """The next change; None after a while without any, or after a reconnect."""
        update: asyncio.Future[KeyValue.Entry] = asyncio.ensure_future(
            watcher.updates(timeout=limits.ROUTE_REREAD_S)
        )
        again = asyncio.ensure_future(self._again.wait())
        try:
            await asyncio.wait((update, again), return_when=asyncio.FIRST_COMPLETED)
            with contextlib.suppress(NatsTimeoutError):
                return update.result() if update.done() else None
            return None
        finally:
            for task in (update, again):
                task.cancel()
            await asyncio.gather(update, again, return_exceptions=True)

    def _take(self, entry: KeyValue.Entry) -> None:
        self._seen = max(self._seen, entry.revision or 0)
        if entry.operation in _REMOVED:
            self._table.remove(entry.key)
            return
        route = _parsed(entry)
        if route is not None:
            self._table.apply(route)


async def _newest(bucket: KeyValue) -> int:
    status = await bucket.status()
    return int(status.stream_info.state.last_seq)


def _parsed(entry: KeyValue.Entry) -> Route | None:
    try:
        route = Route.model_validate_json(entry.value or b"")
        for key in route.keys:
            bytes.fromhex(key.sha256)
    except (ValidationError, ValueError) as error:
        _log.error("bad_route", endpoint=entry.key, error=str(error)[:200])
        return None
    if route.endpoint != entry.key:
        _log.error("bad_route", endpoint=entry.key, error=f"it is about {route.endpoint!r}")
        return None
    return route
