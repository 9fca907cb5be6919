"""Logs of an endpoint's deployments, as they come."""

from __future__ import annotations

from functools import partial

from nicegui import ui

from headgate.portal import core
from headgate.portal.attention import every
from headgate.portal.sessions import Session
from headgate_contracts.errors import HeadgateError

LINES_MAX = 2_000
FIRST_LINES = 200
POLL_S = 1.5
FRESH_S = 0.5  # what another page has just heard is as good
LEVELS = {"": "all", "INFO": "INFO", "WARNING": "WARNING", "ERROR": "ERROR"}
CONTAINERS = {"InferenceServer": "Inference server", "StorageInitializer": "Storage initializer"}


class LogView:
    """One log, followed while the page is open; another choice begins anew."""

    def __init__(self, session: Session, endpoint: str, deployments: list[str]) -> None:
        self._session = session
        self._endpoint = endpoint
        self._cursor = ""
        self._busy = False
        with ui.row().classes("full-width mid"):
            self._deployment = ui.select(
                deployments, value=deployments[0] if deployments else None, label="Deployment"
            ).style("min-width: 10rem")
            self._container = ui.select(CONTAINERS, value="InferenceServer", label="Log")
            self._level = ui.select(LEVELS, value="", label="Level").style("min-width: 9rem")
            self._request_id = ui.input("Request id").props("clearable dense")
            self._contains = ui.input("Contains").props("clearable dense")
            self._follow = ui.switch("Follow", value=True)
        self._log = ui.log(max_lines=LINES_MAX).classes("full-width mono")
        self._log.style("height: 26rem").props('tabindex=0 role=log aria-label="Lines of the log"')
        for each in (
            self._deployment, self._container, self._level, self._request_id, self._contains,
        ):  # fmt: skip
            each.on_value_change(self._begin)
        every(POLL_S, self._poll)

    def _begin(self) -> None:
        self._cursor = ""
        self._log.clear()

    async def _poll(self) -> None:
        if self._busy or not self._deployment.value or (self._cursor and not self._follow.value):
            return
        self._busy = True
        ask = partial(
            self._session.client.logs,
            self._endpoint,
            str(self._deployment.value),
            container=str(self._container.value),
            tail=LINES_MAX if self._level.value else FIRST_LINES,
            cursor=self._cursor,
            request_id=self._request_id.value or "",
            contains=self._contains.value or "",
        )
        key = ("logs", *ask.args, *ask.keywords.values())
        try:
            text, self._cursor = await self._session.watch.answers.get(key, FRESH_S, ask)
            if shown := core.at_least(text, str(self._level.value)).rstrip("\n"):
                self._log.push(shown)
        except HeadgateError as error:
            self._log.push(f"error: {error.error.message}")
            self._follow.set_value(False)
        finally:
            self._busy = False
