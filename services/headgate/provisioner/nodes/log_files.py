"""Ships the log files of a node into the object store, whole, whenever they have grown."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

from headgate.provisioner.nodes.staging import own_file
from headgate.runtime.log import Log
from headgate.runtime.store import Store
from headgate_contracts.errors import HeadgateError

LOOK_S = 1.0
FILE_BYTES_MAX = 16 * 1024 * 1024
_CUT = b"\n... the file is longer than what is kept of it\n"

_log = Log("provisioner")


class LogFiles:
    """The files below ``folder`` of this machine, at the same paths below ``prefix``."""

    def __init__(self, store: Store, folder: Path, prefix: str) -> None:
        self._store = store
        self._folder = folder
        self._prefix = prefix
        self._shipped: dict[Path, int] = {}
        self._skipped: dict[Path, int] = {}

    async def skip(self) -> None:
        """What is in the files by now is somebody else's."""
        self._skipped = await asyncio.to_thread(lambda: dict(self._sizes()))

    async def run(self) -> None:
        """Ship for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.ship()

    async def ship(self) -> None:
        """Ship what has grown since the last time."""
        for path, size_bytes in await asyncio.to_thread(self._grown):
            try:
                content = await asyncio.to_thread(_read, path, self._skipped.get(path, 0))
                relative = path.relative_to(self._folder).as_posix()
                await self._store.put(f"{self._prefix}/{relative}", content)
            except (OSError, HeadgateError) as error:
                _log.warning("log_not_shipped", path=str(path), error=str(error))
                continue
            self._shipped[path] = size_bytes

    def _grown(self) -> list[tuple[Path, int]]:
        """Files with more to ship than was, and how much that is in all."""
        found = []
        for path, size_bytes in self._sizes():
            size_bytes = min(size_bytes - self._skipped.get(path, 0), FILE_BYTES_MAX + 1)
            if size_bytes > 0 and size_bytes != self._shipped.get(path, 0):
                with contextlib.suppress(OSError, HeadgateError):
                    name = path.relative_to(self._folder).as_posix()
                    found.append((own_file(self._folder, name), size_bytes))
        return found

    def _sizes(self) -> Iterator[tuple[Path, int]]:
        for path in sorted(self._folder.rglob("*.txt")):
            with contextlib.suppress(OSError):
                yield path, path.stat().st_size


def _read(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        content = file.read(FILE_BYTES_MAX + 1)
    return content if len(content) <= FILE_BYTES_MAX else content[:FILE_BYTES_MAX] + _CUT
