"""Headgate as programs on the bus see it: discovery, scoring without HTTP, the events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from nats.aio.msg import Msg

from acceptance.models import Journaled, endpoint_file
from acceptance.system import EventTail, Headgate, wait_for
from headgate.runtime.bus import Bus
from headgate_contracts import subjects

SERVICES = {f"headgate-{name}" for name in ("registry", "provisioner", "gateway", "router")}
STATUS = "Hg-Status"


@pytest_asyncio.fixture
async def bus(headgate: Headgate) -> AsyncIterator[Bus]:
    """A connection that may look at everything, and score."""
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
    await heard.unsubscribe()
    assert {answer["type"] for answer in found.values()} == {"io.nats.micro.v1.ping_response"}


async def test_a_request_on_the_bus_is_answered_by_the_same_rules(
    bus: Bus, journaled: Journaled
) -> None:
    """Key, split and header count as over HTTPS."""
    for name in ("blue", "green"):
        await asyncio.to_thread(journaled.deploy, name, all_traffic=name == "blue")
    keys = await asyncio.to_thread(journaled.headgate.keys, journaled.endpoint)

    async def ask(key: str, **headers: str) -> Msg:
        told = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        body = json.dumps({"id": "from-the-bus"}).encode()
        return await bus.nc.request(subjects.score(journaled.endpoint), body, 5, headers=told)

    async with asyncio.timeout(10):
        while (await ask(keys["primaryKey"])).headers[STATUS] != "200":  # routers are told soon
            await asyncio.sleep(0.05)
    answers = [await ask(keys[kind]) for kind in ("primaryKey", "secondaryKey") for _ in range(10)]
    assert {answer.headers[STATUS] for answer in answers} == {"200"}
    assert {answer.headers["azureml-model-deployment"] for answer in answers} == {"blue"}
    assert json.loads(answers[0].data)["id"] == "from-the-bus"

    picked = await ask(keys["primaryKey"], azureml_model_deployment="green")
    assert picked.headers["azureml-model-deployment"] == "green"
    refused = [await ask(key) for key in ("", "wrong", keys["primaryKey"][:-1])]
    assert {answer.headers[STATUS] for answer in refused} == {"401"}
    nobody = await ask(keys["primaryKey"], azureml_model_deployment="nobody")
    assert nobody.headers[STATUS] == "404"


def test_each_change_is_told_while_it_happens(headgate: Headgate, files: Path) -> None:
    """``events tail`` prints what others do."""
    with EventTail(headgate, "--filter", "endpoint.told.>", "--since", "1m") as tail:
        for change, event in (
            (("create", "-f", endpoint_file(files, "told")), "created"),
            (("update", "--name", "told", "--set", "tags.team=vision"), "updated"),
            (("regenerate-keys", "--name", "told"), "key_regenerated"),
            (("delete", "--name", "told", "--yes"), "deleted"),
        ):
            headgate.cli("online-endpoint", *change)
            wait_for(
                lambda event=event: f"endpoint.told.{event}" in tail.subjects(),
                f"{event} is told",
                timeout_s=5,
            )
