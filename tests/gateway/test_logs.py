"""Routes of the log tables: the real service behind the real gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.harness import Api, Connect, Reply, publish
from headgate.logs import app as logs_app
from headgate.runtime.clock import SystemClock
from headgate.runtime.settings import Settings
from headgate_contracts.logs import TABLES, TrafficLogged, TrafficRow

AT = 1_900_000_000.0


@pytest.fixture
async def logs(connect: Connect, settings: Settings, layout: None) -> AsyncIterator[None]:
    service = await logs_app.build(settings, await connect("logs"), SystemClock())
    await service.start()
    yield
    await service.stop()


async def until_rows(api: Api, question: dict[str, Any], path: str = "~/logs/query") -> Reply:
    while True:
        reply = await api.post(path, question)
        assert reply.status == 200, reply.body
        if reply.body["rows"]:
            return reply


async def test_rows_are_answered_with_their_columns(
    api: Api, logs: None, connect: Connect, unique: Any
) -> None:
    endpoint = unique("ep")
    row = TrafficRow(at=AT, workspace="local", endpoint=endpoint, status=503, request_id="r")
    await publish(await connect("router"), TrafficLogged(writer="w", rows=(row,)))
    question = {
        "table": "traffic",
        "where": f"ResponseCode >= 500 and EndpointName == '{endpoint}'",
        "columns": ["TimeGenerated", "ResponseCode", "SubscriptionId", "AzureMLWorkspaceId"],
        "since": "2030-01-01T00:00:00Z",
    }
    reply = await until_rows(api, question)
    assert reply.body["name"] == "AmlOnlineEndpointTrafficLog"
    assert [column["type"] for column in reply.body["columns"]] == [
        *("datetime", "long"),
        *("string", "string"),
    ]
    (values,) = reply.body["rows"]
    assert values[:3] == ["2030-03-17T17:46:40.000Z", 503, "sub"]
    assert values[3].endswith("/workspaces/local")
    assert (reply.body["isCut"], reply.body["lost"]) == (False, 0)
    of_one = f"~/onlineEndpoints/{endpoint}/logs/query"
    assert len((await until_rows(api, {"table": "traffic"}, of_one)).body["rows"]) == 1
    none = await api.post("~/onlineEndpoints/never-there/logs/query", {"table": "traffic"})
    assert none.body["rows"] == []


async def test_tables_are_described(api: Api) -> None:
    found = (await api.get("~/logs/tables")).body["value"]
    assert [table["azureName"] for table in found] == [table.name for table in TABLES.values()]
    assert all(column["description"] for table in found for column in table["columns"])


@pytest.mark.parametrize(
    ("question", "target"),
    [
        ({}, "/table"),
        ({"table": "secrets"}, "/table"),
        ({"table": "traffic", "where": "1=1; drop table x"}, "/where"),
        ({"table": "traffic", "where": 5}, "/where"),
        ({"table": "traffic", "columns": ["Nope"]}, "/columns"),
        ({"table": "traffic", "since": "yesterday"}, "/since"),
        ({"table": "traffic", "until": "5"}, "/until"),
        ({"table": "traffic", "limit": 0}, "/limit"),
        ({"table": "traffic", "limit": 10_001}, "/limit"),
        ({"table": "traffic", "order": "up"}, "/order"),
        ({"table": "traffic", "wher": ""}, "/wher"),
    ],
)
async def test_a_bad_question_is_refused_with_its_field(
    api: Api, logs: None, question: dict[str, Any], target: str
) -> None:
    reply = await api.post("~/logs/query", question)
    assert reply.status == 400
    assert reply.error["target"] == target
