"""The page of one endpoint: its deployments, and a tab for each thing that can be done with it."""

from __future__ import annotations

from functools import partial

from fastapi import Request
from nicegui import ui

from headgate.portal.pages import (
    autoscale,
    charts,
    costs,
    history,
    keys,
    lanes,
    logs,
    mirror,
    settings,
    tester,
)
from headgate.portal.pages.frame import Studio, page, scoring_address, tabbed


def register(studio: Studio) -> None:
    @ui.page("/endpoints/{name}")
    async def endpoint(request: Request, name: str) -> None:
        session = studio.session(request)
        with page(session, name, back=("Endpoints", "/")):
            found = await session.client.get_endpoint(name)
            listed = await session.client.list_deployments(name)
            deployments = [each.spec.name for each in listed]
            scoring_address(found)
            tabbed(
                {
                    "Deployments": partial(lanes.draw, session, name),
                    "Charts": partial(charts.draw, session, name),
                    "Mirror": partial(mirror.draw, session, name),
                    "Autoscale": partial(autoscale.draw, session, name, deployments),
                    "Test": partial(tester.draw, session, found, deployments, studio.scoring_ca),
                    "Keys": partial(keys.draw, session, found),
                    "Logs": partial(logs.LogView, session, name, deployments),
                    "Events": partial(history.draw, session, filter=f"*.{name}.>"),
                    "Costs": partial(costs.draw, session, name),
                    "Settings": partial(settings.draw, session, found),
                }
            )
