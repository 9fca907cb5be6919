"""Operations, Audit: who has changed what."""

from __future__ import annotations

from nicegui import ui

from headgate.portal import core
from headgate.portal.pages import history
from headgate.portal.sessions import Session

COLUMNS = history.Columns(
    (("time", "Time (UTC)"), ("by", "Who"), ("what", "What"), ("where", "Where"),
     ("status", "Status"), ("address", "From")),
    core.audit_row,
)  # fmt: skip


def draw(session: Session) -> None:
    """The tab."""
    ui.label("Every request that changed something or read a key, and whoever tried.").classes(
        "quiet wrap"
    )
    history.draw(session, filter="audit", since="24h", columns=COLUMNS)
