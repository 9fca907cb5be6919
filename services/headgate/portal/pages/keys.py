"""Keys and tokens: shown when asked for, replaced on demand."""

from __future__ import annotations

from functools import partial

from nicegui import ui

from headgate.client.access import Access
from headgate.client.api import Found
from headgate.portal.pages.dialogs import confirm
from headgate.portal.pages.frame import finish, guarded
from headgate.portal.sessions import Session
from headgate_contracts.resources import AuthMode, EndpointSpec, KeyType

_HIDDEN = "•" * 24


def draw(session: Session, found: Found[EndpointSpec]) -> None:
    if not session.right.can_see_keys:
        ui.label("Keys are shown to owners of the workspace.").classes("lane")
        return
    if found.spec.auth_mode is not AuthMode.KEY:
        _token(session, found)
        return
    with ui.column().classes(""):
        for kind in KeyType:
            _key(session, found.spec.name, kind)
        ui.label(
            "Two keys let clients change over without a gap: give them the other one, then "
            "replace the first. A replaced key is refused within seconds."
        ).classes("quiet")


def _key(session: Session, endpoint: str, kind: KeyType) -> None:
    async def value() -> str:
        keys = await session.client.keys(endpoint)
        return keys.primary_key if kind is KeyType.PRIMARY else keys.secondary_key

    async def toggle() -> None:
        hidden = shown.text == _HIDDEN
        shown.set_text(await value() if hidden else _HIDDEN)
        reveal.set_text("Hide" if hidden else "Show")

    async def copy() -> None:
        ui.clipboard.write(await value())
        ui.notify(f"{kind.value} key copied")

    async def regenerate() -> None:
        started = await session.client.regenerate_key(endpoint, kind)
        await finish(session, started, f"replacing the {kind.value.lower()} key")
        if shown.text != _HIDDEN:
            shown.set_text(await value())

    question = (
        f"Replace the {kind.value.lower()} key of {endpoint!r}? Clients that use it are refused."
    )
    with ui.row().classes("lane mid").mark(f"key-{kind.value.lower()}"):
        ui.label(kind.value.capitalize()).style("width: 6rem")
        shown = ui.label(_HIDDEN).classes("mono wrap")
        reveal = ui.button("Show", on_click=guarded(toggle)).props("flat dense no-caps")
        ui.button("Copy", on_click=guarded(copy)).props("flat dense no-caps")
        ask = partial(confirm, question, "Replace", regenerate)
        ui.button("Replace", on_click=ask).props("flat dense no-caps color=negative")


def _token(session: Session, found: Found[EndpointSpec]) -> None:
    with ui.column().classes("lane"):
        ui.label(f"Clients of this endpoint show a token ({found.spec.auth_mode.value}).")
        shown = ui.label().classes("mono wrap")

        async def make() -> None:
            credentials = await Access(session.client).credentials(found)
            shown.set_text(str(credentials.get("accessToken", "")))

        ui.button("Get a token", on_click=guarded(make)).props("no-caps")
