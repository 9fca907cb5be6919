"""Tables of things that have a name, with what can be done with each of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from types import MappingProxyType

from nicegui import events, ui

from headgate.azure.arm_fields import Json
from headgate.portal.attention import every
from headgate.portal.pages.dialogs import confirm
from headgate.portal.pages.frame import guarded
from headgate_contracts.errors import HeadgateError

REFRESH_S = 10.0
Act = Callable[[str], object]
_ACTIONS = "actions"


def table(
    titles: Sequence[tuple[str, str]],
    *,
    key: str = "name",
    numbers: Collection[str] = (),
    rows_per_page: int = 25,
    is_sortable: bool = False,
    styles: Mapping[str, str] = MappingProxyType({}),
) -> ui.table:
    """A table, empty so far. ``titles``: field and heading; ``numbers`` stand at the right."""
    columns = [
        {
            "name": field,
            "label": title,
            "field": field,
            "align": "right" if field in numbers else "left",
            "sortable": is_sortable,
            "style": "white-space: nowrap" if title.endswith("(UTC)") else styles.get(field, ""),
        }
        for field, title in titles
    ]
    made = ui.table(columns=columns, rows=[], row_key=key, pagination=rows_per_page)
    return made.classes("full-width").props("flat bordered dense")


class NamedTable:
    """Things with a name that are asked for again and again; an action is told the name."""

    def __init__(
        self,
        titles: Sequence[tuple[str, str]],
        ask: Callable[[], Awaitable[list[Json]]],
        row: Callable[[Json], dict[str, str]],
        *,
        empty: str,
        numbers: Sequence[str] = (),
        every_s: float = REFRESH_S,
    ) -> None:
        """``titles``: column and heading; ``row`` makes the cells, of which one is ``name``."""
        self._titles = titles
        self._ask = ask
        self._row = row
        self._nothing = empty
        self._numbers = numbers
        self._every_s = every_s
        self._cells: dict[str, str] = {}
        self._actions: list[tuple[str, str, Act]] = []
        self.told: dict[str, Json] = {}
        """What was heard last, by name."""

    def cell(self, column: str, template: str) -> None:
        """Draw a column's cells so; before the table is drawn."""
        self._cells[column] = template

    def action(self, icon: str, label: str, act: Act) -> None:
        """Offer it in every row; before the table is drawn."""
        self._actions.append((icon, label, act))

    def removal(self, what: str, call: Callable[[str], Awaitable[object]]) -> None:
        """Offer to remove what is in a row."""

        def ask(name: str) -> None:
            async def remove() -> None:
                await call(name)
                ui.notify(f"{what} {name} removed", type="positive")
                await self.refresh()

            confirm(f"Remove the {what} {name!r}?", "Remove", remove)

        self.action("delete", "Remove", ask)

    def draw(self) -> None:
        self._empty = ui.label(self._nothing).classes("lane quiet wrap full-width")
        self._empty.set_visibility(False)
        self._table = table(self._titles, numbers=self._numbers, is_sortable=True)
        if self._actions:
            self._table.columns.append(
                {"name": _ACTIONS, "label": "", "field": "name", "align": "right"}
            )
            self.cell(_ACTIONS, _buttons(self._actions))
        self._table.set_visibility(False)
        for column, template in self._cells.items():
            self._table.add_slot(f"body-cell-{column}", template)
        for number, (_, _, act) in enumerate(self._actions):
            self._table.on(f"act{number}", _told(act))
        every(self._every_s, self.refresh)

    async def refresh(self) -> None:
        """Ask now; what nobody answers leaves the rows as they are."""
        try:
            found = await self._ask()
        except HeadgateError:
            return
        rows = [self._row(each) for each in found]
        self.told = {row["name"]: each for row, each in zip(rows, found, strict=True)}
        self._empty.set_visibility(not rows)
        self._table.set_visibility(bool(rows))
        if rows != self._table.rows:
            self._table.rows = rows


def _buttons(actions: Sequence[tuple[str, str, Act]]) -> str:
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
