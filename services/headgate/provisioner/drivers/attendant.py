"""Stays with one container until it has ended: copies what it prints, and brings back its state.

Lives on a thread of its own, because the library blocks. When the engine goes away it waits for
it to come back, and goes on copying where it stopped; nothing is written twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate.provisioner.drivers.engine import Engine, in_words
from headgate_contracts.errors import ErrorCode, HeadgateError

if TYPE_CHECKING:
    from docker.models.containers import Container

RETRY_S = 0.5
SINCE = "worker.log.since"
_ENDED = ("exited", "dead")


@dataclass(frozen=True, slots=True)
class Ended:
    """What the engine says of a container that has ended; ``attrs`` is empty if it is gone.

    ``engine_was_away``: it ran when the engine was lost, and not any more when it was back.
    """

    attrs: dict[str, Any]
    engine_was_away: bool

    @property
    def state(self) -> dict[str, Any]:
        return dict(self.attrs.get("State") or {})


class Attendant:
    """``ended`` is awaited on the event loop; ``close`` lets go of the container."""

    def __init__(self, engine: Engine, name: str, log: Path) -> None:
        self._engine = engine
        self._name = name
        self._log = log
        self._since = log.with_name(SINCE)
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[Ended] = self._loop.create_future()
        self._closed = threading.Event()
        self._stream: Any = None
        self._away = False
        threading.Thread(target=self._run, name=f"attend {name}", daemon=True).start()

    async def ended(self) -> Ended:
        return await asyncio.shield(self._end)

    def close(self) -> None:
        """Look no more; the container goes on."""
        self._closed.set()
        self._close_stream()

    def _close_stream(self) -> None:
        with contextlib.suppress(Exception):  # it may be closed already, or not yet open
            self._stream.close()

    # --- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                ended = in_words(self._attend)
            except HeadgateError as error:
                if error.error.code is ErrorCode.RESOURCE_NOT_FOUND:
                    ended = Ended({}, False)
                else:
                    self._away = True
                    ended = None
            except OSError:  # the disk is full, perhaps: the container matters more than its log
                ended = None
            if ended is not None:
                self._tell(ended)
                return
            self._closed.wait(RETRY_S)

    def _attend(self) -> Ended | None:
        """Copy until there is no more; the end, or None when the engine was lost on the way."""
        container = self._engine.client().containers.get(self._name)
        if container.status not in _ENDED:
            self._away = False
        self._copy(container)
        container.reload()
        if container.status not in _ENDED:
            self._away = True  # why else would there be no more to copy?
            return None
        return Ended(dict(container.attrs), self._away)

    def _copy(self, container: Container) -> None:
        last = self._last()
        options: dict[str, Any] = {"since": int(_unix(last))} if last else {}
        self._stream = container.logs(stream=True, follow=True, timestamps=True, **options)
        try:
            with self._log.open("ab", buffering=0) as log:
                for frame in self._stream:
                    at, _, text = frame.partition(b" ")
                    if self._closed.is_set():
                        return
                    if at > last:
                        log.write(text)
                        self._since.write_bytes(at)
        finally:
            self._close_stream()

    def _last(self) -> bytes:
        try:
            return self._since.read_bytes()
        except FileNotFoundError:
            return b""

    def _tell(self, ended: Ended) -> None:
        def tell() -> None:
            if not self._end.done():
                self._end.set_result(ended)

        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(tell)


def _unix(stamp: bytes) -> float:
    """``2026-01-02T03:04:05.123456789Z`` as seconds since 1970."""
    text = stamp.decode("ascii", "replace").removesuffix("Z")
    return datetime.fromisoformat(f"{text[:26]}+00:00").timestamp()
