"""The log tables: which there are, and questions about them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from headgate.azure.arm_fields import Json
from headgate.client.api import Client
from headgate.client.http import API_VERSION

_QUERY = {"api-version": API_VERSION}


async def tables(client: Client) -> list[Json]:
    """Every table with its columns."""
    path = f"{client.context.workspace_id}/logs/tables"
    answer = await client.http.send("GET", path, query=_QUERY)
    return list(answer.object.get("value") or ())


async def query(client: Client, question: Json, endpoint: str = "") -> Json:
    """Rows of a table, of one endpoint or of the whole workspace."""
    place = client.context.workspace_id
    if endpoint:
        place += f"/onlineEndpoints/{quote(endpoint, safe='')}"
    path = f"{place}/logs/query"
    answer = await client.http.send("POST", path, query=_QUERY, body=question, repeatable=True)
    return answer.object


def as_objects(answer: Json) -> list[dict[str, Any]]:
    """The rows of an answer, each with the names of its columns."""
    names = [str(column.get("name", "")) for column in answer.get("columns") or ()]
    return [dict(zip(names, row, strict=False)) for row in answer.get("rows") or ()]
