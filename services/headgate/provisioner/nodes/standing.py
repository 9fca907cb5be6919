"""Which nodes run, on disk: whoever comes after a service that was killed tells of their end.

A node ends with its service; the age of its file says how long it was there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from headgate.runtime.files import private_dir, write_atomic
from headgate.runtime.log import Log
from headgate_contracts.envelope import Value
from headgate_contracts.nodes import NodeEnded

TOUCH_EVERY_S = 5.0

_log = Log("provisioner")


class _Note(Value):
    """What will be told if nobody else does."""

    started_at: float
    event: NodeEnded


class Standing:
    """A folder with a file for each node that has started. Times are Unix seconds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def note(self, event: NodeEnded, now: float) -> None:
        """A node has started; ``event`` is what is told of its end."""
        path = private_dir(self._folder) / f"{event.node}.json"
        write_atomic(path, _Note(started_at=now, event=event).model_dump_json())
        os.utime(path, (now, now))

    def touch(self, now: float) -> None:
        """All of them are still there."""
        for path in self._folder.glob("*.json"):
            with suppress(FileNotFoundError):  # it has just ended
                os.utime(path, (now, now))

    def forget(self, node: str) -> None:
        """Its end has been told."""
        (self._folder / f"{node}.json").unlink(missing_ok=True)

    def left(self) -> Iterator[NodeEnded]:
        """The ends of nodes that another service had, and did not tell."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                note = _Note.model_validate_json(path.read_text())
            except (ValidationError, OSError) as error:
                _log.error("bad_note", path=str(path), error=str(error)[:200])
                path.unlink(missing_ok=True)
                continue
            alive_s = max(0.0, path.stat().st_mtime - note.started_at)
            yield note.event.model_copy(update={"alive_s": alive_s})
