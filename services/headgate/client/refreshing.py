"""The client's calls about refreshes of environments."""

from __future__ import annotations

from dataclasses import dataclass

from headgate.azure.arm_fields import Json
from headgate.client.api import Client
from headgate.client.http import API_VERSION, not_understood


@dataclass(frozen=True, slots=True)
class Refresh:
    """One round over the environments in use, as the gateway tells it."""

    id: str
    is_over: bool
    environments: list[Json]


class Refreshing:
    """What can be asked about refreshes. Methods raise HeadgateError."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._path = f"{client.context.workspace_id}/environmentRefreshes"

    async def begin(self, name: str = "", version: str = "", *, dry_run: bool = False) -> Refresh:
        """Look at the environments in use; unless it is a dry run, roll what has changed."""
        body = {"name": name, "version": version, "dryRun": dry_run}
        return await self._send("POST", self._path, body)

    async def get(self, refresh_id: str) -> Refresh:
        return await self._send("GET", f"{self._path}/{refresh_id}")

    async def _send(self, method: str, path: str, body: Json | None = None) -> Refresh:
        query = {"api-version": API_VERSION}
        found = (await self._client.http.send(method, path, query=query, body=body)).object
        looks = found.get("environments")
        if not isinstance(looks, list) or not all(isinstance(look, dict) for look in looks):
            raise not_understood()
        return Refresh(str(found.get("id")), found.get("endedAt") is not None, looks)
