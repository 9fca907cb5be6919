"""Dialogs with a form: what is wrong stands at its field, what saving would mean below them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from nicegui import ui
from nicegui.elements.mixins.validation_element import ValidationElement
from nicegui.elements.mixins.value_element import ValueElement

from headgate_contracts.errors import HeadgateError

Fields = dict[str, ValueElement[Any]]


class Form(Protocol):
    """What a dialog needs to know of its form."""

    title: str

    def draw(self) -> Fields:
        """Draw the fields; each under the name that problems of it have."""

    def problems(self) -> Mapping[str, str]:
        """What is wrong, by field."""

    def meaning(self) -> str:
        """What saving would do, in words; asked for while nothing is wrong."""

    async def save(self) -> None:
        """Raises HeadgateError; the dialog stays open then."""


def open_form(form: Form, saved: Callable[[], Awaitable[None]]) -> None:
    """Show the form in a dialog of its own until it is saved or given up."""
    page = ui.context.slot.parent
    dialog = ui.dialog()
    dialog.props["aria-label"] = form.title
    dialog.on("hide", dialog.delete)
    with dialog, ui.card().style("width: min(32rem, 92vw)"):
        ui.element("h2").classes("text-h6 q-my-none")._text = form.title
        fields = form.draw()
        meaning = ui.label().classes("lane wrap full-width").props("role=status")
        refused = ui.label().classes("text-negative wrap").props("role=alert")
        touched: set[str] = set()

        def look() -> Mapping[str, str]:
            problems = form.problems()
            for name, field in fields.items():
                if isinstance(field, ValidationElement):
                    field.error = problems.get(name) if name in touched else None
            meaning.set_text("" if problems else form.meaning())
            meaning.set_visibility(not problems)
            return problems

        def changed(name: str) -> None:
            touched.add(name)
            refused.set_text("")
            look()

        async def save() -> None:
            touched.update(fields)
            if problems := look():
                first = next((name for name in fields if name in problems), None)
                refused.set_text("" if first else "; ".join(problems.values()))
                if first:
                    fields[first].run_method("focus")
                return
            try:
                await form.save()
            except HeadgateError as error:
                refused.set_text(f"{error.error.code}: {error.error.message}")
                return
            dialog.close()
            with page:  # what is shown then outlives the dialog
                await saved()

        with ui.row().classes("justify-end full-width"):
            ui.button("Cancel", on_click=dialog.close).props("flat no-caps")
            ui.button("Save", on_click=save).props("no-caps")
    for name, field in fields.items():
        if isinstance(field, ValidationElement):
            field.without_auto_validation()  # it would take away what is said here
        field.on_value_change(lambda _, name=name: changed(name))
        if isinstance(field, ui.input | ui.number) and not isinstance(field, ui.textarea):
            field.on("keydown.enter", save)  # elsewhere Enter chooses an option or ends a line
    look()
    dialog.open()
