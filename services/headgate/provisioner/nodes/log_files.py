"""Ships the log files of a node into the object store, whole, whenever they have grown."""

from __future__ import annotations

import asyncio
import contextlib
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

    async def run(self) -> None:
        """Ship for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.ship()

    async def ship(self) -> None:
        """Ship what has grown since the last time."""
        for path, size_bytes in await asyncio.to_thread(self._grown):
            try:
                content = await asyncio.to_thread(_read, path)
                relative = path.relative_to(self._folder).as_posix()
                await self._store.put(f"{self._prefix}/{relative}", content)
            except (OSError, HeadgateError) as error:
                _log.warning("log_not_shipped", path=str(path), error=str(error))
                continue
            self._shipped[path] = size_bytes

    def _grown(self) -> list[tuple[Path, int]]:
        found = []
        for path in sorted(self._folder.rglob("*.txt")):
            with contextlib.suppress(OSError, HeadgateError):
                size_bytes = min(path.stat().st_size, FILE_BYTES_MAX + 1)
                if size_bytes and size_bytes != self._shipped.get(path, 0):
                    name = path.relative_to(self._folder).as_posix()
                    found.append((own_file(self._folder, name), size_bytes))
        return found


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(FILE_BYTES_MAX + 1)
    return content if len(content) <= FILE_BYTES_MAX else content[:FILE_BYTES_MAX] + _CUT
