"""Operations: services, capacity, the map of instances, events, audit, quotas, service levels,
alert rules."""

from __future__ import annotations

from functools import partial

from fastapi import Request
from nicegui import ui

from headgate.azure.arm_fields import Json
from headgate.portal import core
from headgate.portal.attention import every
from headgate.portal.pages import alerts, audit, history, instances, levels, quotas
from headgate.portal.pages.frame import Studio, heading, page, tabbed
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
                    "Instances": partial(instances.draw, session),
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

    every(STATUS_S, refresh)


def _show(status: Json) -> None:
    with ui.row().classes("lane spread"):
        for title, key in (
            ("Endpoints", "endpoints"),
            ("Deployments", "deployments"),
            ("Ready instances", "readyInstances"),
        ):
            value = status.get(key)
            with ui.column().classes("tight"):
                ui.label(core.UNKNOWN if value is None else str(value)).classes("figure")
                ui.label(title).classes("quiet")
    capacity = status.get("capacity") or {}
    total, taken = capacity.get("total") or {}, capacity.get("taken") or {}
    with ui.column().classes("lane"):
        heading("Host")
        for key, title in (("cores", "Cores"), ("memoryGib", "Memory, GiB"), ("gpus", "GPUs")):
            have, used = float(total.get(key, 0)), float(taken.get(key, 0))
            if have:
                ui.label(f"{title}: {used:g} of {have:g} promised")
                ui.linear_progress(min(1.0, used / have), show_value=False).props(
                    f'aria-label="{title}"'
                )
    with ui.column().classes("lane close"):
        heading("Services")
        for each in status.get("services", ()):
            ui.label(f"{each['name']} {each['version']} · {each['id']}").classes("mono")
