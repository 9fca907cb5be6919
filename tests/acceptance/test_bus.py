"""Headgate as programs on the bus see it: discovery, scoring without HTTP, the events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest_asyncio

from acceptance.models import JOURNAL
from acceptance.system import Headgate
from headgate.runtime.bus import Bus

SERVICES = {f"headgate-{name}" for name in ("registry", "provisioner", "gateway", "router")}
assert JOURNAL


@pytest_asyncio.fixture
async def bus(headgate: Headgate) -> AsyncIterator[Bus]:
    """A connection that may look at everything."""
    connected = await headgate.bus()
    yield connected
    await connected.close()


async def test_every_service_answers_discovery(bus: Bus) -> None:
    """What ``nats micro ls`` does."""
    inbox = bus.nc.new_inbox()
    heard = await bus.nc.subscribe(inbox)
    await bus.nc.publish("$SRV.PING", b"", reply=inbox)
    found: dict[str, dict[str, str]] = {}
    async with asyncio.timeout(5):
        while not found.keys() >= SERVICES:
            answer = json.loads((await heard.next_msg(timeout=5)).data)
            found[answer["name"]] = answer
    assert {answer["type"] for answer in found.values()} == {"io.nats.micro.v1.ping_response"}
    await heard.unsubscribe()
