"""Alert rules and their deliveries."""

from __future__ import annotations

from urllib.parse import quote

from headgate.azure.arm_fields import Json
from headgate.client.api import Client
from headgate.client.http import API_VERSION

_QUERY = {"api-version": API_VERSION}


async def rules(client: Client) -> list[Json]:
    """Every rule, and how its deliveries fare."""
    path = f"{client.context.workspace_id}/alertRules"
    return list((await client.http.send("GET", path, query=_QUERY)).object.get("value") or ())


async def rule(client: Client, name: str) -> Json:
    """One of them."""
    return (await client.http.send("GET", _path(client, name), query=_QUERY)).object


async def put_rule(client: Client, name: str, properties: Json) -> Json:
    """Makes or replaces a rule."""
    body = {"properties": properties}
    return (await client.http.send("PUT", _path(client, name), query=_QUERY, body=body)).object


async def delete_rule(client: Client, name: str) -> bool:
    """Deletes a rule with its deliveries; whether there was one."""
    return (await client.http.send("DELETE", _path(client, name), query=_QUERY)).is_removal


async def send_test(client: Client, name: str) -> Json:
    """Sends something that says that it is a test."""
    answer = await client.http.send("POST", f"{_path(client, name)}/test", query=_QUERY)
    return answer.object


async def deliveries(client: Client, name: str) -> list[Json]:
    """What was sent and what is to be, the latest first."""
    path = f"{_path(client, name)}/deliveries"
    return list((await client.http.send("GET", path, query=_QUERY)).object.get("value") or ())


def _path(client: Client, name: str) -> str:
    return f"{client.context.workspace_id}/alertRules/{quote(name, safe='')}"
