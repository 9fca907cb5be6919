"""What an operator sees: the routers' own figures, and the trail of events."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from headgate.demo.system import System

_SETTLE_ROUNDS_MAX = 20
_QUIET_S = 1.0


@dataclass(frozen=True, slots=True)
class Happening:
    """One event, ready to be shown."""

    time: str
    what: str
    of: str


class Observer:
    """Watches one system from its start on; changes nothing."""

    def __init__(self, system: System, endpoint: str) -> None:
        self._system = system
        self._endpoint = endpoint
        self._happenings: list[Happening] = []
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading

    async def events(self) -> list[Happening]:
        """Everything that has happened, oldest first, once nothing more is under way."""
        seen = -1
        while seen != len(self._happenings):
            seen = len(self._happenings)
            await asyncio.sleep(_QUIET_S)
        return list(self._happenings)

    async def copies(self, deployment: str) -> int:
        """How many requests the routers have copied to a deployment."""
        command = ("online-endpoint", "traffic", "--name", self._endpoint, "--output", "json")
        rows: list[dict[str, Any]] = json.loads((await self._system.cli(*command)).output)
        mine = [row["mirrored"] for row in rows if row["deployment"] == deployment]
        return sum(sum(each.values()) for each in mine if each)

    async def settled_copies(self, deployment: str) -> int:
        """The same, once it does not change any more: a mirror answers when it can."""
        seen = await self.copies(deployment)
        for _ in range(_SETTLE_ROUNDS_MAX):
            now = await self.copies(deployment)
            if now == seen:
                break
            seen = now
        return seen

    async def _follow(self) -> None:
        async for line in self._system.follow("events", "tail", "--since", "1h"):
            self._happenings.append(_happening(json.loads(line)))


def _happening(event: dict[str, Any]) -> Happening:
    """``hg.v1.evt.<kind>.<names>.<what>`` as words."""
    kind, *names, what = str(event["subject"]).split(".")[3:]
    return Happening(time=str(event["time"])[11:19], what=f"{kind} {what}", of=" / ".join(names))
