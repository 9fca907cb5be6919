"""Requests as their headers tell of them, and how many of them get a row in the traffic log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.router.headers import Head, Ids

if TYPE_CHECKING:
    from headgate.router.gates import Tolls


class Target:
    """What a request line says."""

    __slots__ = ("method", "path", "protocol")

    def __init__(self, method: str, path: str, protocol: str) -> None:
        self.method = method
        self.path = path
        self.protocol = protocol


class Arrival:
    """A request of an endpoint. ``began`` is on our monotonic clock.

    ``caller`` is the id of the key, or whom the token speaks for; ``tolls`` are what quotas count
    of it, once it has its body.
    """

    __slots__ = (
        "began", "caller", "endpoint", "head", "ids", "target", "tolls", "workspace",
    )  # fmt: skip

    def __init__(
        self,
        workspace: str,
        endpoint: str,
        head: Head,
        ids: Ids,
        target: Target,
        began: float,
        caller: str = "",
    ) -> None:
        self.workspace = workspace
        self.endpoint = endpoint
        self.head = head
        self.ids = ids
        self.target = target
        self.began = began
        self.caller = caller
        self.tolls: Tolls | None = None


class Allowance:
    """So many rows per endpoint until ``renew``, the last ``reserve`` of them for failures."""

    __slots__ = ("_left", "_lost", "_reserve", "_rows")

    def __init__(self, rows: int, reserve: int) -> None:
        self._rows = rows
        self._reserve = reserve
        self._left: dict[str, int] = {}
        self._lost: dict[str, int] = {}

    def takes(self, arrival: Arrival, status: int) -> bool:
        """Whether a request gets a row. Nothing is counted where there are no rows at all."""
        if not self._rows:
            return False
        left = self._left.get(arrival.endpoint, self._rows)
        if left > (self._reserve if status < 400 else 0):
            self._left[arrival.endpoint] = left - 1
            return True
        self._lost[arrival.workspace] = self._lost.get(arrival.workspace, 0) + 1
        return False

    def renew(self) -> dict[str, int]:
        """Begin anew; how many got none since the last time, by workspace."""
        self._left.clear()
        lost, self._lost = self._lost, {}
        return lost
