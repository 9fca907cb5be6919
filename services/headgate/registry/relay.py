"""Keeps the bucket of routes equal to what follows from the rows.

Level-triggered: a commit only names an endpoint to look at again; what is written is derived from
the rows anew, and everything is compared at start, after a reconnect and now and then besides. So
a lost hint, a crash or an emptied bucket heals by itself.
"""

from __future__ import annotations

import asyncio

from pydantic import ValidationError

from headgate.registry import state
from headgate.runtime.buckets import BucketWriter, Entry
from headgate.runtime.bus import Bus
from headgate.runtime.log import Log
from headgate.runtime.tables import Database
from headgate_contracts import streams
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.scoring import Route

COMPARE_S = 30.0
_RETRY_FIRST_S = 0.1
_RETRY_MAX_S = 2.0
_TRIES_MAX = 5


class Relay:
    """Writes routes: ``wake(endpoint)`` after a commit, ``run`` for ever."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bucket = BucketWriter(bus, streams.ROUTES.name)
        self._log = Log(bus.service)
        self._woken = asyncio.Event()
        self._names: set[str] = set()
        self._compare_due = True
        bus.on_reconnect(self._on_reconnect)

    def wake(self, endpoint: str) -> None:
        """Say that this endpoint may need another route."""
        self._names.add(endpoint)
        self._woken.set()

    async def run(self) -> None:
        """Write routes for ever."""
        retry_s = _RETRY_FIRST_S
        while True:
            self._woken.clear()
            try:
                await self._catch_up()
                retry_s = _RETRY_FIRST_S
                self._compare_due = not await self._woken_within(COMPARE_S) or self._compare_due
            except (HeadgateError, TimeoutError) as error:
                self._log.warning("routes_wait", error=str(error) or type(error).__name__)
                self._compare_due = True
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, _RETRY_MAX_S)

    async def _catch_up(self) -> None:
        if self._compare_due:
            async with self._database.reading() as session:
                self._names.update(await state.endpoint_names(session))
            self._names.update(await self._bucket.keys())
            self._compare_due = False
        while self._names:
            await self._write(self._names.pop())

    async def _write(self, endpoint: str) -> None:
        for _ in range(_TRIES_MAX):
            found = await self._bucket.get(endpoint)
            async with self._database.reading() as session:
                wanted = await state.route(session, endpoint)
            value = _value(found, wanted)
            if value == found.value:
                return
            if await self._bucket.replace(endpoint, found, value):
                self._log.debug("route_written", endpoint=endpoint, present=value is not None)
                return
        raise HeadgateError(
            ErrorCode.RESOURCE_CONFLICT, f"another writer keeps changing the route of {endpoint!r}"
        )

    async def _woken_within(self, wait_s: float) -> bool:
        try:
            async with asyncio.timeout(wait_s):
                await self._woken.wait()
        except TimeoutError:
            return False
        return True

    async def _on_reconnect(self) -> None:
        self._compare_due = True
        self._woken.set()


def _value(found: Entry, wanted: Route | None) -> bytes | None:
    """What the bucket should hold. Its revision is above what routers have seen, come what may:
    they would ignore a route of a database that was put back from a backup.
    """
    if wanted is None:
        return None
    if found.value is not None:
        try:
            known = Route.model_validate_json(found.value)
        except ValidationError:
            known = Route(workspace="", endpoint="")
        if known == wanted.model_copy(update={"revision": known.revision}):
            return found.value
        wanted = wanted.model_copy(update={"revision": max(wanted.revision, known.revision + 1)})
    return wanted.model_dump_json().encode()
