"""Keeps the table's routes equal to the routes bucket."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from headgate.router.table import Table
from headgate.runtime.bus import Bus
from headgate.runtime.follower import BucketFollower
from headgate.runtime.log import Log
from headgate_contracts import streams
from headgate_contracts.scoring import Route

_log = Log("router")


class RouteFollower(BucketFollower):
    """Reads the routes bucket, as a loop of the service."""

    def __init__(self, bus: Bus, table: Table) -> None:
        super().__init__(bus, streams.ROUTES.name, _Routes(table))


class _Routes:
    """Routes of a bucket on their way into the table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def replace(self, values: Mapping[str, bytes]) -> None:
        found = (_parsed(key, value) for key, value in values.items())
        self._table.replace([route for route in found if route is not None])

    def apply(self, key: str, value: bytes) -> None:
        route = _parsed(key, value)
        if route is not None:
            self._table.apply(route)

    def remove(self, key: str) -> None:
        self._table.remove(key)


def _parsed(key: str, value: bytes) -> Route | None:
    try:
        route = Route.model_validate_json(value)
        for digest in route.keys:
            bytes.fromhex(digest.sha256)
    except (ValidationError, ValueError) as error:
        _log.error("bad_route", endpoint=key, error=str(error)[:200])
        return None
    if route.endpoint != key:
        _log.error("bad_route", endpoint=key, error=f"it is about {route.endpoint!r}")
        return None
    return route
