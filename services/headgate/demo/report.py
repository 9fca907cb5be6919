"""How the demonstration looks: phases, commands, a progress bar, tables and a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from headgate.demo.core import Check, Served
from headgate.demo.observe import Happening


class Report:
    """Writes to one console."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def phase(self, title: str, why: str) -> None:
        """A heading, and one line on what is going to be shown."""
        self.console.print()
        self.console.rule(f"[bold]{title}", align="left", style="dim")
        self.console.print(f"[dim]{why}")

    def did(self, what: str, seconds: float | None = None) -> None:
        """One step that succeeded, with the time it took."""
        took = f"  [dim]{seconds:.1f} s" if seconds is not None else ""
        self.console.print(f"[green]✓[/] {what}{took}", highlight=False)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Callable[[], None]]:
        """A progress bar; call what it yields once for each finished item."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TaskProgressColumn(show_speed=True),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console) as bar:
            task = bar.add_task(label, total=total)
            yield lambda: bar.advance(task)

    def shares(self, rows: Sequence[Served], seconds: float) -> None:
        """Who answered how many requests, how well and how fast."""
        table = _table("deployment", "declared", "answered", "accepted", "right", "p50", "p99")
        for row in rows:
            style = "" if row.in_band else "red"
            table.add_row(
                row.deployment,
                f"{row.declared_percent} %",
                f"[{style}]{row.requests:,}[/]" if style else f"{row.requests:,}",
                f"{row.band[0]:,} to {row.band[1]:,}",
                f"{row.accuracy:.1%}",
                f"{row.p50_ms:.1f} ms",
                f"{row.p99_ms:.1f} ms",
            )
        self.console.print(table)
        total = sum(row.requests for row in rows)
        rate = total / seconds if seconds else 0
        self.console.print(f"[dim]{total:,} answers in {seconds:.1f} s: {rate:,.0f} per second")

    def events(self, events: Sequence[Happening]) -> None:
        """The trail of changes, oldest first."""
        table = _table("time", "event", "of", left=3)
        for event in events:
            table.add_row(event.time, event.what, event.of)
        self.console.print(table)

    def verdict(self, checks: Sequence[Check]) -> None:
        """Every promise, and whether it was kept."""
        table = _table("", "promise", "found", left=3)
        for check in checks:
            mark = "[green]✓[/]" if check.kept else "[bold red]✗[/]"
            table.add_row(mark, check.promise, check.found)
        self.console.print(table)


def _table(*columns: str, left: int = 1) -> Table:
    """A light table whose first ``left`` columns are text and the others figures."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right")
    return table
