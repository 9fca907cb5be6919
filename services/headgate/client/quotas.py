"""Quotas."""

from __future__ import annotations

from urllib.parse import quote

from headgate.azure.arm_fields import Json
from headgate.client.api import Client
from headgate.client.http import API_VERSION

_QUERY = {"api-version": API_VERSION}


async def all_quotas(client: Client) -> list[Json]:
    """Every quota, and how much of it is used."""
    answer = await client.http.send("GET", f"{client.context.workspace_id}/quotas", query=_QUERY)
    return list(answer.object.get("value") or ())


async def quota(client: Client, name: str) -> Json:
    """One of them."""
    return (await client.http.send("GET", _path(client, name), query=_QUERY)).object


async def put_quota(client: Client, name: str, properties: Json) -> Json:
    """Makes or replaces a quota."""
    body = {"properties": properties}
    return (await client.http.send("PUT", _path(client, name), query=_QUERY, body=body)).object


async def delete_quota(client: Client, name: str) -> bool:
    """Deletes a quota; whether there was one."""
    return (await client.http.send("DELETE", _path(client, name), query=_QUERY)).is_removal


def _path(client: Client, name: str) -> str:
    return f"{client.context.workspace_id}/quotas/{quote(name, safe='')}"
