"""Answers the NATS micro-services discovery protocol (ADR-32) for one service.

``nats micro ls``, ``info`` and ``stats`` list our services, whose handlers are FastStream's.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from nats.aio.msg import Msg

from headgate import __version__
from headgate.runtime.answers import EndpointStats
from headgate.runtime.bus import Bus
from headgate.runtime.clock import short_id

_TYPE = "io.nats.micro.v1.{}_response"


class Discovery:
    """The discovery side of one service process."""

    def __init__(self, bus: Bus, description: str, stats: dict[str, EndpointStats]) -> None:
        self.id = short_id()
        self._bus = bus
        self._description = description
        self._stats = stats
        self._started = datetime.fromtimestamp(bus.clock.now(), UTC)

    @property
    def name(self) -> str:
        return f"headgate-{self._bus.service}"

    async def start(self) -> None:
        """Listen on the nine discovery subjects."""
        for verb in ("PING", "INFO", "STATS"):
            for suffix in ("", f".{self.name}", f".{self.name}.{self.id}"):
                await self._bus.subscribe(f"$SRV.{verb}{suffix}", self._answer)

    async def _answer(self, message: Msg) -> None:
        if not message.reply:
            return
        verb = message.subject.split(".")[1].lower()
        await self._bus.publish(message.reply, json.dumps(self._describe(verb)).encode())

    def _describe(self, verb: str) -> dict[str, Any]:
        said: dict[str, Any] = {
            "type": _TYPE.format(verb),
            "name": self.name,
            "id": self.id,
            "version": __version__,
            "metadata": {},
        }
        if verb == "info":
            said["description"] = self._description
            said["endpoints"] = [
                {"name": op, "subject": s.subject, "queue_group": self._bus.service, "metadata": {}}
                for op, s in self._stats.items()
            ]
        if verb == "stats":
            said["started"] = self._started.isoformat().replace("+00:00", "Z")
            said["endpoints"] = [self._describe_stats(op, s) for op, s in self._stats.items()]
        return said

    def _describe_stats(self, op: str, stats: EndpointStats) -> dict[str, Any]:
        return {
            "name": op,
            "subject": stats.subject,
            "queue_group": self._bus.service,
            "num_requests": stats.requests,
            "num_errors": stats.errors,
            "last_error": stats.last_error,
            "processing_time": stats.processing_ns,
            "average_processing_time": stats.processing_ns // max(1, stats.requests),
        }
