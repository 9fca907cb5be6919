"""Operations, Quotas: what is allowed and used, and the form that makes or changes one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nicegui import ui

from headgate.azure.arm_fields import Json
from headgate.client import quotas as calls
from headgate.portal import quota_core as decide
from headgate.portal.pages.forms import Fields, open_form
from headgate.portal.pages.tables import Action, NamedTable
from headgate.portal.sessions import Session
from headgate_contracts.quotas import EACH, QuotaKind

COLUMNS = (
    ("name", "Quota"), ("kind", "What"), ("of", "Of"), ("used", "Used"), ("limit", "Limit"),
    ("window", "Per"),
)  # fmt: skip
_CALLERS = {"": "all callers together", "*": "each caller for itself"}


class QuotaForm:
    """One quota; ``told`` is the one that is changed, as the gateway told it."""

    def __init__(self, session: Session, taken: list[str], told: Json | None = None) -> None:
        self._session = session
        self._is_new = told is None
        self._taken = taken if told is None else []
        self._given: dict[str, Any] = {"kind": QuotaKind.REQUESTS, "endpoint": ""}
        self._used: float | None = None
        if told is not None:
            self._given, self._used = decide.read(told)
        self.title = f"Quota {self._given['name']}" if told else "New quota"

    def draw(self) -> Fields:
        given = self._given
        caller = given.get("caller", "")
        window_s = given.get("window_s") or decide.WINDOW_S
        lengths = sorted({*decide.WINDOWS_S, window_s})
        self._fields: Fields = {
            "name": ui.input("Name", value=given.get("name", "")).props("autofocus"),
            "kind": ui.select(decide.KINDS, value=given["kind"], label="What is limited"),
            "limit": ui.number("At most", value=given.get("limit"), min=0),
            "endpoint": (endpoint := self._place("Endpoint")),
            "deployment": (deployment := self._place("Deployment")),
            "caller": ui.select(
                {**_CALLERS, caller: _CALLERS.get(caller, caller)},
                value=caller, label="Caller", with_input=True, new_value_mode="add-unique",
            ).props('hint="The id of a key, or whom a token speaks for"'),
            "window_s": ui.select(
                {each: decide.window_text(each) for each in lengths}, value=window_s, label="Per"
            ),
        }  # fmt: skip
        for each in self._fields.values():
            each.classes("full-width")
        self._places = {"endpoint": endpoint, "deployment": deployment}
        self._fields["name"].set_visibility(self._is_new)
        for name in ("kind", "endpoint"):
            self._fields[name].on_value_change(self._fit)
        self._fit()
        return self._fields

    def _place(self, title: str) -> ui.select:
        value = self._given.get(title.lower(), "")
        return ui.select([value], value=value, label=title)

    def _fit(self) -> None:
        """Show the fields that count for this kind, with what can be chosen in them."""
        view = self._session.watch.view
        self._offer("endpoint", [each.spec.name for each in view.endpoints])
        endpoint = self._places["endpoint"].value
        self._offer(
            "deployment",
            [
                each.spec.name
                for name, found in view.deployments.items()
                if endpoint in (EACH, name)
                for each in found
            ],
        )
        counting = decide.fields_of(self._fields["kind"].value, endpoint)
        for name in ("endpoint", "deployment", "caller", "window_s"):
            self._fields[name].set_visibility(name in counting)

    def _offer(self, field: str, known: list[str]) -> None:
        """What is stored can be kept, also when there is no such thing any more."""
        stored, select = self._given.get(field, ""), self._places[field]
        names = sorted({*known, stored} - {"", EACH})
        options = decide.places(self._fields["kind"].value, names)
        value = select.value if select.value in options else next(iter(options))
        if (select.options, select.value) != (options, value):
            select.set_options(options, value=value)

    def _asked(self) -> Mapping[str, Any]:
        told = {name: field.value for name, field in self._fields.items()}
        return {**told, "name": (told["name"] or "").strip()}

    def problems(self) -> Mapping[str, str]:
        return decide.problems(self._asked(), self._taken)

    def meaning(self) -> str:
        return decide.meaning(decide.quota_of(self._session.workspace, self._asked()), self._used)

    async def save(self) -> None:
        quota = decide.quota_of(self._session.workspace, self._asked())
        await calls.put_quota(self._session.client, quota.name, decide.body(quota))
        ui.notify(f"quota {quota.name} saved", type="positive")


def draw(session: Session) -> None:
    """The tab."""
    told: dict[str, Json] = {}
    table: NamedTable

    async def rows() -> list[dict[str, str]]:
        found = await calls.all_quotas(session.client)
        told.clear()
        told.update({each["name"]: each for each in found})
        return [decide.row(each) for each in found]

    async def remove(name: str) -> None:
        await calls.delete_quota(session.client, name)

    def make() -> None:
        open_form(QuotaForm(session, list(told)), table.refresh)

    def change(name: str) -> None:
        open_form(QuotaForm(session, [], told[name]), table.refresh)

    actions: tuple[Action, ...] = ()
    if session.right.can_limit:
        ui.button("New quota", icon="add", on_click=make).props("no-caps outline")
        actions = (
            ("edit", "Change", change),
            ("delete", "Remove", lambda name: table.remove("quota", name, remove)),
        )
    table = NamedTable(
        COLUMNS,
        rows,
        empty="There is no quota. One limits what a workspace, an endpoint or a caller may have: "
        "instances, requests per second, requests per day.",
        actions=actions,
        numbers=("used", "limit"),
    )
