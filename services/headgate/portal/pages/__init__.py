"""All pages of the studio, by address."""

from __future__ import annotations

from headgate.portal.pages import (
    batch,
    batch_deploy,
    batch_endpoint,
    costs,
    deploy,
    endpoint,
    endpoints,
    job,
    operations,
)
from headgate.portal.pages.frame import Studio
from headgate.portal.sessions import Sessions


def register(sessions: Sessions, *, scoring_ca: str) -> None:
    """Tell the page library which function draws which address."""
    studio = Studio(sessions, scoring_ca)
    for part in (
        endpoints, endpoint, deploy, batch, batch_endpoint, batch_deploy, job, costs, operations,
    ):  # fmt: skip
        part.register(studio)
