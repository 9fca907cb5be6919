"""Tables of things that have a name, with what can be done with each of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from nicegui import events, ui

from headgate.portal.pages.frame import confirm, guarded, later
from headgate_contracts.errors import HeadgateError

REFRESH_S = 10.0
Rows = list[dict[str, str]]
Act = Callable[[str], object]
Action = tuple[str, str, Act]
_ACTIONS = "actions"


class NamedTable:
    """Rows that are asked for again and again; the action of a row is told its name."""

    def __init__(
        self,
        titles: Sequence[tuple[str, str]],
        ask: Callable[[], Awaitable[Rows]],
        *,
        empty: str,
        actions: Iterable[Action] = (),
        numbers: Sequence[str] = (),
    ) -> None:
        """``titles``: column and heading; ``actions``: icon, label and what it does."""
        self._ask = ask
        self._empty = ui.label(empty).classes("lane quiet wrap full-width")
        self._empty.set_visibility(False)
        actions = tuple(actions)
        columns: list[dict[str, Any]] = [
            {
                "name": key,
                "label": title,
                "field": key,
                "align": "right" if key in numbers else "left",
                "sortable": True,
            }
            for key, title in titles
        ]
        if actions:
            columns.append({"name": _ACTIONS, "label": "", "field": "name", "align": "right"})
        self._table = ui.table(columns=columns, rows=[], row_key="name", pagination=25)
        self._table.classes("full-width").props("flat bordered dense")
        self._table.set_visibility(False)
        if actions:
            self._table.add_slot(f"body-cell-{_ACTIONS}", _buttons(actions))
        for number, (_, _, act) in enumerate(actions):
            self._table.on(f"act{number}", _told(act))
        later(self.refresh())
        ui.timer(REFRESH_S, self.refresh)

    async def refresh(self) -> None:
        """Ask now; what nobody answers leaves the rows as they are."""
        try:
            rows = await self._ask()
        except HeadgateError:
            return
        self._empty.set_visibility(not rows)
        self._table.set_visibility(bool(rows))
        if rows != self._table.rows:
            self._table.rows = rows

    def remove(self, what: str, name: str, call: Callable[[str], Awaitable[None]]) -> None:
        """Ask, remove and say so."""

        async def remove() -> None:
            await call(name)
            ui.notify(f"{what} {name} removed", type="positive")
            await self.refresh()

        confirm(f"Remove the {what} {name!r}?", "Remove", remove).open()


def _buttons(actions: Sequence[Action]) -> str:
    made = "".join(
        f'<q-btn flat dense round size="sm" icon="{icon}" '
        f""":aria-label="'{label} ' + props.row.name" """
        f"""@click="() => $parent.$emit('act{number}', props.row.name)">"""
        f"<q-tooltip>{label}</q-tooltip></q-btn>"
        for number, (icon, label, _) in enumerate(actions)
    )
    return f'<q-td :props="props" auto-width><div class="no-wrap row">{made}</div></q-td>'


def _told(act: Act) -> Callable[[events.GenericEventArguments], Awaitable[None]]:
    async def run(name: str) -> None:
        done = act(name)
        if isinstance(done, Awaitable):
            await done

    async def told(event: events.GenericEventArguments) -> None:
        await guarded(run)(str(event.args))

    return told
