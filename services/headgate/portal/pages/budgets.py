"""Costs, Budgets: how much is spent of what may be, and the form that makes or changes one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from functools import partial

from nicegui import ui

from headgate.azure.arm_fields import Json
from headgate.client import costs as calls
from headgate.portal import budget_core as decide
from headgate.portal.pages.dialogs import Fields, NamedForm, open_form
from headgate.portal.pages.frame import heading
from headgate.portal.pages.tables import NamedTable
from headgate.portal.sessions import Session
from headgate_contracts.errors import HeadgateError
from headgate_contracts.metering import Grain

COLUMNS = (
    ("name", "Budget"), ("of", "Of"), ("spent", "Spent"), ("share", "Share"), ("amount", "Amount"),
    ("grain", "Per"), ("until", "Ends (UTC)"), ("alerted", "Told at"),
)  # fmt: skip
CURRENCY_S = 60.0
_WORKSPACE, _ALL = "the whole workspace", "all of its deployments"


class BudgetForm(NamedForm):
    """One budget; ``told`` is the one that is changed, as the gateway told it."""

    def __init__(
        self,
        session: Session,
        others: Mapping[str, Json],
        currency: str,
        told: Json | None = None,
    ) -> None:
        super().__init__("budget", decide.read(told) if told else None, others)
        self._session = session
        self._currency = currency

    def draw(self) -> Fields:
        given = self.given
        fields: Fields = {
            "name": self.name_field(),
            "amount": ui.number("Amount", value=given.get("amount"), min=0),
            "grain": ui.select(decide.GRAINS, value=given.get("grain", Grain.MONTH), label="Per"),
            "thresholds": ui.input(
                "Tell at so many per cent", value=given.get("thresholds", decide.THRESHOLDS)
            ),
            "endpoint": (endpoint := ui.select([""], value="", label="Of the endpoint")),
            "deployment": (deployment := ui.select([""], value="", label="Of the deployment")),
            "tag": ui.input("With the tag (empty: any)", value=given.get("tag", "")),
        }
        self._endpoint, self._deployment = endpoint, deployment
        known = [each.spec.name for each in self._session.watch.view.endpoints]
        _offer(endpoint, _WORKSPACE, known, given.get("endpoint", ""))
        self._fit()
        endpoint.on_value_change(self._fit)
        return fields

    def _fit(self) -> None:
        """A deployment is one of the endpoint's. What is stored can be kept when it is gone."""
        endpoint = str(self._endpoint.value or "")
        found = self._session.watch.view.deployments.get(endpoint, [])
        stored = self.given.get("deployment", "")
        kept = stored if endpoint == self.given.get("endpoint", "") else ""
        _offer(self._deployment, _ALL, (each.spec.name for each in found), kept)
        self._deployment.set_visibility(bool(endpoint))

    def problems(self) -> Mapping[str, str]:
        return decide.problems(self.asked(), self.taken)

    def meaning(self) -> str:
        budget = decide.budget_of(self._session.workspace, self.asked())
        return decide.meaning(budget, self._currency)

    async def save(self) -> None:
        budget = decide.budget_of(self._session.workspace, self.asked())
        await calls.put_budget(self._session.client, budget.name, decide.body(budget))
        ui.notify(f"budget {budget.name} saved", type="positive")


def _offer(select: ui.select, nothing: str, names: Iterable[str], value: str) -> None:
    options = {"": nothing, **{name: name for name in sorted({*names, value} - {""})}}
    select.set_options(options, value=value)


def draw(session: Session) -> None:
    """The part of the page."""
    client = session.client
    table = NamedTable(
        COLUMNS,
        partial(calls.budgets, client),
        decide.row,
        empty="There is no budget. One says when a workspace, an endpoint or what carries a tag "
        "has cost so much in a day, a week or a month.",
        numbers=("spent", "share", "amount"),
    )

    async def edit(told: Json | None = None) -> None:
        currency = ""
        with contextlib.suppress(HeadgateError):
            ask = partial(calls.currency, client)
            currency = await session.watch.answers.get("currency", CURRENCY_S, ask)
        open_form(BudgetForm(session, table.told, currency, told), table.refresh)

    with ui.row().classes("full-width mid"):
        heading("Budgets")
        ui.space()
        if session.right.can_write:
            ui.button("New budget", icon="add", on_click=lambda: edit()).props("no-caps outline")
            table.action("edit", "Change", lambda name: edit(table.told[name]))
    if session.right.can_delete:
        table.removal("budget", partial(calls.delete_budget, client))
    table.draw()
