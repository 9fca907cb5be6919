"""The page of one endpoint: its deployments, and a tab for each thing that can be done with it."""

from __future__ import annotations

from functools import partial

from fastapi import Request
from nicegui import ui

from headgate.client.api import Found
from headgate.portal import core
from headgate.portal.pages import autoscale, charts, history, keys, lanes, logs, mirror, tester
from headgate.portal.pages.frame import Studio, confirm, finish, page, tabbed
from headgate.portal.sessions import Session
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import EndpointSpec


def register(studio: Studio) -> None:
    @ui.page("/endpoints/{name}")
    async def endpoint(request: Request, name: str) -> None:
        session = studio.session(request)
        with page(session, name, back=("Endpoints", "/")):
            try:
                found = await session.client.get_endpoint(name)
                listed = await session.client.list_deployments(name)
            except HeadgateError as error:
                if error.error.code is not ErrorCode.RESOURCE_NOT_FOUND:
                    ui.label(error.error.message).classes("lane wrap").props("role=alert")
                    return
                ui.label(f"There is no endpoint {name!r} in this workspace.").classes("lane wrap")
                return
            deployments = [each.spec.name for each in listed]
            uri = str(found.properties.get("scoringUri", ""))
            with ui.row().classes("mid q-mb-sm no-wrap"):
                ui.label(uri).classes("mono wrap")
                ui.button(icon="content_copy", on_click=lambda: ui.clipboard.write(uri)).props(
                    'flat dense aria-label="Copy the scoring address"'
                )
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
                    "Settings": partial(_settings, session, found),
                }
            )


def _settings(session: Session, found: Found[EndpointSpec]) -> None:
    name = found.spec.name
    rows = [
        ("Opened by", found.spec.auth_mode.value),
        ("Description", found.spec.description),
        ("Tags", ", ".join(f"{k}={v}" for k, v in found.spec.tags.items())),
        ("Public access", found.spec.public_network_access),
    ]
    with ui.column().classes("lane"):
        for title, text in rows:
            with ui.row().classes("no-wrap"):
                ui.label(title).classes("quiet").style("width: 9rem")
                ui.label(text or core.UNKNOWN).classes("wrap")
    if session.right.can_delete:

        async def delete() -> None:
            started = await session.client.delete_endpoint(name)
            await finish(session, started, f"deleting endpoint {name}")
            ui.navigate.to("/")

        dialog = confirm(
            f"Delete the endpoint {name!r} with all of its deployments? Its address stops working.",
            "Delete",
            delete,
        )
        ui.button("Delete endpoint", icon="delete", on_click=dialog.open, color="negative").props(
            "no-caps outline"
        ).classes("q-mt-md")
