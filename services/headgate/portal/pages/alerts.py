"""Operations, Alerts: who is told of what by webhook, and the form that makes or changes a rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nicegui import ui

from headgate.azure.arm_fields import Json
from headgate.client import alerts as calls
from headgate.portal import alert_core as decide
from headgate.portal.pages.forms import Fields, open_form
from headgate.portal.pages.tables import Action, NamedTable
from headgate.portal.sessions import Session

COLUMNS = (
    ("name", "Rule"), ("topics", "Told of"), ("about", "About"), ("url", "Address"), ("on", "Is"),
    ("delivered", "Delivered"), ("waiting", "Waiting"), ("given_up", "Given up"),
)  # fmt: skip
_DELIVERIES = (
    ("created", "Time (UTC)"), ("topic", "Of"), ("state", "State"), ("attempts", "Attempts"),
    ("answer", "Last answer"), ("due", "Next attempt"),
)  # fmt: skip
_EVERYTHING = "everything in the workspace"


class AlertForm:
    """One rule; ``told`` is the one that is changed, as the gateway told it."""

    def __init__(self, session: Session, taken: list[str], told: Json | None = None) -> None:
        self._session = session
        self._taken = taken if told is None else []
        self._is_new = told is None
        self._given: dict[str, Any] = decide.read(told) if told else {}
        self.secret = ""
        """Made for a new rule; known once it is saved."""
        self.title = f"Alert rule {self._given['name']}" if told else "New alert rule"

    def draw(self) -> Fields:
        given, about = self._given, self._given.get("endpoint", "")
        names = [each.spec.name for each in self._session.watch.view.endpoints]
        endpoints = {"": _EVERYTHING, **{name: name for name in [*names, about] if name}}
        self._fields: Fields = {
            "name": ui.input("Name", value=given.get("name", "")).props("autofocus"),
            "topics": ui.select(
                decide.TOPICS, value=given.get("topics", []), label="When", multiple=True
            ).props("use-chips"),
            "endpoint": ui.select(endpoints, value=about, label="About"),
            "url": ui.input("Address that gets it", value=given.get("url", "")),
            "secret": ui.input(
                "Secret that signs it (empty: made for you)"
                if self._is_new
                else "New secret (empty: it keeps its own)",
                password=True,
            ).props("autocomplete=new-password"),
            "is_enabled": ui.switch("On", value=given.get("is_enabled", True)),
        }
        self._fields["name"].set_visibility(self._is_new)
        for field in self._fields.values():
            field.classes("full-width")
        return self._fields

    def _asked(self) -> dict[str, Any]:
        told = {name: field.value for name, field in self._fields.items()}
        texts = {name: (told[name] or "").strip() for name in ("name", "url", "secret")}
        return {**told, **texts}

    def problems(self) -> Mapping[str, str]:
        return decide.problems(self._asked(), self._taken)

    def meaning(self) -> str:
        return decide.meaning(decide.rule_of(self._session.workspace, self._asked()))

    async def save(self) -> None:
        asked = self._asked()
        rule = decide.rule_of(self._session.workspace, asked)
        made = await calls.put_rule(
            self._session.client, rule.name, decide.body(rule, asked["secret"])
        )
        ui.notify(f"alert rule {rule.name} saved", type="positive")
        self.secret = str(made["properties"].get("secret") or "")


def _tell_secret(secret: str) -> None:
    with ui.dialog().props('persistent aria-label="Secret of the rule"') as dialog, ui.card():
        ui.label("The secret that signs what is sent. It is shown now and never again.")
        ui.label(secret).classes("mono wrap lane")
        with ui.row().classes("justify-end full-width"):
            ui.button("Copy", on_click=lambda: ui.clipboard.write(secret)).props("flat no-caps")
            ui.button("Close", on_click=dialog.close).props("no-caps")
    dialog.on("hide", dialog.delete)
    dialog.open()


async def _deliveries(session: Session, name: str) -> None:
    """A dialog with what was sent for a rule and what waits."""
    found = await calls.deliveries(session.client, name)
    with (
        ui.dialog().props(f'aria-label="Deliveries of {name}"') as dialog,
        ui.card().style("width: min(60rem, 92vw); max-width: none"),
    ):
        ui.element("h2").classes("text-h6 q-my-none")._text = f"Deliveries of {name}"
        columns = [{"name": k, "label": t, "field": k, "align": "left"} for k, t in _DELIVERIES]
        rows = [decide.delivery_row(each) for each in found]
        if rows:
            ui.table(columns=columns, rows=rows, row_key="id", pagination=10).classes(
                "full-width"
            ).props("flat bordered dense")
        else:
            ui.label("Nothing was sent yet. Test sends something now.").classes("quiet")
        ui.button("Close", on_click=dialog.close).props("flat no-caps")
    dialog.on("hide", dialog.delete)
    dialog.open()


def draw(session: Session) -> None:
    """The tab."""
    told: dict[str, Json] = {}
    table: NamedTable

    async def rows() -> list[dict[str, str]]:
        found = await calls.rules(session.client)
        told.clear()
        told.update({each["name"]: each for each in found})
        return [decide.row(each) for each in found]

    def edit(form: AlertForm) -> None:
        async def saved() -> None:
            await table.refresh()
            if form.secret:
                _tell_secret(form.secret)

        open_form(form, saved)

    def make() -> None:
        edit(AlertForm(session, list(told)))

    def change(name: str) -> None:
        edit(AlertForm(session, [], told[name]))

    async def test(name: str) -> None:
        await calls.send_test(session.client, name)
        ui.notify(f"a test is on its way to the address of {name}", type="info")

    async def remove(name: str) -> None:
        await calls.delete_rule(session.client, name)

    actions: list[Action] = [("list_alt", "Deliveries", lambda name: _deliveries(session, name))]
    if session.right.can_write:
        ui.button("New alert rule", icon="add", on_click=make).props("no-caps outline")
        actions += [("send", "Test", test), ("edit", "Change", change)]
    if session.right.can_delete:
        removal = ("delete", "Remove", lambda name: table.remove("alert rule", name, remove))
        actions.append(removal)
    table = NamedTable(
        COLUMNS,
        rows,
        empty="There is no alert rule. One sends events to an address of yours: a deployment that "
        "failed, an error budget that burns. The administrator lists the addresses that alerts "
        "may go to in the setting alert_urls.",
        actions=actions,
        numbers=("delivered", "waiting", "given_up"),
    )
