"""The Autoscale tab: the setting of each deployment, and what was decided and why."""

from __future__ import annotations

import json
from typing import Any

import yaml
from nicegui import ui

from headgate.azure import arm_autoscale
from headgate.client.autoscale import Autoscale
from headgate.portal import core
from headgate.portal.pages.frame import confirm, editor, guarded
from headgate.portal.sessions import Session
from headgate_contracts.autoscale import (
    AutoscaleSpec,
    Capacity,
    Direction,
    MetricTrigger,
    Operator,
    Profile,
    Rule,
    ScaleAction,
)
from headgate_contracts.errors import ErrorCode, HeadgateError

DECISIONS_S = 3.0
_SINCE = "24h"
_ROWS_MAX = 100
_COLUMNS = (
    ("timestamp", "Time"), ("deployment", "Deployment"), ("action", "Action"),
    ("counts", "Instances"), ("message", "Why"),
)  # fmt: skip


def template(endpoint: str, deployment: str) -> AutoscaleSpec:
    """What a new setting starts from: 1 to 4 instances by processor time."""

    def rule(operator: Operator, threshold: float, direction: Direction) -> Rule:
        return Rule(
            trigger=MetricTrigger(
                metric_name="CpuUtilizationPercentage", operator=operator, threshold=threshold
            ),
            action=ScaleAction(direction=direction),
        )

    return AutoscaleSpec(
        name=f"{endpoint}-{deployment}",
        endpoint=endpoint,
        deployment=deployment,
        profiles=(
            Profile(
                name="default",
                capacity=Capacity(minimum=1, maximum=4, default=1),
                rules=(
                    rule(Operator.GREATER_THAN, 70, Direction.INCREASE),
                    rule(Operator.LESS_THAN, 30, Direction.DECREASE),
                ),
            ),
        ),
    )


class Setting:
    """The setting of the chosen deployment in an editor."""

    def __init__(self, session: Session, endpoint: str, deployments: list[str]) -> None:
        self._session = session
        self._endpoint = endpoint
        self._autoscale = Autoscale(session.client)
        self._etag = ""
        with ui.row().classes("full-width mid"):
            self._deployment = ui.select(
                deployments, value=deployments[0], label="Deployment"
            ).style("min-width: 12rem")
            self._state = ui.label().classes("quiet").props("role=status")
        self._text = editor("", "YAML", "Autoscale setting", "22rem")
        self._problem = ui.label().classes("text-negative wrap mono").props("role=alert")
        if session.right.can_write:
            delete = confirm("Delete this autoscale setting?", "Delete", self._delete)
            with ui.row():
                ui.button("Save", on_click=guarded(self._save)).props("no-caps")
                ui.button("Delete", on_click=delete.open).props("flat no-caps color=negative")
        self._deployment.on_value_change(guarded(self._load))
        ui.timer(0.05, guarded(self._load), once=True)

    async def _load(self, *_: object) -> None:
        deployment = str(self._deployment.value)
        try:
            found = await self._autoscale.of(self._endpoint, deployment)
        except HeadgateError as error:
            if error.error.code is not ErrorCode.RESOURCE_NOT_FOUND:
                raise
            self._show(template(self._endpoint, deployment), "*", "no setting yet; a draft")
        else:
            self._show(found.spec, found.etag, "in force" if found.spec.enabled else "disabled")

    def _show(self, spec: AutoscaleSpec, etag: str, state: str) -> None:
        body = arm_autoscale.setting_body(spec, self._session.client.context)
        self._text.set_value(yaml.safe_dump({"name": spec.name, **body}, sort_keys=False))
        self._etag = etag
        self._state.set_text(state)
        self._problem.set_text("")

    def _read(self) -> AutoscaleSpec:
        try:
            body: Any = json.loads(json.dumps(yaml.safe_load(self._text.value or ""), default=str))
        except yaml.YAMLError as error:
            raise HeadgateError(ErrorCode.BAD_ARGUMENT, f"this is not YAML: {error}") from None
        if not isinstance(body, dict):
            raise HeadgateError(ErrorCode.BAD_ARGUMENT, "a mapping of fields is expected")
        return arm_autoscale.setting_spec(str(body.get("name", "")), body, self._session.workspace)[
            1
        ]

    async def _save(self) -> None:
        try:
            spec = self._read()
            await self._autoscale.put(spec, self._etag)
        except HeadgateError as error:
            where = f"{error.error.target}: " if error.error.target else ""
            self._problem.set_text(f"{where}{error.error.message}")
            return
        ui.notify("saved", type="positive")
        await self._load()

    async def _delete(self) -> None:
        found = await self._autoscale.of(self._endpoint, str(self._deployment.value))
        await self._autoscale.delete(found.spec.name)
        await self._load()


def draw(session: Session, endpoint: str, deployments: list[str]) -> None:
    """The tab of one endpoint."""
    if not deployments:
        ui.label("There is no deployment to scale yet.").classes("lane")
        return
    Setting(session, endpoint, deployments)
    ui.element("h2").classes("text-h6")._text = "Decisions of the last day"
    columns = [{"name": k, "label": t, "field": k, "align": "left"} for k, t in _COLUMNS]
    table = ui.table(columns=columns, rows=[], row_key="key", pagination=10)
    table.classes("full-width").props("flat bordered dense")
    autoscale = Autoscale(session.client)

    async def refresh() -> None:
        try:
            decided = await autoscale.decisions(endpoint, "", _SINCE, _ROWS_MAX)
        except HeadgateError:
            return
        rows = [core.decision_row(each) for each in decided]
        if rows != table.rows:
            table.rows = rows

    ui.timer(DECISIONS_S, refresh, immediate=True)
