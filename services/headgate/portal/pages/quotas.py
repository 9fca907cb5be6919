"""Operations, Quotas: what is allowed and used, and the form that makes or changes one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from nicegui import ui

from headgate.azure.arm_fields import Json
from headgate.client import quotas as calls
from headgate.portal import quota_core as decide
from headgate.portal.pages.dialogs import Fields, NamedForm, open_form
from headgate.portal.pages.tables import NamedTable
from headgate.portal.sessions import Session
from headgate_contracts.quotas import EACH, QuotaKind

COLUMNS = (
    ("name", "Quota"), ("kind", "What"), ("of", "Of"), ("used", "Used"), ("limit", "Limit"),
    ("window", "Per"),
)  # fmt: skip
_OPTIONAL = ("endpoint", "deployment", "caller", "window_s")
_CALLERS = {"": "all callers together", "*": "each caller for itself"}


class QuotaForm(NamedForm):
    """One quota; ``told`` is the one that is changed, as the gateway told it."""

    def __init__(self, session: Session, others: Iterable[str], told: Json | None = None) -> None:
        given: Mapping[str, Any] | None = None
        self._used: float | None = None
        if told is not None:
            given, self._used = decide.read(told)
        super().__init__("quota", given, others)
        self._session = session

    def draw(self) -> Fields:
        given = self.given
        caller = given.get("caller", "")
        window_s = given.get("window_s") or decide.WINDOW_S
        lengths = sorted({*decide.WINDOWS_S, window_s})
        kind = given.get("kind", QuotaKind.REQUESTS)
        fields: Fields = {
            "name": self.name_field(),
            "kind": (chosen := ui.select(decide.KINDS, value=kind, label="What is limited")),
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
        self._kind = chosen
        self._places = {"endpoint": endpoint, "deployment": deployment}
        self._optional = {each: fields[each] for each in _OPTIONAL}
        for each in (chosen, endpoint):
            each.on_value_change(self._fit)
        self._fit()
        return fields

    def _place(self, title: str) -> ui.select:
        value = self.given.get(title.lower(), "")
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
        counting = decide.fields_of(self._kind.value, endpoint)
        for name, field in self._optional.items():
            field.set_visibility(name in counting)

    def _offer(self, field: str, known: list[str]) -> None:
        """What is stored can be kept, also when there is no such thing any more."""
        stored, select = self.given.get(field, ""), self._places[field]
        names = sorted({*known, stored} - {"", EACH})
        options = decide.places(self._kind.value, names)
        value = select.value if select.value in options else next(iter(options))
        if (select.options, select.value) != (options, value):
            select.set_options(options, value=value)

    def problems(self) -> Mapping[str, str]:
        return decide.problems(self.asked(), self.taken)

    def meaning(self) -> str:
        return decide.meaning(decide.quota_of(self._session.workspace, self.asked()), self._used)

    async def save(self) -> None:
        quota = decide.quota_of(self._session.workspace, self.asked())
        await calls.put_quota(self._session.client, quota.name, decide.body(quota))
        ui.notify(f"quota {quota.name} saved", type="positive")


def draw(session: Session) -> None:
    """The tab."""
    client = session.client
    table = NamedTable(
        COLUMNS,
        partial(calls.all_quotas, client),
        decide.row,
        empty="There is no quota. One limits what a workspace, an endpoint or a caller may have: "
        "instances, requests per second, requests per day.",
        numbers=("used", "limit"),
    )

    def edit(told: Json | None = None) -> None:
        open_form(QuotaForm(session, table.told, told), table.refresh)

    if session.right.can_limit:
        ui.button("New quota", icon="add", on_click=lambda: edit()).props("no-caps outline")
        table.action("edit", "Change", lambda name: edit(table.told[name]))
        table.removal("quota", partial(calls.delete_quota, client))
    table.draw()
