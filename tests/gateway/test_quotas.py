"""Routes of quotas, with the real registry and metering service behind the real gateway."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.harness import Api, Connect, publish
from gateway.test_costs import metering
from gateway.test_resources import put_deployment
from headgate.runtime.clock import SystemClock
from headgate_contracts.usage import UsageReported, UsageRow

__all__ = ["metering"]
pytestmark = pytest.mark.usefixtures("registry", "metering")


async def put(api: Api, name: str, **properties: Any) -> Any:
    reply = await api.put(f"~/quotas/{name}", {"properties": properties})
    assert reply.status == 200, reply.body
    return reply.body["properties"]


async def test_a_quota_lives_at_its_address(api: Api, unique: Any) -> None:
    name, endpoint = unique("q"), unique("ep")
    made = await put(api, name, kind="deployments", limit=0, endpoint=endpoint)
    assert (made["kind"], made["limit"], made["used"]) == ("deployments", 0, 0)
    found = (await api.get(f"~/quotas/{name}")).body
    assert found["type"].endswith("/workspaces/quotas") and "window" not in found["properties"]
    assert (await api.put(f"~/quotas/{name}", found)).status == 200  # what was read is taken
    names = [each["name"] for each in (await api.get("~/quotas")).body["value"]]
    assert name in names
    made = await api.put(f"~/onlineEndpoints/{endpoint}", {"location": "local"})
    assert made.status == 201
    refused = await put_deployment(api, endpoint, "blue")
    assert (refused.status, refused.error["code"]) == (409, "QuotaExceeded"), refused.body
    assert f"quota '{name}' allows 0" in refused.error["message"]
    assert (await api.delete(f"~/quotas/{name}")).status == 200
    assert (await api.delete(f"~/quotas/{name}")).status == 204
    assert (await api.get(f"~/quotas/{name}")).status == 404
    assert (await put_deployment(api, endpoint, "blue")).status == 201


async def test_use_is_told_by_caller_and_when_it_frees(
    api: Api, connect: Connect, unique: Any
) -> None:
    name, endpoint, now = unique("q"), unique("ep"), SystemClock().now()
    rows = tuple(
        UsageRow(
            minute=int(now // 86_400) * 86_400,
            workspace="local",
            endpoint=endpoint,
            deployment="blue",
            caller=caller,
            status=status,
            requests=requests,
            compute_us=2_500_000,
        )
        for caller, status, requests in (("k1", 200, 7), ("k2", 424, 2), ("k1", 429, 50))
    )
    await publish(await connect("router"), UsageReported(reporter=endpoint, epoch=1, rows=rows))
    about = {"limit": 10, "endpoint": endpoint, "caller": "*", "window": "P1D"}
    await put(api, name, kind="requests", **about)
    while not (found := (await api.get(f"~/quotas/{name}")).body["properties"])["used"]:
        await asyncio.sleep(0.05)
    assert (found["used"], found["window"]) == (7, "PT24H")
    assert {use["caller"]: use["used"] for use in found["uses"]} == {"k1": 7, "k2": 2}
    assert found["freesAt"].endswith("T00:00:00.000000Z")
    found = await put(api, name, kind="compute_seconds", **about | {"caller": ""})
    assert found["kind"] == "computeSeconds" and found["used"] == 5
    found = await put(api, name, kind="requests", limit=10, window="P1D")
    assert found["used"] >= 9, "of the workspace as a whole"


@pytest.mark.parametrize(
    ("properties", "target"),
    [
        ({"kind": "moon", "limit": 1}, "/properties/kind"),
        ({"kind": "endpoints"}, "/properties/limit"),
        ({"kind": "endpoints", "limit": -1}, "/properties/limit"),
        ({"kind": "endpoints", "limit": 1.5}, "/properties/limit"),
        ({"kind": "endpoints", "limit": 1, "endpoint": "e"}, "/properties/endpoint"),
        ({"kind": "requestsPerSecond", "limit": 1}, "/properties/endpoint"),
        ({"kind": "deployments", "limit": 1, "endpoint": "a\x9b"}, "/properties/endpoint"),
        ({"kind": "instances", "limit": 1, "deployment": "*"}, "/properties/endpoint"),
        ({"kind": "connections", "limit": 1, "endpoint": "e", "caller": "k"}, "/properties/caller"),
        ({"kind": "requests", "limit": 1}, "/properties/window"),
        ({"kind": "requests", "limit": 1, "window": "PT61S"}, "/properties/window"),
        ({"kind": "requests", "limit": 1, "window": "PT25H"}, "/properties/window"),
        ({"kind": "endpoints", "limit": 1, "window": "PT1H"}, "/properties/window"),
        ({"kind": "endpoints", "limit": 1, "colour": "red"}, "/properties/colour"),
    ],
)
async def test_a_quota_that_means_nothing_is_told_by_its_field(
    api: Api, properties: dict[str, Any], target: str
) -> None:
    reply = await api.put("~/quotas/q", {"properties": properties})
    assert (reply.status, reply.error["target"]) == (400, target), reply.body
