"""Metrics of endpoints and deployments, in Azure's form."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from headgate.azure.arm_fields import Json
from headgate.client.api import Client
from headgate.client.http import API_VERSION


async def definitions(client: Client, endpoint: str, deployment: str = "") -> list[Json]:
    """The metrics that there are."""
    path = f"{_resource(client, endpoint, deployment)}/metricDefinitions"
    answer = await client.http.send("GET", path, query={"api-version": API_VERSION})
    return list(answer.object.get("value") or ())


async def query(
    client: Client, endpoint: str, deployment: str, asked: Mapping[str, str]
) -> list[Json]:
    """Values of metrics, each with its series."""
    path = f"{_resource(client, endpoint, deployment)}/metrics"
    answer = await client.http.send("GET", path, query={"api-version": API_VERSION, **asked})
    return list(answer.object.get("value") or ())


def _resource(client: Client, endpoint: str, deployment: str) -> str:
    path = f"{client.context.workspace_id}/onlineEndpoints/{quote(endpoint, safe='')}"
    if deployment:
        path += f"/deployments/{quote(deployment, safe='')}"
    return f"{path}/providers/Microsoft.Insights"
