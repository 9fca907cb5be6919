"""Follows a KV bucket, whatever happens to the bus.

A watch is only a hint: after a server restart it stays blind for up to twenty seconds, and says
nothing. So the bucket is read as a whole after every reconnect, and whenever it has moved on and
the watch has not.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Protocol

from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.errors import Error as JetStreamError
from nats.js.kv import KeyValue

from headgate.runtime.bus import Bus
from headgate.runtime.log import Log
from headgate_contracts import limits

RETRY_S = 0.5
_READ_TIMEOUT_S = 5.0
_REMOVED = ("DEL", "PURGE")


class Reader(Protocol):
    """Who wants to know what a bucket holds."""

    def replace(self, values: Mapping[str, bytes]) -> None:
        """The bucket holds exactly this."""

    def apply(self, key: str, value: bytes) -> None:
        """The key holds this now."""

    def remove(self, key: str) -> None:
        """The key holds nothing any more."""


class BucketFollower:
    """Tells a reader what a bucket holds: ``load`` once, ``run`` as a loop of the service."""

    def __init__(self, bus: Bus, bucket: str, reader: Reader) -> None:
        self.loaded = asyncio.Event()
        self._bus = bus
        self._name = bucket
        self._reader = reader
        self._log = Log(bus.service)
        self._seen = 0  # the newest sequence number of the bucket that the reader knows
        self._again = asyncio.Event()
        bus.on_reconnect(self._on_reconnect)

    async def load(self) -> None:
        """Return when the bucket has been read once."""
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
            text = str(error) or type(error).__name__
            self._log.warning("bucket_unreadable", bucket=self._name, error=text)
            await asyncio.sleep(RETRY_S)

    async def _read(self, *, listen: bool) -> None:
        """Read everything; then listen until there is reason to read everything again."""
        bucket = await self._bus.js.key_value(self._name)
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
        values: dict[str, bytes] = {}
        while (entry := await watcher.updates(timeout=_READ_TIMEOUT_S)) is not None:
            newest = max(newest, entry.revision or 0)
            if entry.operation not in _REMOVED:
                values[entry.key] = entry.value or b""
        if newest >= self._seen:
            self._reader.replace(values)
        else:
            # A bucket younger than our memory was made anew after a loss: until its owner has
            # written it in full, what is missing there says nothing.
            for key, value in values.items():
                self._reader.apply(key, value)
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
            self._reader.remove(entry.key)
        else:
            self._reader.apply(entry.key, entry.value or b"")


async def _newest(bucket: KeyValue) -> int:
    status = await bucket.status()
    return int(status.stream_info.state.last_seq)
