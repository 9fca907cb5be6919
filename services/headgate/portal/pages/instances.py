"""Operations, Instances: everything that runs, online instances and nodes of batch jobs."""

from __future__ import annotations

from functools import partial

from nicegui import ui

from headgate.client import overview
from headgate.portal import batch_core
from headgate.portal.attention import every
from headgate.portal.gate import PREFIX
from headgate.portal.pages.frame import REFRESH_S, empty, heading, link_cell
from headgate.portal.pages.tables import NamedTable
from headgate.portal.sessions import Session

NODES_S = 2.0
COLUMNS = (
    ("name", "Node"), ("state", "State"), ("job", "Job"), ("compute", "Compute"),
    ("of", "Deployment"), ("processes", "Processes"), ("since", "Since (UTC)"), ("error", "Error"),
)  # fmt: skip


def draw(session: Session) -> None:
    """The tab."""
    heading("Online instances")
    _online(session)
    heading("Nodes of batch jobs")
    nodes = NamedTable(
        COLUMNS,
        partial(overview.nodes, session.client),
        batch_core.node_row,
        empty="No node is there. Jobs start theirs, and a compute keeps some for the next job: "
        "its min_instances, and those that have been idle for a short time.",
        numbers=("processes",),
        every_s=NODES_S,
    )
    nodes.cell("job", link_cell(f"{PREFIX}/jobs/"))
    nodes.draw()


def _online(session: Session) -> None:
    """A cell for every instance, by endpoint and deployment."""
    place = ui.column().classes("full-width close")
    shown: list[object] = [None]

    def refresh() -> None:
        view = session.watch.view
        now = [
            (name, d.spec.name, d.state, d.spec.instance_count,
             int(d.properties.get("readyInstances", 0)))
            for name, deployments in sorted(view.deployments.items())
            for d in deployments
        ]  # fmt: skip
        if not view.loaded or now == shown[0]:
            return
        shown[0] = now
        place.clear()
        with place:
            if not now:
                empty("No instance runs.", "A deployment of an online endpoint starts some.")
            for endpoint, deployment, state, count, ready in now:
                _lane(endpoint, deployment, state, count, ready)

    every(REFRESH_S, refresh)


def _lane(endpoint: str, deployment: str, state: str, count: int, ready: int) -> None:
    with ui.row().classes("mid full-width"):
        address = f"/endpoints/{endpoint}/deployments/{deployment}"
        ui.link(f"{endpoint} / {deployment}", address).classes("wrap").style("flex: 0 1 18rem")
        with ui.row().classes("tight"):
            for number in range(max(count, ready)):
                is_ready = number < ready
                cell = ui.icon("check_box" if is_ready else "check_box_outline_blank", size="sm")
                cell.props(f"color={'positive' if is_ready else 'grey'} aria-hidden=true")
        ui.label(f"{ready} of {count} ready · {state}").classes("quiet")
