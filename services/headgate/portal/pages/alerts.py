"""Operations, Alerts: who is told of what by webhook, and the form that makes or changes a rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from nicegui import ui

from headgate.azure.arm_fields import Json
from headgate.client import alerts as calls
from headgate.portal import alert_core as decide
from headgate.portal.pages.dialogs import WIDE, Fields, NamedForm, foot, framed, open_form
from headgate.portal.pages.tables import NamedTable, table
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


class AlertForm(NamedForm):
    """One rule; ``told`` is the one that is changed, as the gateway told it."""

    def __init__(self, session: Session, others: Iterable[str], told: Json | None = None) -> None:
        super().__init__("alert rule", decide.read(told) if told else None, others)
        self._session = session
        self.secret = ""
        """Made for a new rule; known once it is saved."""

    def draw(self) -> Fields:
        given, about = self.given, self.given.get("endpoint", "")
        names = [each.spec.name for each in self._session.watch.view.endpoints]
        endpoints = {"": _EVERYTHING, **{name: name for name in [*names, about] if name}}
        return {
            "name": self.name_field(),
            "topics": ui.select(
                decide.TOPICS, value=given.get("topics", []), label="When", multiple=True
            ).props("use-chips"),
            "endpoint": ui.select(endpoints, value=about, label="About"),
            "url": ui.input("Address that gets it", value=given.get("url", "")),
            "secret": ui.input(
                "Secret that signs it (empty: made for you)"
                if self.is_new
                else "New secret (empty: it keeps its own)",
                password=True,
            ).props("autocomplete=new-password"),
            "is_enabled": ui.switch("On", value=given.get("is_enabled", True)),
        }

    def problems(self) -> Mapping[str, str]:
        return decide.problems(self.asked(), self.taken)

    def meaning(self) -> str:
        return decide.meaning(decide.rule_of(self._session.workspace, self.asked()))

    async def save(self) -> None:
        asked = self.asked()
        rule = decide.rule_of(self._session.workspace, asked)
        made = await calls.put_rule(
            self._session.client, rule.name, decide.body(rule, asked["secret"])
        )
        ui.notify(f"alert rule {rule.name} saved", type="positive")
        self.secret = str(made["properties"].get("secret") or "")


def _tell_secret(secret: str) -> None:
    with framed("Secret of the rule") as dialog:
        dialog.props("persistent")
        ui.label("The secret that signs what is sent. It is shown now and never again.")
        ui.label(secret).classes("mono wrap lane")
        with foot():
            ui.button("Copy", on_click=lambda: ui.clipboard.write(secret)).props("flat no-caps")
            ui.button("Close", on_click=dialog.close).props("no-caps")


async def _deliveries(session: Session, name: str) -> None:
    """A dialog with what was sent for a rule and what waits."""
    rows = [decide.delivery_row(each) for each in await calls.deliveries(session.client, name)]
    with framed(f"Deliveries of {name}", width=WIDE) as dialog:
        if rows:
            table(_DELIVERIES, key="id", rows_per_page=10).rows = rows
        else:
            ui.label("Nothing was sent yet. Test sends something now.").classes("quiet")
        with foot():
            ui.button("Close", on_click=dialog.close).props("flat no-caps")


def draw(session: Session) -> None:
    """The tab."""
    client = session.client
    rules = NamedTable(
        COLUMNS,
        partial(calls.rules, client),
        decide.row,
        empty="There is no alert rule. One sends events to an address of yours: a deployment that "
        "failed, an error budget that burns. The administrator lists the addresses that alerts "
        "may go to in the setting alert_urls.",
        numbers=("delivered", "waiting", "given_up"),
    )

    def edit(told: Json | None = None) -> None:
        form = AlertForm(session, rules.told, told)

        async def saved() -> None:
            await rules.refresh()
            if form.secret:
                _tell_secret(form.secret)

        open_form(form, saved)

    async def test(name: str) -> None:
        await calls.send_test(client, name)
        ui.notify(f"a test is on its way to the address of {name}", type="info")

    rules.action("list_alt", "Deliveries", partial(_deliveries, session))
    if session.right.can_write:
        ui.button("New alert rule", icon="add", on_click=lambda: edit()).props("no-caps outline")
        rules.action("send", "Test", test)
        rules.action("edit", "Change", lambda name: edit(rules.told[name]))
    if session.right.can_delete:
        rules.removal("alert rule", partial(calls.delete_rule, client))
    rules.draw()
