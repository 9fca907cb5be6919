"""Remembers the tags of endpoints and deployments, which their costs can be added up by."""

from __future__ import annotations

from headgate.metering import state
from headgate.metering.core import Place
from headgate.runtime.bus import Bus
from headgate.runtime.tables import Database
from headgate_contracts import limits
from headgate_contracts.registry import (
    DeploymentsReply,
    EndpointsReply,
    ListDeployments,
    ListEndpoints,
)


class TagKeeper:
    """Reads the registry; what is gone from it keeps the tags that it had."""

    def __init__(self, bus: Bus, database: Database) -> None:
        self._bus = bus
        self._database = database
        self._known: dict[tuple[str, Place], dict[str, str]] = {}

    async def look(self) -> None:
        """Read all tags once. Raises HeadgateError when the registry does not answer."""
        deployments = (await self._bus.ask(ListDeployments(), DeploymentsReply)).deployments
        found: dict[tuple[str, Place], dict[str, str]] = {}
        for workspace in {each.workspace for each in deployments}:
            for name, tags in (await self._endpoint_tags(workspace)).items():
                found[workspace, (name, "")] = tags
        for each in deployments:
            of_endpoint = found.get((each.workspace, (each.spec.endpoint_name, "")), {})
            place = (each.spec.endpoint_name, each.spec.name)
            found[each.workspace, place] = {**of_endpoint, **each.spec.tags}
        changed = {key: tags for key, tags in found.items() if self._known.get(key) != tags}
        if changed:
            async with self._database.transaction() as session:
                for (workspace, place), tags in changed.items():
                    await state.set_tags(session, workspace, place, tags)
            self._known.update(changed)

    async def _endpoint_tags(self, workspace: str) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        after = ""
        while True:
            query = ListEndpoints(workspace=workspace, after=after, limit=limits.PAGE_SIZE_MAX)
            page = await self._bus.ask(query, EndpointsReply)
            found |= {each.spec.name: each.spec.tags for each in page.endpoints}
            after = page.after
            if not after:
                return found
