"""Operations: quotas, service levels with their error budgets, and who has changed what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from headgate.client import quotas, sla
from headgate.portal import governance_core
from headgate.portal.pages import history
from headgate.portal.pages.frame import later
from headgate.portal.sessions import Session
from headgate_contracts.errors import HeadgateError

REFRESH_S = 10.0
Rows = list[dict[str, str]]
_QUOTAS = (
    ("name", "Quota"), ("kind", "Kind"), ("of", "Of"), ("used", "Used"), ("limit", "Limit"),
    ("window", "Window"),
)  # fmt: skip
_LEVELS = (
    ("name", "Endpoint"), ("target", "Objective"), ("hour", "Last hour"), ("burn", "Burn rate"),
    ("left", "Budget left"), ("latency", "Latency budget left"), ("alerts", "Alerts"),
)  # fmt: skip
AUDIT = history.Columns(
    (("time", "Time"), ("by", "Who"), ("what", "What"), ("where", "Where"), ("status", "Status"),
     ("address", "From")),
    governance_core.audit_row,
)  # fmt: skip


def draw_quotas(session: Session) -> None:
    async def rows() -> Rows:
        return [governance_core.quota_row(each) for each in await quotas.all_quotas(session.client)]

    _table(
        _QUOTAS, rows, "There is no quota: headgate quota set -n cores --kind instances --limit 24."
    )


def draw_levels(session: Session) -> None:
    async def rows() -> Rows:
        return [governance_core.level_row(each) for each in await sla.all_slas(session.client)]

    _table(_LEVELS, rows, "There is no endpoint that could keep an objective.")


def draw_audit(session: Session) -> None:
    ui.label("Every request that changed something or read a key, and whoever tried.").classes(
        "quiet wrap"
    )
    history.draw(session, filter="audit", since="24h", columns=AUDIT)


def _table(
    titles: tuple[tuple[str, str], ...], ask: Callable[[], Awaitable[Rows]], hint: str
) -> None:
    empty = ui.label(hint).classes("lane quiet wrap")
    empty.set_visibility(False)
    columns: list[dict[str, Any]] = [
        {"name": k, "label": t, "field": k, "align": "left", "sortable": True} for k, t in titles
    ]
    table = ui.table(columns=columns, rows=[], row_key="name", pagination=25)
    table.classes("full-width").props("flat bordered dense")

    async def refresh() -> None:
        try:
            rows = await ask()
        except HeadgateError:
            return
        empty.set_visibility(not rows)
        table.set_visibility(bool(rows))
        if rows != table.rows:
            table.rows = rows

    later(refresh())
    ui.timer(REFRESH_S, refresh)
