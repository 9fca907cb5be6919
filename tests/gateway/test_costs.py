"""Routes of costs and budgets: the real metering service behind the real gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.harness import Api, Connect, publish
from headgate.metering import app as metering_app
from headgate.runtime.clock import SystemClock
from headgate.runtime.settings import Settings
from headgate_contracts.provisioning import InstanceStarted
from headgate_contracts.usage import UsageReported, UsageRow


@pytest.fixture
async def metering(connect: Connect, settings: Settings, layout: None) -> AsyncIterator[None]:
    service = await metering_app.build(settings, await connect("metering"), SystemClock())
    await service.start()
    yield
    await service.stop()


async def test_costs_are_answered_by_group(
    api: Api, metering: None, connect: Connect, unique: Any
) -> None:
    endpoint, now = unique("ep"), SystemClock().now()
    row = UsageRow(
        minute=int(now - 60),
        workspace="local",
        endpoint=endpoint,
        deployment="blue",
        caller="k1",
        status=200,
        requests=3,
        response_bytes=2_000_000_000,
    )
    await publish(await connect("router"), UsageReported(reporter=endpoint, epoch=1, rows=(row,)))
    started = InstanceStarted(
        workspace="local",
        endpoint=endpoint,
        deployment="blue",
        instance=unique("i"),
        pid=1,
        instance_type="large",
    )
    await publish(await connect("provisioner"), started)
    question = {"by": "deployment", "since": "2h", "endpoint": endpoint}
    while True:
        reply = await api.post("~/costs/query", question)
        assert reply.status == 200, reply.body
        if reply.body["rows"] and reply.body["total"]["instanceSeconds"]:
            break
    (found,) = reply.body["rows"]
    assert found["group"] == f"{endpoint}/blue" and found["requests"] == 3
    assert found["trafficCost"] == pytest.approx(0.174)  # 2 GB at 0.087
    assert reply.body["currency"] == "USD" and reply.body["since"].endswith(":00:00.000000Z")
    assert reply.body["total"]["cost"] >= 0.174


async def test_a_budget_lives_at_its_address(api: Api, metering: None, unique: Any) -> None:
    name = unique("budget")
    body = {"properties": {"amount": 10, "timeGrain": "day", "thresholds": [90]}}
    made = await api.put(f"~/budgets/{name}", body)
    assert made.status == 200, made.body
    found = (await api.get(f"~/budgets/{name}")).body
    assert found["properties"]["thresholds"] == [90] and found["properties"]["currentSpend"] >= 0
    assert (await api.put(f"~/budgets/{name}", found)).status == 200  # what was read is taken
    names = [each["name"] for each in (await api.get("~/budgets")).body["value"]]
    assert name in names
    assert (await api.delete(f"~/budgets/{name}")).status == 200
    assert (await api.delete(f"~/budgets/{name}")).status == 204
    assert (await api.get(f"~/budgets/{name}")).status == 404


@pytest.mark.parametrize(
    ("path", "body", "target"),
    [
        ("costs/query", {"by": "moon"}, "/by"),
        ("costs/query", {"since": "yesterday"}, "/since"),
        ("costs/query", {"tag": "team"}, "/tag"),
        ("costs/query", {"endpoint": "a\x1b[31m"}, "/endpoint"),
        ("budgets/b", {"properties": {"amount": -1}}, "/properties/amount"),
        ("budgets/b", {"properties": {"amount": 1, "endpoint": "a\x9b"}}, "/properties/endpoint"),
        ("budgets/b", {"properties": {"amount": 1, "deployment": "B"}}, "/properties/deployment"),
        ("budgets/b", {"properties": {"amount": 1, "timeGrain": "year"}}, "/properties/timeGrain"),
        ("budgets/b", {"properties": {}}, "/properties/amount"),
        ("budgets/b", {"properties": {"amount": 1, "thresholds": [0]}}, "/properties/thresholds"),
    ],
)
async def test_what_is_asked_wrongly_is_told_by_its_field(
    api: Api, metering: None, path: str, body: dict[str, Any], target: str
) -> None:
    send = api.post if path.startswith("costs") else api.put
    reply = await send(f"~/{path}", body)
    assert (reply.status, reply.error["target"]) == (400, target), reply.body
