"""Metrics in Azure Monitor's form: the real metering service behind the real gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.harness import Api, Connect
from headgate.gateway.metrics import read_filter, read_timespan
from headgate.metering import app as metering_app
from headgate.metering.rows import VERSION_TABLE, MetricRow
from headgate.runtime.clock import SystemClock
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate.runtime.tables import open_database
from headgate_contracts.errors import HeadgateError
from headgate_contracts.metrics import DEPLOYMENT, ENDPOINT

INSIGHTS = "providers/Microsoft.Insights"


@pytest.fixture
async def metering(connect: Connect, settings: Settings, layout: None) -> AsyncIterator[None]:
    service = await metering_app.build(settings, await connect("metering"), SystemClock())
    await service.start()
    yield
    await service.stop()


async def remember(settings: Settings, endpoint: str) -> None:
    url = settings.database_url("metering")
    database = await open_database(url, metering_app.MIGRATIONS, VERSION_TABLE)
    minute = int(SystemClock().now() // 60) * 60 - 120
    async with database.transaction() as session:
        for number, statuses in enumerate(('{"200": 6}', '{"200": 2, "503": 4}')):
            row = MetricRow(
                workspace="local",
                endpoint=endpoint,
                minute=minute + 60 * number,
                deployment="blue",
                instance="",
                value=f'{{"statuses": {statuses}}}',
            )
            session.add(row)
    await database.close()


async def test_values_come_in_azures_form(
    api: Api, metering: None, settings: Settings, unique: Any
) -> None:
    """Also of an endpoint that is there no more."""
    name = unique("ep")
    await remember(settings, name)
    path = f"~/onlineEndpoints/{name}/{INSIGHTS}/metrics?metricnames=RequestsPerMinute"
    reply = await api.get(f"{path}&aggregation=average,total&interval=PT1M")
    assert reply.status == 200, reply.body
    (metric,) = reply.body["value"]
    assert metric["name"]["value"] == "RequestsPerMinute" and metric["unit"] == "Count"
    assert metric["id"].endswith(f"{name}/{INSIGHTS}/metrics/RequestsPerMinute")
    (series,) = metric["timeseries"]
    assert [point["total"] for point in series["data"]] == [6, 6]
    assert set(series["data"][0]) == {"timeStamp", "average", "total"}
    split = await api.get(f"{path}&$filter=statusCode%20eq%20'*'&interval=FULL&aggregation=Total")
    told = {
        each["metadatavalues"][0]["value"]: sum(point["total"] for point in each["data"])
        for each in split.body["value"][0]["timeseries"]
    }
    assert told == {"200": 8, "503": 4}


async def test_an_endpoint_is_there_or_has_metrics(
    api: Api, metering: None, registry: Service, unique: Any
) -> None:
    name = unique("ep")
    path = f"~/onlineEndpoints/{name}"
    for place in (path, f"{path}/deployments/blue"):
        reply = await api.get(f"{place}/{INSIGHTS}/metrics")
        assert (reply.status, reply.error["code"]) == (404, "ResourceNotFound"), reply.body
    made = await api.put(path, {"location": "local", "properties": {"authMode": "Key"}})
    assert made.status == 201, made.body
    reply = await api.get(f"{path}/{INSIGHTS}/metrics")
    assert reply.status == 200 and reply.body["value"][0]["timeseries"] == []


async def test_definitions_are_azures(api: Api, metering: None) -> None:
    for path, metrics in (("digits", ENDPOINT), ("digits/deployments/blue", DEPLOYMENT)):
        found = (await api.get(f"~/onlineEndpoints/{path}/{INSIGHTS}/metricDefinitions")).body
        assert [each["name"]["value"] for each in found["value"]] == [m.name for m in metrics]
        availability = found["value"][0]["metricAvailabilities"]
        assert availability == [{"timeGrain": "PT1M", "retention": "P30D"}]


@pytest.mark.parametrize(
    ("query", "target"),
    [
        ("timespan=yesterday", "timespan"),
        ("interval=PT30S", "interval"),
        ("aggregation=median", "aggregation"),
        ("$filter=deployment%20or%20so", "$filter"),
        ("metricnames=Requests", "metricnames"),
    ],
)
async def test_a_bad_question_is_told(api: Api, metering: None, query: str, target: str) -> None:
    reply = await api.get(f"~/onlineEndpoints/digits/{INSIGHTS}/metrics?{query}")
    assert (reply.status, reply.error["target"]) == (400, target), reply.body


def test_timespans_and_filters() -> None:
    assert read_timespan("PT1H", 7_200.0) == (3_600.0, 7_200.0)
    assert read_timespan("1970-01-01T00:00:00Z/1970-01-01T01:00:00+00:00", 0) == (0.0, 3_600.0)
    with pytest.raises(HeadgateError):
        read_timespan("1970-01-01T01:00:00Z/1970-01-01T00:00:00Z", 0)
    assert read_filter("deployment eq 'blue' and statusCode eq '*'") == (
        ("deployment", "statusCode"),
        {"deployment": "blue"},
    )
    assert read_filter("") == ((), {})
