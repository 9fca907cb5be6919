"""What the bus tells an operator: the routers' own figures, and the trail of events."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from headgate.demo.system import System
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate.runtime.keyring import creds_path
from headgate_contracts.routing import GetTraffic, TrafficReply

_SETTLED_S = 0.3
_SETTLE_ROUNDS_MAX = 20


@dataclass(frozen=True, slots=True)
class Happening:
    """One event, ready to be shown."""

    time: str
    what: str
    of: str


class Observer:
    """Reads from the bus of one system; changes nothing."""

    def __init__(self, system: System, endpoint: str) -> None:
        self._system = system
        self._endpoint = endpoint

    async def copies(self, deployment: str) -> int:
        """How many requests the routers have copied to a deployment and got an answer for."""
        port = json.loads((self._system.data / "run" / "nats.json").read_text())["port"]
        creds = creds_path(self._system.data / "keys", "probe")
        bus = await Bus.connect("probe", f"nats://127.0.0.1:{port}", creds, SystemClock())
        try:
            replies = await bus.ask_all(GetTraffic(endpoint=self._endpoint), TrafficReply)
        finally:
            await bus.close()
        mine = [reply.deployments.get(deployment) for reply in replies]
        return sum(sum(figures.mirrored.values()) for figures in mine if figures)

    async def events(self) -> list[Happening]:
        """Everything that happened so far, oldest first."""
        tail = ("events", "tail", "--since", "1h", "--no-follow", "--output", "json")
        lines = (await self._system.cli(*tail)).output.splitlines()
        return [_happening(json.loads(line)) for line in lines]

    async def settled_copies(self, deployment: str) -> int:
        """The same, once it does not change any more: a mirror answers when it can."""
        seen = await self.copies(deployment)
        for _ in range(_SETTLE_ROUNDS_MAX):
            await asyncio.sleep(_SETTLED_S)
            now = await self.copies(deployment)
            if now == seen:
                break
            seen = now
        return seen


def _happening(event: dict[str, Any]) -> Happening:
    """``hg.v1.evt.<kind>.<names>.<what>`` as words."""
    kind, *names, what = str(event["subject"]).split(".")[3:]
    return Happening(time=str(event["time"])[11:19], what=f"{kind} {what}", of=" / ".join(names))
