"""Operations, Service levels: how endpoints keep their objectives, and the form that sets one."""

from __future__ import annotations

from collections.abc import Mapping

from nicegui import ui

from headgate.azure.arm_fields import Json
from headgate.client import sla as calls
from headgate.portal import objective_core as decide
from headgate.portal.pages.forms import Fields, open_form
from headgate.portal.pages.frame import confirm
from headgate.portal.pages.tables import Action, NamedTable
from headgate.portal.sessions import Session
from headgate_contracts import limits

COLUMNS = (
    ("name", "Endpoint"), ("target", "Objective"), ("hour", "Last hour"), ("burn", "Burn rate"),
    ("left", "Budget left"), ("latency", "Latency budget left"), ("alerts", "Alerts"),
)  # fmt: skip


class ObjectiveForm:
    """The objective of one endpoint, as the gateway told it."""

    def __init__(self, session: Session, endpoint: str, told: Json) -> None:
        self._session = session
        self._endpoint = endpoint
        self._given, self._requests = decide.read(told)
        self.title = f"Objective of {endpoint}"

    def draw(self) -> Fields:
        self._fields: dict[str, ui.number] = {
            "availability_percent": ui.number("Answered well", min=0, max=100, suffix="%"),
            "latency_ms": ui.number(
                "Answered within (empty: no target)", min=0, max=limits.REQUEST_TIMEOUT_MS_MAX,
                suffix="ms",
            ).props("clearable"),
            "latency_percent": ui.number("Share in that time", min=0, max=100, suffix="%"),
            "window_days": ui.number(
                "Over", min=1, max=limits.SLA_WINDOW_DAYS_MAX, precision=0, suffix="days"
            ),
        }  # fmt: skip
        for name, field in self._fields.items():
            field.set_value(self._given[name])
            field.classes("full-width")
        self._fields["latency_percent"].bind_visibility_from(
            self._fields["latency_ms"], "value", backward=bool
        )
        return dict(self._fields)

    def _asked(self) -> Mapping[str, float | None]:
        return {name: field.value for name, field in self._fields.items()}

    def problems(self) -> Mapping[str, str]:
        return decide.problems(self._asked())

    def meaning(self) -> str:
        made = decide.objective_of(self._session.workspace, self._endpoint, self._asked())
        return decide.meaning(made, self._requests)

    async def save(self) -> None:
        made = decide.objective_of(self._session.workspace, self._endpoint, self._asked())
        await calls.put_objective(self._session.client, self._endpoint, decide.body(made))
        ui.notify(f"objective of {self._endpoint} saved", type="positive")


def draw(session: Session) -> None:
    """The tab."""
    told: dict[str, Json] = {}
    table: NamedTable

    async def rows() -> list[dict[str, str]]:
        found = await calls.all_slas(session.client)
        told.clear()
        told.update({each["properties"]["endpoint"]: each for each in found})
        return [decide.row(each) for each in found]

    def change(name: str) -> None:
        open_form(ObjectiveForm(session, name, told[name]), table.refresh)

    def reset(name: str) -> None:
        async def go() -> None:
            await calls.delete_objective(session.client, name)
            ui.notify(f"objective of {name} is the usual one", type="positive")
            await table.refresh()

        confirm(
            f"Give {name!r} the objective that every endpoint has, 99.9 % over 30 days?",
            "Reset",
            go,
        ).open()

    actions: list[Action] = []
    if session.right.can_write:
        actions.append(("edit", "Change", change))
    if session.right.can_delete:
        actions.append(("restart_alt", "Reset", reset))
    table = NamedTable(
        COLUMNS,
        rows,
        empty="There is no endpoint that could keep an objective.",
        actions=actions,
        numbers=("hour", "burn", "left", "latency"),
    )
