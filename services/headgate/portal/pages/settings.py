"""The Settings tab of an endpoint: what it says about itself, changed by form; its end."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from nicegui import ui
from pydantic import ValidationError

from headgate.client.api import Found
from headgate.portal import core
from headgate.portal.pages.dialogs import Fields, Form, confirm, open_form
from headgate.portal.pages.frame import finish, guarded
from headgate.portal.sessions import Session
from headgate_contracts.resources import EndpointSpec

_ACCESS = {
    "enabled": "from everywhere",
    "disabled": "over the bus and from private networks only",
}


class SettingsForm(Form):
    """Description, tags and access of one endpoint."""

    def __init__(self, session: Session, spec: EndpointSpec) -> None:
        super().__init__(f"Settings of {spec.name}")
        self._session = session
        self._spec = spec

    def draw(self) -> Fields:
        spec = self._spec
        return {
            "description": ui.input("Description", value=spec.description),
            "tags": ui.textarea("Tags, one name=value a line", value=core.tag_lines(spec.tags)),
            "public_network_access": ui.select(
                _ACCESS, value=spec.public_network_access, label="Can be scored"
            ),
        }

    def _changed(self, spec: EndpointSpec) -> EndpointSpec:
        asked = self.asked()
        asked["tags"] = core.tags_of(asked["tags"])
        return EndpointSpec.model_validate({**spec.model_dump(), **asked})

    def problems(self) -> Mapping[str, str]:
        try:
            self._changed(self._spec)
        except ValidationError as error:
            return {str(each["loc"][0]): each["msg"] for each in error.errors()}
        except ValueError as error:
            return {"tags": str(error)}
        return {}

    def meaning(self) -> str:
        changed = self._changed(self._spec)
        return f"Can be scored {_ACCESS[changed.public_network_access]}; {len(changed.tags)} tags."

    async def save(self) -> None:
        client = self._session.client
        stored = await client.get_endpoint(self._spec.name)
        started = await client.update_endpoint(self._changed(stored.spec), stored.etag)
        await finish(self._session, started, f"changing {self._spec.name}")


def draw(session: Session, found: Found[EndpointSpec]) -> None:
    """The tab."""
    name = found.spec.name
    place = ui.column().classes("lane")

    async def show() -> None:
        spec = (await session.client.get_endpoint(name)).spec
        place.clear()
        with place:
            _show(spec)

    async def edit() -> None:
        spec = (await session.client.get_endpoint(name)).spec
        open_form(SettingsForm(session, spec), show)

    async def delete() -> None:
        started = await session.client.delete_endpoint(name)
        await finish(session, started, f"deleting endpoint {name}")
        ui.navigate.to("/")

    with place:
        _show(found.spec)
    with ui.row():
        if session.right.can_write:
            ui.button("Change settings", icon="edit", on_click=guarded(edit)).props(
                "no-caps outline"
            )
        if session.right.can_delete:
            question = (
                f"Delete the endpoint {name!r} with all of its deployments? Its address stops "
                "working."
            )
            ui.button(
                "Delete endpoint",
                icon="delete",
                on_click=partial(confirm, question, "Delete", delete),
                color="negative",
            ).props("no-caps outline")


def _show(spec: EndpointSpec) -> None:
    rows = (
        ("Opened by", spec.auth_mode.value),
        ("Description", spec.description),
        ("Tags", ", ".join(f"{k}={v}" for k, v in spec.tags.items())),
        ("Can be scored", _ACCESS[spec.public_network_access]),
    )
    for title, text in rows:
        with ui.row().classes("no-wrap"):
            ui.label(title).classes("quiet").style("width: 9rem")
            ui.label(text or core.UNKNOWN).classes("wrap")
