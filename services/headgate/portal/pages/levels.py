"""Operations, Service levels: how endpoints keep their objectives, and the form that sets one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from nicegui import ui

from headgate.azure.arm_fields import Json
from headgate.client import sla as calls
from headgate.portal import objective_core as decide
from headgate.portal.pages.dialogs import Fields, Form, confirm, open_form
from headgate.portal.pages.tables import NamedTable
from headgate.portal.sessions import Session
from headgate_contracts import limits

COLUMNS = (
    ("name", "Endpoint"), ("target", "Objective"), ("hour", "Last hour"), ("burn", "Burn rate"),
    ("left", "Budget left"), ("latency", "Latency budget left"), ("alerts", "Alerts"),
)  # fmt: skip


class ObjectiveForm(Form):
    """The objective of one endpoint, as the gateway told it."""

    def __init__(self, session: Session, endpoint: str, told: Json) -> None:
        super().__init__(f"Objective of {endpoint}")
        self._session = session
        self._endpoint = endpoint
        self._given, self._requests = decide.read(told)

    def draw(self) -> Fields:
        given = self._given
        latency = ui.number(
            "Answered within (empty: no target)", value=given["latency_ms"],
            min=0, max=limits.REQUEST_TIMEOUT_MS_MAX, suffix="ms",
        ).props("clearable")  # fmt: skip
        share = ui.number(
            "Share in that time", value=given["latency_percent"], min=0, max=100, suffix="%"
        )
        share.bind_visibility_from(latency, "value", backward=bool)
        return {
            "availability_percent": ui.number(
                "Answered well", value=given["availability_percent"], min=0, max=100, suffix="%"
            ),
            "latency_ms": latency,
            "latency_percent": share,
            "window_days": ui.number(
                "Over", value=given["window_days"], min=1, max=limits.SLA_WINDOW_DAYS_MAX,
                precision=0, suffix="days",
            ),
        }  # fmt: skip

    def problems(self) -> Mapping[str, str]:
        return decide.problems(self.asked())

    def meaning(self) -> str:
        made = decide.objective_of(self._session.workspace, self._endpoint, self.asked())
        return decide.meaning(made, self._requests)

    async def save(self) -> None:
        made = decide.objective_of(self._session.workspace, self._endpoint, self.asked())
        await calls.put_objective(self._session.client, self._endpoint, decide.body(made))
        ui.notify(f"objective of {self._endpoint} saved", type="positive")


def draw(session: Session) -> None:
    """The tab."""
    client = session.client
    table = NamedTable(
        COLUMNS,
        partial(calls.all_slas, client),
        decide.row,
        empty="There is no endpoint yet. Each has an objective from its beginning: 99.9 % of its "
        "requests answered well over 30 days.",
        numbers=("hour", "burn", "left", "latency"),
    )

    def change(name: str) -> None:
        open_form(ObjectiveForm(session, name, table.told[name]), table.refresh)

    def reset(name: str) -> None:
        async def go() -> None:
            await calls.delete_objective(client, name)
            ui.notify(f"objective of {name} is the usual one", type="positive")
            await table.refresh()

        confirm(
            f"Give {name!r} the objective that every endpoint has, 99.9 % over 30 days?",
            "Reset",
            go,
        )

    if session.right.can_write:
        table.action("edit", "Change", change)
    if session.right.can_delete:
        table.action("restart_alt", "Reset", reset)
    table.draw()
