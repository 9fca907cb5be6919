"""Autoscale settings over REST, in Azure Monitor's own form: the setting of Azure's sample."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.house import House, open_house, workspace_path
from headgate_contracts import registry
from headgate_contracts.resources import DeploymentSpec, EndpointSpec

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETTINGS = "/subscriptions/s-1/resourceGroups/rg-1/providers/Microsoft.Insights/autoscalesettings"


def target(workspace: str) -> str:
    return f"{workspace_path(workspace)}/onlineEndpoints/scaled/deployments/blue"


def rule(
    metric: str, operator: str, threshold: float, direction: str, value: str, **trigger: Any
) -> dict[str, Any]:
    return {
        "metricTrigger": {
            "metricName": metric,
            "metricResourceUri": trigger.pop("uri", target("alpha")),
            "timeGrain": "PT1M",
            "statistic": "Average",
            "timeWindow": "PT5M",
            "timeAggregation": "Average",
            "operator": operator,
            "threshold": threshold,
            **trigger,
        },
        "scaleAction": {
            "direction": direction,
            "type": "ChangeCount",
            "value": value,
            "cooldown": "PT5M",
        },
    }


def sample(workspace: str = "alpha") -> dict[str, Any]:
    """What cli/deploy-moe-autoscale.sh of Azure's samples makes, as Azure Monitor stores it."""
    capacity = {"minimum": "2", "maximum": "5", "default": "2"}
    weekend = {
        "frequency": "Week",
        "schedule": {
            "timeZone": "Pacific Standard Time",
            "days": ["Saturday", "Sunday"],
            "hours": [0],
            "minutes": [0],
        },
    }
    return {
        "location": "eastus",
        "tags": {"team": "vision"},
        "properties": {
            "name": "autoscale-scaled",
            "enabled": True,
            "targetResourceUri": target(workspace),
            "profiles": [
                {
                    "name": "default",
                    "capacity": capacity,
                    "rules": [
                        rule("CpuUtilizationPercentage", "GreaterThan", 70, "Increase", "2"),
                        rule("CpuUtilizationPercentage", "LessThan", 25, "Decrease", "1"),
                        rule(
                            "RequestLatency",
                            "GreaterThan",
                            70,
                            "Increase",
                            "1",
                            uri=target(workspace).rpartition("/deployments/")[0],
                        ),
                    ],
                },
                {
                    "name": "weekend",
                    "capacity": {"minimum": "2", "maximum": "2", "default": "2"},
                    "rules": [],
                    "recurrence": weekend,
                },
            ],
            "notifications": [
                {"operation": "Scale", "email": {"customEmails": ["ops@example.com"]}}
            ],
        },
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with open_house() as one:
        endpoint = registry.PutEndpoint(workspace="alpha", spec=EndpointSpec(name="scaled"))
        await one.probe.ask(endpoint, registry.EndpointReply)
        spec = DeploymentSpec(name="blue", endpoint_name="scaled")
        deployment = registry.PutDeployment(workspace="alpha", spec=spec)
        await one.probe.ask(deployment, registry.DeploymentReply)
        yield one


async def test_azures_sample_is_taken_and_given_back(house: House) -> None:
    made = await house.api.put(f"{SETTINGS}/as-1", sample())
    assert made.status == 201, made.body
    assert made.body["type"] == "Microsoft.Insights/autoscaleSettings"
    properties = made.body["properties"]
    assert (
        properties["targetResourceUri"].lower().endswith("/onlineendpoints/scaled/deployments/blue")
    )
    first = properties["profiles"][0]
    assert first["capacity"] == {"minimum": "2", "maximum": "5", "default": "2"}
    assert first["rules"][0]["metricTrigger"]["timeWindow"] == "PT5M"
    assert first["rules"][2]["metricTrigger"]["metricResourceUri"].endswith(
        "/onlineEndpoints/scaled"
    )
    assert properties["profiles"][1]["recurrence"]["schedule"]["hours"] == [0]
    again = await house.api.put(f"{SETTINGS}/as-1", made.body)
    assert (again.status, again.headers["ETag"]) == (200, made.headers["ETag"])
    assert (await house.api.get(f"{SETTINGS}/as-1")).body == made.body
    listed = await house.api.get(SETTINGS)
    assert [each["name"] for each in listed.body["value"]] == ["as-1"]
    everywhere = SETTINGS.replace("/resourceGroups/rg-1", "")
    assert len((await house.api.get(everywhere)).body["value"]) == 1
    off = await house.api.patch(f"{SETTINGS}/as-1", {"properties": {"enabled": False}})
    assert off.status == 200 and off.body["properties"]["enabled"] is False
    stale = {"If-Match": made.headers["ETag"]}
    assert (await house.api.put(f"{SETTINGS}/as-1", sample(), headers=stale)).status == 412
    only_new = {"If-None-Match": "*"}
    assert (await house.api.put(f"{SETTINGS}/as-1", sample(), headers=only_new)).status == 412
    assert (await house.api.delete(f"{SETTINGS}/as-1")).status == 200
    assert (await house.api.delete(f"{SETTINGS}/as-1")).status == 204
    assert (await house.api.get(f"{SETTINGS}/as-1")).status == 404


async def test_another_tenant_sees_and_changes_nothing(house: House) -> None:
    await house.api.put(f"{SETTINGS}/as-2", sample())
    stranger = await house.mint("beta/owner")
    assert (await house.api.get(SETTINGS, token=stranger)).body["value"] == []
    for verb in ("GET", "DELETE"):
        unknown = await house.api.send(verb, f"{SETTINGS}/no-such", token=stranger)
        theirs = await house.api.send(verb, f"{SETTINGS}/as-2", token=stranger)
        assert theirs.status == unknown.status in (204, 404)
    put = await house.api.put(f"{SETTINGS}/as-2", sample(), token=stranger)
    assert put.status == 404
    reader = await house.mint("alpha/reader")
    assert (await house.api.get(f"{SETTINGS}/as-2", token=reader)).status == 200
    assert (await house.api.put(f"{SETTINGS}/as-2", sample(), token=reader)).status == 403
    operator = await house.mint("alpha/operator")
    assert (await house.api.delete(f"{SETTINGS}/as-2", token=operator)).status == 403
    assert (await house.api.delete(f"{SETTINGS}/as-2")).status == 200


@pytest.mark.parametrize(
    ("path", "value", "pointer"),
    [
        (("targetResourceUri",), "/elsewhere", "/properties/targetResourceUri"),
        (("profiles", 0, "capacity", "minimum"), "9", "/properties/profiles/0/capacity"),
        (("profiles", 0, "capacity", "minimum"), "two", "/properties/profiles/0/capacity/minimum"),
        (
            ("profiles", 0, "rules", 0, "metricTrigger", "metricName"),
            "Happiness",
            "/properties/profiles/0/rules/0/metricTrigger/metricName",
        ),
        (
            ("profiles", 0, "rules", 0, "metricTrigger", "operator"),
            "Above",
            "/properties/profiles/0/rules/0/metricTrigger/operator",
        ),
        (
            ("profiles", 0, "rules", 0, "scaleAction", "cooldown"),
            "soon",
            "/properties/profiles/0/rules/0/scaleAction/cooldown",
        ),
        (("profiles",), [], "/properties/profiles"),
        (
            ("profiles", 1, "recurrence", "schedule", "timeZone"),
            "Mars",
            "/properties/profiles/1",
        ),
    ],
)
async def test_what_is_wrong_is_named_by_its_pointer(
    house: House, path: tuple[Any, ...], value: Any, pointer: str
) -> None:
    body = copy.deepcopy(sample())
    at = body["properties"]
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = value
    refused = await house.api.put(f"{SETTINGS}/as-3", body)
    assert refused.status == 400, refused.body
    assert refused.body["error"]["target"] == pointer


async def test_decisions_are_listed_per_workspace(house: House) -> None:
    path = f"{workspace_path('alpha')}/autoscaleDecisions"
    assert (await house.api.get(f"{path}?endpoint=scaled&since=10m")).body["value"] == []
    stranger = await house.mint("beta/owner")
    assert (await house.api.get(path, token=stranger)).status == 404
