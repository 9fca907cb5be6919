"""Service levels."""

from __future__ import annotations

from urllib.parse import quote

from headgate.azure.arm_fields import Json
from headgate.client.api import Client
from headgate.client.http import API_VERSION

_QUERY = {"api-version": API_VERSION}


async def all_slas(client: Client) -> list[Json]:
    """How each endpoint keeps its objective."""
    answer = await client.http.send("GET", f"{client.context.workspace_id}/slas", query=_QUERY)
    return list(answer.object.get("value") or ())


async def sla(client: Client, endpoint: str) -> Json:
    """How one does."""
    return (await client.http.send("GET", _path(client, endpoint), query=_QUERY)).object


async def put_objective(client: Client, endpoint: str, properties: Json) -> Json:
    """Sets its objective."""
    body = {"properties": properties}
    return (await client.http.send("PUT", _path(client, endpoint), query=_QUERY, body=body)).object


async def delete_objective(client: Client, endpoint: str) -> bool:
    """Gives it the usual one again; whether it had another."""
    return (await client.http.send("DELETE", _path(client, endpoint), query=_QUERY)).is_removal


def _path(client: Client, endpoint: str) -> str:
    return f"{client.context.workspace_id}/onlineEndpoints/{quote(endpoint, safe='')}/sla"
