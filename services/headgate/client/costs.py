"""Costs and budgets."""

from __future__ import annotations

from urllib.parse import quote

from headgate.azure.arm_fields import Json
from headgate.client.api import Client
from headgate.client.http import API_VERSION

_QUERY = {"api-version": API_VERSION}


async def costs(client: Client, question: Json) -> Json:
    """Costs by group, and all together."""
    path = f"{client.context.workspace_id}/costs/query"
    answer = await client.http.send("POST", path, query=_QUERY, body=question, repeatable=True)
    return answer.object


async def currency(client: Client) -> str:
    """What prices, costs and budgets are in, which is known before there are any."""
    return str((await costs(client, {"since": "24h"})).get("currency", ""))


async def budgets(client: Client) -> list[Json]:
    """Every budget, and how it stands."""
    answer = await client.http.send("GET", f"{client.context.workspace_id}/budgets", query=_QUERY)
    return list(answer.object.get("value") or ())


async def put_budget(client: Client, name: str, properties: Json) -> Json:
    """Makes or replaces a budget."""
    body = {"properties": properties}
    return (await client.http.send("PUT", _path(client, name), query=_QUERY, body=body)).object


async def delete_budget(client: Client, name: str) -> bool:
    """Deletes a budget; whether there was one."""
    return (await client.http.send("DELETE", _path(client, name), query=_QUERY)).is_removal


def _path(client: Client, name: str) -> str:
    return f"{client.context.workspace_id}/budgets/{quote(name, safe='')}"
