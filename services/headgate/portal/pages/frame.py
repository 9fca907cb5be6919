"""What all pages share: header, navigation, errors, waiting for operations."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import Request
from nicegui import Client, background_tasks, ui
from pydantic import ValidationError

from headgate.client.api import Found, Started
from headgate.portal.attention import every, is_read, take_back
from headgate.portal.gate import PREFIX, session_of
from headgate.portal.pages import scripts, styles
from headgate.portal.sessions import Session, Sessions
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import OperationStatus

NAVIGATION = (
    ("Endpoints", f"{PREFIX}/", "hub"),
    ("Batch", f"{PREFIX}/batch", "dynamic_feed"),
    ("Costs", f"{PREFIX}/costs", "payments"),
    ("Operations", f"{PREFIX}/operations", "monitor_heart"),
)
REFRESH_S = 1.0
POLL_S = 0.4
LEAVE_S = 1.0
STATE_COLORS = {
    "Succeeded": "positive",
    "Failed": "negative",
    "Creating": "info",
    "Updating": "info",
    "Deleting": "warning",
    "Canceled": "warning",
}
GREY = {"color": "#888"}  # of charts: it can be read on light and on dark


@dataclass(frozen=True, slots=True)
class Studio:
    """What pages are registered with."""

    sessions: Sessions
    scoring_ca: str

    def session(self, request: Request) -> Session:
        """Whose page this is; the gate has let nobody else in."""
        session = session_of(request.headers, self.sessions)
        if session is None:
            raise HeadgateError(ErrorCode.UNAUTHORIZED, "sign in again")
        return session


@contextmanager
def page(session: Session, title: str, *, back: tuple[str, str] | None = None) -> Iterator[None]:
    """Everything around the content of one page; what the gateway refuses stands in its place."""
    ui.add_css(styles.ALL)
    ui.page_title(f"{title} · Headgate")
    ui.colors(
        primary="#1a56a8", positive="#19692c", info="#0b5c7d", warning="#7a4b00", negative="#a5110a"
    )
    ui.add_body_html(f"<script>{scripts.ALL}</script>")
    dark = ui.dark_mode(None)
    _open_in(session, ui.context.client)
    with ui.header().classes("mid q-py-xs"):
        ui.link("Skip to the content", "#content").classes("skip")
        ui.link("Headgate", "/").classes("text-h6 text-white q-mr-md")
        with ui.element("nav").props('aria-label="Main"'):
            for name, address, icon in NAVIGATION:
                link = ui.button(name, icon=icon).props(
                    f'flat dense no-caps color=white href="{address}"'
                )
                link.tooltip(name)
        ui.space()
        trouble = ui.label().classes("bg-negative q-px-sm rounded-borders").props("role=status")
        trouble.set_visibility(False)
        ui.label(f"{session.subject} · {session.workspace}").classes("gt-xs")
        toggle = ui.button(icon="contrast", on_click=lambda: dark.toggle())
        toggle.props('flat dense color=white aria-label="Light or dark"')
        with ui.element("form").props(f'method=post action="{PREFIX}/sign-out"'):
            ui.button(icon="logout").props(
                'flat dense color=white type=submit aria-label="Sign out"'
            )
            everywhere = ui.button(icon="devices").tooltip("Sign out everywhere, on all devices")
            everywhere.props(
                'flat dense color=white type=submit aria-label="End all sessions" '
                f'formaction="{PREFIX}/sign-out?everywhere=true"'
            )
    with ui.element("main").classes("page").props("id=content tabindex=-1"):
        with ui.row().classes("mid"):
            if back:
                ui.link(back[0], back[1]).classes("crumb")
                ui.label("/").classes("crumb quiet").props("aria-hidden=true")
            heading(title, level=1, look="text-h5").props("tabindex=-1")
        try:
            yield
        except HeadgateError as error:
            ui.label(error.error.message).classes("lane wrap").props("role=alert")

    def refresh() -> None:
        text = session.watch.view.trouble
        trouble.set_text(text[:160])
        trouble.set_visibility(bool(text))

    every(REFRESH_S, refresh)


def _open_in(session: Session, client: Client) -> None:
    """The page belongs to its session: it does not outlive it."""

    async def leave() -> None:
        client.run_javascript("location.reload()")
        await asyncio.sleep(LEAVE_S)
        if not client.is_deleted:
            client.delete()

    def forget() -> None:
        session.pages.pop(client.id, None)
        session.watch.end(client.id)

    def end() -> None:
        background_tasks.create(leave())

    session.pages[client.id] = end
    session.watch.begin(client.id, partial(is_read, client))
    client.on_connect(take_back)
    client.on_delete(forget)


def heading(text: str, *, level: int = 2, look: str = "text-h6") -> ui.element:
    made = ui.element(f"h{level}").classes(f"{look} q-ma-none")
    made._text = text
    return made


def empty(title: str, text: str) -> ui.column:
    """What stands in the place of things that are not there yet, and says what to do next."""
    with ui.column().classes("lane mid close q-pa-lg") as place:
        ui.label(title).classes("text-h6")
        ui.label(text).classes("quiet wrap")
    return place


def tabbed(panels: Mapping[str, Callable[[], object]], first: str = "") -> None:
    """Tabs by title, one of them open. What is in a tab is drawn when it is opened for the first
    time and stays from then on: a tab that nobody opens asks for nothing and follows nothing."""
    waiting = dict(panels)
    first = first or next(iter(panels))
    with ui.tabs().props("dense no-caps align=left outside-arrows mobile-arrows") as tabs:
        made = {title: ui.tab(title) for title in panels}
    with ui.tab_panels(tabs, value=made[first], keep_alive=False).classes("full-width"):
        places = {title: ui.tab_panel(tab) for title, tab in made.items()}

    def draw(title: str) -> None:
        if (drawing := waiting.pop(title, None)) is not None:
            with places[title]:
                drawing()

    draw(first)
    tabs.on_value_change(lambda event: draw(str(event.value)))


def editor(text: str, language: Any, label: str, height: str) -> ui.codemirror:
    """A code editor that says what it holds. Its key Tab indents, unless Escape was before."""
    made = ui.codemirror(text, language=language, line_wrapping=True, theme="vscodeLight")
    return (
        made.classes("full-width")
        .style(f"height: {height}")
        .props(f'data-label="{label}; Escape, then Tab leaves it"')
    )


class Code:
    """Text for another program, shown as it is, with a button that copies it.

    The library's own element takes its content for Markdown, and a fence in it ends the code.
    """

    def __init__(self, label: str) -> None:
        self._text = ""
        with ui.row().classes("full-width mid no-wrap lane"):
            self._shown = ui.label().classes("mono wrap col")
            copy = ui.button(icon="content_copy", on_click=lambda: ui.clipboard.write(self._text))
            copy.props(f'flat dense aria-label="Copy: {label}"')

    def set_content(self, text: str) -> None:
        self._text = text
        self._shown.set_text(text)


def link_cell(address: str) -> str:
    """The template of a table's cell that leads to the page of what it names."""
    return (
        '<q-td :props="props"><a v-if="props.value" '
        f""":href="'{address}' + encodeURIComponent(props.value)">"""
        "{{ props.value }}</a></q-td>"
    )


def scoring_address(found: Found[Any]) -> None:
    """Where an endpoint is asked, to be copied."""
    uri = str(found.properties.get("scoringUri", ""))
    with ui.row().classes("mid no-wrap"):
        ui.label(uri).classes("mono wrap")
        ui.button(icon="content_copy", on_click=lambda: ui.clipboard.write(uri)).props(
            'flat dense aria-label="Copy the scoring address"'
        )


def state_color(state: str) -> str:
    return STATE_COLORS.get(state, "grey-7")


def state_badge(state: str) -> ui.badge:
    return ui.badge(state, color=state_color(state)).classes("q-px-sm q-py-xs")


def bad_form(error: ValidationError) -> HeadgateError:
    """What a form has wrong, with the name of the field."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    return HeadgateError(ErrorCode.BAD_ARGUMENT, f"{field}: {first['msg']}", target=field)


def tell(error: HeadgateError) -> None:
    """An error of the gateway, in its own words."""
    ui.notify(
        f"{error.error.code}: {error.error.message}",
        type="negative",
        multi_line=True,
        timeout=12_000,
        actions=[{"label": "Close", "color": "white"}],
    )


def guarded(action: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[None]]:
    """An event handler whose refusals are shown and end nothing; so are values that cannot be."""

    async def handler(*arguments: Any) -> None:
        try:
            await action(*arguments)
        except HeadgateError as error:
            tell(error)
        except ValidationError as error:
            tell(bad_form(error))

    return handler


async def finish(session: Session, started: Started, text: str) -> None:
    """Wait for an operation, with a word about it; raises HeadgateError when it fails."""
    note = ui.notification(text, spinner=True, timeout=None)
    try:
        while started.url:
            progress = await session.client.look_at(started)
            if progress.error is not None:
                raise HeadgateError.of(progress.error)
            if progress.status is not OperationStatus.IN_PROGRESS:
                break
            await asyncio.sleep(POLL_S)
    finally:
        note.dismiss()
        session.watch.hurry()
    ui.notify(f"{text}: done", type="positive")


def later(action: Awaitable[None]) -> None:
    """Fill the page after it has been delivered."""
    background_tasks.create(action, context=ui.context.client)
