"""The first page: all online endpoints with what they do now, and making a new one."""

from __future__ import annotations

from pathlib import Path

from fastapi import Request
from nicegui import ui

from headgate.azure.yaml_files import YamlFile, YamlFileError
from headgate.portal import core
from headgate.portal.gate import PREFIX
from headgate.portal.pages.frame import REFRESH_S, Studio, editor, finish, guarded, page
from headgate.portal.sessions import Session
from headgate_contracts import limits
from headgate_contracts.resources import AuthMode, EndpointSpec

_COLUMNS = (
    ("name", "Endpoint", "left"),
    ("state", "State", "left"),
    ("traffic", "Traffic", "left"),
    ("rps", "Requests/s", "right"),
    ("p95", "p95 ms", "right"),
    ("failures", "Errors/s", "right"),
    ("instances", "Ready", "right"),
)
_LINK = f"""
<q-td :props="props"><a :href="'{PREFIX}/endpoints/' + props.value">{{{{ props.value }}}}</a></q-td>
"""


def rows_of(session: Session) -> list[dict[str, str]]:
    """One row for each endpoint, in figures for people."""
    view, rows = session.watch.view, []
    for found in view.endpoints:
        name = found.spec.name
        live = view.latest_of(name)
        p95 = [row.p95_ms for row in live if row.p95_ms is not None and row.requests_per_s]
        deployments = view.deployments.get(name, [])
        ready = sum(int(each.properties.get("readyInstances", 0)) for each in deployments)
        wanted = sum(each.spec.instance_count for each in deployments)
        rows.append(
            {
                "name": name,
                "state": found.state,
                "traffic": ", ".join(f"{k} {v} %" for k, v in found.spec.traffic.items() if v)
                or "none",
                "rps": core.short(sum(row.requests_per_s for row in live)),
                "p95": core.short(max(p95, default=None)),
                "failures": core.short(sum(row.failures_per_s for row in live), 2),
                "instances": f"{ready} of {wanted}",
            }
        )
    return rows


def register(studio: Studio) -> None:
    @ui.page("/")
    async def index(request: Request) -> None:
        session = studio.session(request)
        with page(session, "Online endpoints"):
            with ui.row().classes("full-width mid q-mb-sm"):
                search = ui.input(placeholder="Search").props(
                    'dense outlined clearable aria-label="Search endpoints"'
                )
                ui.space()
                if session.right.can_write:
                    dialog = _new_endpoint(session)
                    ui.button("New endpoint", icon="add", on_click=dialog.open).props("no-caps")
            empty = ui.column().classes("lane mid q-pa-lg")
            with empty:
                ui.label("There is no endpoint yet.").classes("text-h6")
                ui.label(
                    "An endpoint is the stable address that clients score at. Make one, then "
                    "deploy a model to it."
                ).classes("quiet")
            empty.set_visibility(False)
            columns = [
                {"name": key, "label": label, "field": key, "align": align, "sortable": True}
                for key, label, align in _COLUMNS
            ]
            table = ui.table(columns=columns, rows=[], row_key="name", pagination=25)
            table.classes("full-width").props("flat bordered")
            table.add_slot("body-cell-name", _LINK)
            table.bind_filter_from(search, "value")

            def refresh() -> None:
                view = session.watch.view
                rows = rows_of(session)
                empty.set_visibility(view.loaded and not rows)
                table.set_visibility(bool(rows))
                if rows != table.rows:
                    table.rows = rows

            refresh()
            ui.timer(REFRESH_S, refresh)


def _new_endpoint(session: Session) -> ui.dialog:
    """By form, or from the YAML file that the command line takes."""
    with ui.dialog() as dialog, ui.card().style("min-width: min(32rem, 90vw)"):
        ui.label("New online endpoint").classes("text-h6")
        with ui.tabs().classes("full-width") as tabs:
            form, yaml = ui.tab("Form"), ui.tab("YAML")
        with ui.tab_panels(tabs, value=form).classes("full-width"):
            with ui.tab_panel(form):
                name = ui.input("Name", validation={limits.NAME_RULE: core.is_name})
                name.props("autofocus").classes("full-width")
                mode = ui.select([each.value for each in AuthMode], value="key", label="Opened by")
                mode.classes("full-width")
                about = ui.input("Description").classes("full-width")

                async def create() -> None:
                    spec = EndpointSpec(
                        name=name.value.strip(),
                        auth_mode=AuthMode(mode.value),
                        description=about.value or "",
                    )
                    await _create(session, spec)
                    dialog.close()

                ui.button("Create", on_click=guarded(create)).props("no-caps")
            with ui.tab_panel(yaml):
                _yaml_form(session, dialog)
    return dialog


def _yaml_form(session: Session, dialog: ui.dialog) -> None:
    text = editor("name: my-endpoint\nauth_mode: key\n", "YAML", "YAML of the endpoint", "14rem")
    problems = ui.label().classes("text-negative wrap mono").props("role=status")

    def check() -> EndpointSpec | None:
        try:
            spec = YamlFile.of_text(text.value.encode(), Path("endpoint.yml")).endpoint()
        except YamlFileError as error:
            problems.set_text("\n".join(map(str, error.problems)))
            return None
        problems.set_text("")
        return spec

    text.on_value_change(lambda: check())

    async def create() -> None:
        if spec := check():
            await _create(session, spec)
            dialog.close()

    ui.button("Create from YAML", on_click=guarded(create)).props("no-caps")


async def _create(session: Session, spec: EndpointSpec) -> None:
    started = await session.client.create_endpoint(spec)
    await finish(session, started, f"creating endpoint {spec.name}")
    ui.navigate.to(f"/endpoints/{spec.name}")
