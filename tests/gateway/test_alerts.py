"""Routes of alert rules, with the real metering service and a real receiver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from gateway.harness import Api
from gateway.test_costs import metering
from headgate.runtime.settings import Settings

__all__ = ["metering"]


@pytest.fixture
async def hook() -> AsyncIterator[str]:
    """The address of a server that takes what it is sent."""

    async def take(_: web.BaseRequest) -> web.Response:
        return web.Response(status=204)

    runner = web.ServerRunner(web.Server(take))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"{site.name}/hook"
    await runner.cleanup()


@pytest.fixture
def settings(settings: Settings, hook: str) -> Settings:
    return settings.model_copy(update={"alert_urls": hook, "alert_networks": "127.0.0.0/8"})


@pytest.mark.usefixtures("metering")
async def test_a_rule_lives_at_its_address(api: Api, hook: str, unique: Any) -> None:
    name = unique("rule")
    body = {"properties": {"topics": ["sla-burning", "quotaRefused"], "url": hook}}
    made = await api.put(f"~/alertRules/{name}", body)
    assert made.status == 200, made.body
    assert len(made.body["properties"]["secret"]) == 64
    found = (await api.get(f"~/alertRules/{name}")).body
    assert found["properties"]["topics"] == ["sla-burning", "quota-refused"]
    assert "secret" not in found["properties"]
    assert (await api.put(f"~/alertRules/{name}", found)).status == 200  # what was read is taken
    assert name in [each["name"] for each in (await api.get("~/alertRules")).body["value"]]
    sent = await api.post(f"~/alertRules/{name}/test")
    assert (sent.status, sent.body["state"]) == (202, "waiting")
    async with asyncio.timeout(20):
        while True:
            (kept,) = (await api.get(f"~/alertRules/{name}/deliveries")).body["value"]
            if kept["state"] == "delivered":
                break
    assert (kept["id"], kept["status"], kept["topic"]) == (sent.body["id"], 204, "test")
    assert (await api.get(f"~/alertRules/{name}")).body["properties"]["delivered"] == 1
    assert (await api.delete(f"~/alertRules/{name}")).status == 200
    assert (await api.delete(f"~/alertRules/{name}")).status == 204
    assert (await api.get(f"~/alertRules/{name}/deliveries")).status == 404


@pytest.mark.usefixtures("metering")
@pytest.mark.parametrize(
    ("properties", "target"),
    [
        ({"topics": ["moon"]}, "/properties/topics"),
        ({"topics": []}, "/properties/topics"),
        ({"topics": ["test"]}, "/properties/topics"),
        ({"topics": ["sla-burning"], "url": "https://elsewhere.example"}, "/properties/url"),
        ({"topics": ["sla-burning"], "url": ""}, "/properties/url"),
        ({"topics": ["sla-burning"], "secret": "short"}, "/properties/secret"),
        ({"topics": ["sla-burning"], "endpoint": "a\x1b[m"}, "/properties/endpoint"),
        ({"topics": ["sla-burning"], "header": "x"}, "/properties/header"),
    ],
)
async def test_what_is_wrong_is_told_by_its_field(
    api: Api, hook: str, properties: dict[str, Any], target: str
) -> None:
    reply = await api.put("~/alertRules/r", {"properties": {"url": hook, **properties}})
    assert (reply.status, reply.error["target"]) == (400, target), reply.body
