"""Dialogs: the frame of all of them, the question before something is lost, and forms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nicegui import ui
from nicegui.elements.mixins.validation_element import ValidationElement
from nicegui.elements.mixins.value_element import ValueElement

from headgate.portal.pages.frame import guarded, heading
from headgate_contracts.errors import HeadgateError

Fields = dict[str, ValueElement[Any]]
FORM, WIDE = "32rem", "60rem"


@contextmanager
def framed(title: str, *, width: str = FORM, look: str = "text-h6") -> Iterator[ui.dialog]:
    """A dialog with its title; it opens when the block ends, and is gone when it is closed.

    It hangs on the page and not on what was pressed: a row or a menu may go while it is open.
    """
    with (
        ui.context.client.content,
        ui.dialog() as dialog,
        ui.card().style(f"width: min({width}, 92vw); max-width: none"),
    ):
        dialog.props["aria-label"] = title
        dialog.on("hide", dialog.delete)
        heading(title, look=look)
        yield dialog
    dialog.open()


@contextmanager
def foot() -> Iterator[None]:
    """The row of buttons at a dialog's end."""
    with ui.row().classes("justify-end full-width"):
        yield


def confirm(question: str, word: str, action: Callable[[], Awaitable[None]]) -> None:
    """Ask before something is lost."""
    page = ui.context.client.content
    with framed(question, look="text-body1") as dialog, foot():

        async def go() -> None:
            dialog.close()
            with page:  # what is told then outlives the dialog
                await guarded(action)()

        ui.button("Cancel", on_click=dialog.close).props("flat no-caps autofocus")
        ui.button(word, on_click=go, color="negative").props("no-caps")


class Form(ABC):
    """What is asked for in a dialog, under names that problems have too."""

    word = "Save"
    fields: Fields

    def __init__(self, title: str) -> None:
        self.title = title

    def asked(self) -> dict[str, Any]:
        """What stands in the fields; texts without what surrounds them."""
        return {name: _told(field) for name, field in self.fields.items()}

    @abstractmethod
    def draw(self) -> Fields:
        """Draw the fields."""

    @abstractmethod
    def problems(self) -> Mapping[str, str]:
        """What is wrong, by field."""

    @abstractmethod
    def meaning(self) -> str:
        """What saving would do, in words; asked for while nothing is wrong."""

    @abstractmethod
    async def save(self) -> None:
        """Raises HeadgateError; the dialog stays open then."""


def _told(field: ValueElement[Any]) -> Any:
    if isinstance(field, ui.input):
        return (field.value or "").strip()
    return field.value


class NamedForm(Form):
    """Makes something with a name that nothing else has, or changes all of it but that."""

    def __init__(self, what: str, given: Mapping[str, Any] | None, others: Iterable[str]) -> None:
        """``given``: what the fields hold of the one that is changed; None: it is a new one."""
        self.is_new = given is None
        self.given = given or {}
        self.taken = list(others) if self.is_new else []
        name = self.given.get("name", "")
        super().__init__(f"New {what}" if self.is_new else f"{what.capitalize()} {name}")

    def name_field(self) -> ui.input:
        made = ui.input("Name", value=self.given.get("name", ""))
        made.set_visibility(self.is_new)
        return made


def open_form(form: Form, saved: Callable[[], Awaitable[None]] | None = None) -> None:
    """Show the form until it is saved or given up. What is wrong stands at its field, what saving
    would mean below them."""
    page = ui.context.client.content
    with framed(form.title) as dialog:
        form.fields = fields = form.draw()
        next(each for each in fields.values() if each.visible).props("autofocus")
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
            if saved is not None:
                with page:  # what is shown then outlives the dialog
                    await saved()

        with foot():
            ui.button("Cancel", on_click=dialog.close).props("flat no-caps")
            ui.button(form.word, on_click=save).props("no-caps")
        _listen(fields, changed, save)
        look()


def _listen(
    fields: Fields, changed: Callable[[str], None], save: Callable[[], Awaitable[None]]
) -> None:
    for name, field in fields.items():
        field.classes("full-width")
        if isinstance(field, ValidationElement):
            field.without_auto_validation()  # it would take away what is said by the form
        field.on_value_change(lambda _, name=name: changed(name))
        if isinstance(field, ui.input | ui.number) and not isinstance(field, ui.textarea):
            field.on("keydown.enter", save)  # elsewhere Enter chooses an option, or ends a line
