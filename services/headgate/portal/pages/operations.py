"""Operations: services, capacity, the map of instances, events, audit, quotas, service levels,
alert rules."""

from __future__ import annotations

from functools import partial

from fastapi import Request
from nicegui import ui

from headgate.azure.arm_fields import Json
from headgate.portal import core
from headgate.portal.pages import alerts, audit, history, levels, quotas
from headgate.portal.pages.frame import Studio, page, tabbed
from headgate.portal.sessions import Session
from headgate_contracts.errors import HeadgateError

STATUS_S = 5.0


def register(studio: Studio) -> None:
    @ui.page("/operations")
    async def operations(request: Request) -> None:
        session = studio.session(request)
        with page(session, "Operations"):
            tabbed(
                {
                    "System": partial(_system, session),
                    "Instances": partial(_instances, session),
                    "Events": partial(history.draw, session),
                    "Audit": partial(audit.draw, session),
                    "Quotas": partial(quotas.draw, session),
                    "Service levels": partial(levels.draw, session),
                    "Alerts": partial(alerts.draw, session),
                }
            )


def _system(session: Session) -> None:
    place = ui.column().classes("full-width")

    async def refresh() -> None:
        try:
            status = await session.client.status()
        except HeadgateError:
            return
        place.clear()
        with place:
            _show(status)

    ui.timer(STATUS_S, refresh, immediate=True)


def _show(status: Json) -> None:
    with ui.row().classes("lane spread"):
        for title, key in (
            ("Endpoints", "endpoints"),
            ("Deployments", "deployments"),
            ("Ready instances", "ready_instances"),
        ):
            value = status.get(key, status.get(_camel(key)))
            with ui.column().classes("tight"):
                ui.label(core.UNKNOWN if value is None else str(value)).classes("figure")
                ui.label(title).classes("quiet")
    capacity = status.get("capacity") or {}
    total, taken = capacity.get("total") or {}, capacity.get("taken") or {}
    with ui.column().classes("lane"):
        ui.label("Host").classes("text-h6")
        for key, title in (("cores", "Cores"), ("memoryGib", "Memory, GiB"), ("gpus", "GPUs")):
            have, used = float(total.get(key, 0)), float(taken.get(key, 0))
            if have:
                ui.label(f"{title}: {used:g} of {have:g} promised")
                ui.linear_progress(min(1.0, used / have), show_value=False).props(
                    f'aria-label="{title}"'
                )
    with ui.column().classes("lane"):
        ui.label("Services").classes("text-h6")
        for each in status.get("services", ()):
            ui.label(f"{each['name']} {each['version']} · {each['id']}").classes("mono")


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _instances(session: Session) -> None:
    """Every instance as a cell, by endpoint and deployment."""
    place = ui.column().classes("full-width")
    shown: list[object] = [None]

    def refresh() -> None:
        view = session.watch.view
        now = [
            (
                name,
                d.spec.name,
                d.state,
                d.spec.instance_count,
                d.properties.get("readyInstances", 0),
            )
            for name, deployments in sorted(view.deployments.items())
            for d in deployments
        ]
        if now == shown[0]:
            return
        shown[0] = now
        place.clear()
        with place:
            if not now:
                ui.label("No instance runs.").classes("lane")
            for endpoint, deployment, state, count, ready in now:
                with ui.row().classes("mid"):
                    address = f"/endpoints/{endpoint}/deployments/{deployment}"
                    ui.link(f"{endpoint} / {deployment}", address).style("width: 16rem")
                    for number in range(max(count, ready)):
                        good = number < ready
                        cell = ui.icon("check_box" if good else "check_box_outline_blank")
                        cell.props(f"color={'positive' if good else 'grey'} size=sm")
                    ui.label(f"{ready} of {count}, {state}").classes("quiet")

    ui.timer(1.0, refresh, immediate=True)
