"""What is asked of a whole workspace at once, for pages that show all of it."""

from __future__ import annotations

from headgate.azure.arm_fields import Json
from headgate.client.api import Client, Found, found_deployment
from headgate.client.http import Answer, not_understood
from headgate_contracts.resources import DeploymentSpec


async def live(client: Client) -> Json:
    """What every deployment does at this moment: a row for each in ``value``."""
    return (await client.get("/live")).object


async def nodes(client: Client) -> list[Json]:
    """Every node of batch jobs."""
    return [body async for body in client.pages("/nodes")]


async def deployments(client: Client) -> dict[str, list[Found[DeploymentSpec]]]:
    """Every online deployment, by the name of its endpoint."""
    found: dict[str, list[Found[DeploymentSpec]]] = {}
    async for body in client.pages("/onlineDeployments"):
        parts = str(body.get("id", "")).split("/")
        if len(parts) < 3:
            raise not_understood()
        endpoint = parts[-3]
        found.setdefault(endpoint, []).append(found_deployment(endpoint, Answer(200, {}, body)))
    return found
