"""Routes of service levels, with the real services behind the real gateway."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.harness import Api
from gateway.test_costs import metering
from gateway.test_resources import endpoint

__all__ = ["endpoint", "metering"]
pytestmark = pytest.mark.usefixtures("registry", "metering")


async def test_every_endpoint_has_an_objective(api: Api, endpoint: str) -> None:
    path = f"~/onlineEndpoints/{endpoint}/sla"
    found = (await api.get(path)).body
    assert found["properties"]["availabilityTargetPercent"] == 99.9
    assert found["properties"]["isDefault"] and found["properties"]["alerts"] == []
    assert found["properties"]["windows"][-1]["availabilityPercent"] is None
    found["properties"] |= {"availabilityTargetPercent": 99, "latencyTargetMs": 250}
    made = await api.put(path, found)  # what was read is taken
    assert made.status == 200, made.body
    properties = made.body["properties"]
    assert (properties["latencyTargetMs"], properties["isDefault"]) == (250, False)
    listed = (await api.get("~/slas")).body["value"]
    assert [each["properties"] for each in listed if each["name"] == endpoint] == [properties]
    assert (await api.delete(path)).status == 200
    assert (await api.delete(path)).status == 204
    assert (await api.get(path)).body["properties"]["isDefault"]
    assert (await api.get("~/onlineEndpoints/none/sla")).status == 404
    assert (await api.put("~/onlineEndpoints/none/sla", {"properties": {}})).status == 404


@pytest.mark.parametrize(
    ("properties", "target"),
    [
        ({"availabilityTargetPercent": 100}, "/properties/availabilityTargetPercent"),
        ({"availabilityTargetPercent": 0}, "/properties/availabilityTargetPercent"),
        ({"latencyTargetMs": -1}, "/properties/latencyTargetMs"),
        ({"windowDays": 91}, "/properties/windowDays"),
        ({"goal": 1}, "/properties/goal"),
    ],
)
async def test_what_is_wrong_is_told_by_its_field(
    api: Api, endpoint: str, properties: dict[str, Any], target: str
) -> None:
    reply = await api.put(f"~/onlineEndpoints/{endpoint}/sla", {"properties": properties})
    assert (reply.status, reply.error["target"]) == (400, target), reply.body
