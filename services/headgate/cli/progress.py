"""Shows on stderr how a wait or an upload goes: one live line on a terminal, plain lines else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from headgate.cli import errors
from headgate.runtime.visible import visible


class Spinner:
    """A line that changes while something goes on; without a terminal, a line per change."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._since = time.monotonic()
        self._live: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console

            self._live = Console(stderr=True).status(self._line())
            self._live.start()
        else:
            errors.say(self._text)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, text: str) -> None:
        """What goes on now."""
        changed, self._text = text != self._text, text
        if self._live is not None:
            self._live.update(self._line())
        elif changed:
            errors.say(self._line())

    def _line(self) -> str:
        from rich.markup import escape

        elapsed_s = time.monotonic() - self._since
        return f"{escape(visible(self._text))} · {elapsed_s:.0f} s"


class UploadBar:
    """Called with the bytes sent so far of one upload."""

    def __init__(self, advance: Any = None) -> None:
        self._advance = advance

    def __call__(self, sent_bytes: int) -> None:
        if self._advance is not None:
            self._advance(sent_bytes)


@contextmanager
def upload_bar(name: str, total_bytes: int) -> Iterator[UploadBar]:
    """A bar for one upload; without a terminal, one line."""
    size = f"{total_bytes / 1e6:,.1f} MB" if total_bytes >= 1e5 else f"{total_bytes:,} bytes"
    if not sys.stderr.isatty():
        errors.say(f"uploading {name} ({size})")
        yield UploadBar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("uploading {task.description}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns, TransferSpeedColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task(name, total=total_bytes)
        yield UploadBar(lambda sent_bytes: bar.advance(task, sent_bytes))
