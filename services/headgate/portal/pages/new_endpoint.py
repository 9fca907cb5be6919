"""The dialog that makes an endpoint, online or batch: by form, or from pasted YAML."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from nicegui import ui

from headgate.azure.yaml_files import YamlFile, YamlFileError
from headgate.client.api import Started
from headgate.portal import core
from headgate.portal.pages.dialogs import foot, framed
from headgate.portal.pages.frame import editor, finish, guarded
from headgate.portal.sessions import Session
from headgate_contracts import limits
from headgate_contracts.batch import BatchEndpointSpec
from headgate_contracts.resources import AuthMode, EndpointSpec

S = TypeVar("S", EndpointSpec, BatchEndpointSpec)


@dataclass(frozen=True, slots=True)
class Kind(Generic[S]):
    """What is peculiar to online endpoints, or to batch endpoints."""

    title: str
    modes: tuple[str, ...]
    made: Callable[[str, str, str], S]
    read: Callable[[YamlFile], S]
    create: Callable[[Session, S], Awaitable[Started]]
    address: str


ONLINE = Kind(
    "online endpoint",
    tuple(mode.value for mode in AuthMode),
    lambda name, mode, about: EndpointSpec(name=name, auth_mode=AuthMode(mode), description=about),
    YamlFile.endpoint,
    lambda session, spec: session.client.create_endpoint(spec),
    "/endpoints",
)
BATCH = Kind(
    "batch endpoint",
    ("aad_token",),
    lambda name, _, about: BatchEndpointSpec(name=name, description=about),
    YamlFile.batch_endpoint,
    lambda session, spec: session.client.put_batch_endpoint(spec),
    "/batch",
)


def ask(session: Session, kind: Kind[S]) -> None:
    """Open the dialog."""
    with framed(f"New {kind.title}") as dialog:
        with ui.tabs().props("dense no-caps align=left") as tabs:
            form, yaml = ui.tab("Form"), ui.tab("YAML")
        with ui.tab_panels(tabs, value=form).classes("full-width"):
            with ui.tab_panel(form):
                _form(session, kind, dialog)
            with ui.tab_panel(yaml):
                _yaml(session, kind, dialog)


def _form(session: Session, kind: Kind[S], dialog: ui.dialog) -> None:
    name = ui.input("Name", validation={limits.NAME_RULE: core.is_name})
    name.props("autofocus").classes("full-width")
    mode = ui.select(list(kind.modes), value=kind.modes[0], label="Opened by")
    mode.classes("full-width").set_visibility(len(kind.modes) > 1)
    about = ui.input("Description").classes("full-width")

    async def create() -> None:
        if name.validate():
            made = kind.made(name.value.strip(), str(mode.value), about.value or "")
            await _create(session, kind, made)
            dialog.close()

    _create_button(dialog, "Create", create)


def _yaml(session: Session, kind: Kind[S], dialog: ui.dialog) -> None:
    draft = f"name: my-endpoint\nauth_mode: {kind.modes[0]}\n"
    text = editor(draft, "YAML", "YAML of the endpoint", "14rem")
    problems = ui.label().classes("text-negative wrap mono").props("role=status")

    def check() -> S | None:
        try:
            spec = kind.read(YamlFile.of_text(text.value.encode(), Path("endpoint.yml")))
        except YamlFileError as error:
            problems.set_text("\n".join(map(str, error.problems)))
            return None
        problems.set_text("")
        return spec

    text.on_value_change(lambda: check())

    async def create() -> None:
        if spec := check():
            await _create(session, kind, spec)
            dialog.close()

    _create_button(dialog, "Create from YAML", create)


def _create_button(dialog: ui.dialog, word: str, create: Callable[[], Awaitable[None]]) -> None:
    with foot():
        ui.button("Cancel", on_click=dialog.close).props("flat no-caps")
        ui.button(word, on_click=guarded(create)).props("no-caps")


async def _create(session: Session, kind: Kind[S], spec: S) -> None:
    started = await kind.create(session, spec)
    await finish(session, started, f"creating {kind.title} {spec.name}")
    ui.navigate.to(f"{kind.address}/{spec.name}")
