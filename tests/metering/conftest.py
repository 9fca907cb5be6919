"""The metering service on either database and a real bus, with a clock that tests set."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from headgate.metering import app
from headgate.runtime import natsd
from headgate.runtime.settings import Settings
from headgate_contracts.metering import CostsReply, GetCosts, Scope
from headgate_contracts.provisioning import InstanceEvent, InstanceStarted
from headgate_contracts.usage import UsageReported, UsageRow
from one_service import OneService, kind

__all__ = ["kind"]  # a fixture


def at(text: str) -> float:
    """``2030-03-10 08:15`` in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


DAY = at("2030-03-10")


class Hand:
    """A clock whose date tests set; it does not stand still for those that wait."""

    def __init__(self, now: float) -> None:
        self.at = now

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return time.monotonic()


def used(minute: float = DAY, **said: Any) -> UsageRow:
    about = {
        "minute": int(minute),
        "workspace": "local",
        "endpoint": "digits",
        "deployment": "blue",
        "caller": "k1",
        "status": 200,
        "requests": 1,
    }
    return UsageRow.model_validate({**about, **said})


class World(OneService):
    NAME = "metering"
    APP = app

    def __init__(self, server: natsd.RunningServer, settings: Settings) -> None:
        super().__init__(server, settings)
        self.clock = Hand(DAY + 86_400)

    async def report(
        self, *rows: UsageRow, reporter: str = "r1", epoch: int = 1, first: int = 0
    ) -> None:
        report = UsageReported(reporter=reporter, epoch=epoch, first=first, rows=rows)
        await self.say("router", report)

    async def instance(
        self, kind: type[InstanceEvent], instance: str, when: str, place: str, size: str = ""
    ) -> None:
        endpoint, deployment = place.split("/")
        about: dict[str, Any] = {"pid": 1, "instance_type": size, "reason": "it was killed"}
        fields = {name: about[name] for name in about if name in kind.model_fields}
        event = kind(
            workspace="local",
            endpoint=endpoint,
            deployment=deployment,
            instance=instance,
            **fields,
        )
        await self.say("provisioner", event, at(when))

    async def started(self, instance: str, when: str, place: str, size: str) -> None:
        await self.instance(InstanceStarted, instance, when, place, size)

    async def costs(self, **asked: Any) -> CostsReply:
        scope = {"workspace": "local", **asked.pop("scope", {})}
        query = GetCosts.model_validate(
            {"scope": Scope.model_validate(scope), "since": DAY, **asked}
        )
        return await self.buses["probe"].ask(query, CostsReply)

    async def until(self, condition: Callable[[CostsReply], Any], **asked: Any) -> CostsReply:
        """The first answer that fulfils the condition."""
        async with asyncio.timeout(30):
            while not condition(reply := await self.costs(**asked)):
                await asyncio.sleep(0.05)
        return reply


MakeWorld = Callable[..., Awaitable[World]]


@pytest.fixture
async def make_world(data_dir: Path) -> AsyncIterator[MakeWorld]:
    async with World.makers(data_dir) as make:
        yield make
