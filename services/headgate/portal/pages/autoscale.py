"""The Autoscale tab: the setting of each deployment by form or YAML, its week, what it would make
of the last day, and what was decided and why."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import yaml
from nicegui import ui

from headgate.azure import arm_autoscale, yaml_nodes
from headgate.client.autoscale import Autoscale
from headgate.portal import autoscale_core, core
from headgate.portal.attention import every
from headgate.portal.pages.autoscale_form import Form
from headgate.portal.pages.autoscale_trial import Trial
from headgate.portal.pages.dialogs import confirm
from headgate.portal.pages.frame import editor, guarded, heading
from headgate.portal.pages.tables import table
from headgate.portal.sessions import Session
from headgate_contracts.autoscale import AutoscaleSpec
from headgate_contracts.errors import ErrorCode, HeadgateError

DECISIONS_S = 3.0
_SINCE = "24h"
_NOTHING = "*"  # instead of the ETag of a setting
_ROWS_MAX = 100
_COLUMNS = (
    ("timestamp", "Time (UTC)"), ("deployment", "Deployment"), ("action", "Action"),
    ("counts", "Instances"), ("message", "Why"),
)  # fmt: skip


def read_setting(text: str, workspace: str) -> AutoscaleSpec:
    """The setting that somebody has typed. Raises HeadgateError."""
    try:
        yaml_nodes.read(text.encode(), "the setting")  # so it is small, also with aliases followed
        body: Any = json.loads(json.dumps(yaml.safe_load(text), default=str))
    except (yaml_nodes.YamlTextError, yaml.YAMLError) as error:
        raise HeadgateError(ErrorCode.BAD_ARGUMENT, f"this is not YAML: {error}") from None
    if not isinstance(body, dict):
        raise HeadgateError(ErrorCode.BAD_ARGUMENT, "a mapping of fields is expected")
    return arm_autoscale.setting_spec(str(body.get("name", "")), body, workspace)[1]


class Setting:
    """The setting of the chosen deployment. The YAML is what counts; the form changes it."""

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
        with ui.tabs().props("dense no-caps align=left") as tabs:
            form, text = ui.tab("Form"), ui.tab("YAML")
        with ui.tab_panels(tabs, value=form).classes("full-width"):
            with ui.tab_panel(form):
                self._form = Form(self._edited, can_write=session.right.can_write)
            with ui.tab_panel(text):
                self._text = editor("", "YAML", "Autoscale setting", "22rem")
        self._problem = ui.label().classes("text-negative wrap mono").props("role=alert")
        self._removal: ui.button | None = None
        if session.right.can_write:
            ask = partial(confirm, "Delete this autoscale setting?", "Delete", self._delete)
            with ui.row():
                ui.button("Save", on_click=guarded(self._save)).props("no-caps")
                self._removal = ui.button("Delete", on_click=ask)
                self._removal.props("flat no-caps color=negative")
        self._trial = Trial(session, endpoint, self._read)
        self._deployment.on_value_change(guarded(self._load))
        tabs.on_value_change(guarded(self._redraw))
        ui.timer(0.05, guarded(self._load), once=True)

    async def _load(self, *_: object) -> None:
        deployment = str(self._deployment.value)
        try:
            found = await self._autoscale.of(self._endpoint, deployment)
        except HeadgateError as error:
            if error.error.code is not ErrorCode.RESOURCE_NOT_FOUND:
                raise
            spec = autoscale_core.template(self._endpoint, deployment)
            self._etag = _NOTHING
            self._state.set_text("no setting yet; a draft")
        else:
            spec, self._etag = found.spec, found.etag
            self._state.set_text("in force" if spec.enabled else "disabled")
        if self._removal is not None:
            self._removal.set_visibility(self._etag != _NOTHING)
        self._write(spec)
        await self._redraw()

    def _write(self, spec: AutoscaleSpec) -> None:
        body = arm_autoscale.setting_body(spec, self._session.client.context)
        self._text.set_value(yaml.safe_dump({"name": spec.name, **body}, sort_keys=False))
        self._problem.set_text("")

    async def _edited(self, spec: AutoscaleSpec) -> None:
        """The form has changed the setting."""
        self._write(spec)
        await self._trial.show_week()
        self._form.keep(spec)

    async def _redraw(self) -> None:
        """The YAML may have changed it."""
        try:
            self._form.show(self._read())
        except HeadgateError as error:
            self._tell(error)
            return
        await self._trial.show_week()

    def _read(self) -> AutoscaleSpec:
        return read_setting(self._text.value or "", self._session.workspace)

    def _tell(self, error: HeadgateError) -> None:
        where = f"{error.error.target}: " if error.error.target else ""
        self._problem.set_text(f"{where}{error.error.message}")

    async def _save(self) -> None:
        try:
            await self._autoscale.put(self._read(), self._etag)
        except HeadgateError as error:
            self._tell(error)
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
    heading("Decisions of the last day")
    decisions = table(_COLUMNS, key="key", rows_per_page=10)
    decisions.props('no-data-label="No decision so far."')
    autoscale = Autoscale(session.client)

    async def refresh() -> None:
        try:
            decided = await autoscale.decisions(endpoint, "", _SINCE, _ROWS_MAX)
        except HeadgateError:
            return
        rows = [core.decision_row(each) for each in decided]
        if rows != decisions.rows:
            decisions.rows = rows

    every(DECISIONS_S, refresh)
