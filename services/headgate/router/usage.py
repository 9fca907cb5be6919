"""Says the usage journal to the ledger's stream, in order, and again until it is stored there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from nats.errors import Error as NatsError

from headgate.router import usage_journal
from headgate.router.usage_journal import Journal
from headgate.runtime.bus import Bus, event_headers
from headgate.runtime.log import Log
from headgate_contracts import limits
from headgate_contracts.usage import UsageReported, UsageRow

SAY_EVERY_S = 1.0
LOOK_FOR_LEFT_S = 10.0
_RETRY_MAX_S = 10.0
_LAST_WORDS_S = 3.0

_log = Log("router")


class UsageTeller:
    """One router's part in the exact count of all requests."""

    def __init__(self, bus: Bus, journal: Journal, folder: Path) -> None:
        self._bus = bus
        self._journal = journal
        self._folder = folder
        self._turning: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._turn_minute()

    async def run(self) -> None:
        """Say what there is, once a second, for ever."""
        wait_s, looked_at = SAY_EVERY_S, -LOOK_FOR_LEFT_S
        while True:
            try:
                await self.say()
                if self._bus.clock.monotonic() - looked_at >= LOOK_FOR_LEFT_S:
                    await self.say_left()
                    looked_at = self._bus.clock.monotonic()
                wait_s = SAY_EVERY_S
            except (NatsError, TimeoutError, OSError) as error:
                text = str(error) or type(error).__name__
                _log.warning("usage_waits", pages=len(self._journal.sealed), error=text)
                wait_s = min(2 * wait_s, _RETRY_MAX_S)
            await asyncio.sleep(wait_s)

    async def stop(self) -> None:
        """Say the rest, if the stream takes it at once; otherwise the next router says it."""
        if self._turning is not None:
            self._turning.cancel()
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                await self.say()
        except (NatsError, TimeoutError, OSError) as error:
            _log.warning("usage_left_behind", error=str(error) or type(error).__name__)
        self._journal.close()

    async def say(self) -> None:
        """Say this router's own pages. Raises when the stream does not take them."""
        journal = self._journal
        if journal.lost:
            _log.error("usage_lost", requests=journal.lost)
            journal.lost = 0
        await self._say_sealed()
        await journal.prepare()
        journal.seal()
        await self._say_sealed()

    async def _say_sealed(self) -> None:
        journal = self._journal
        while journal.sealed:
            page = journal.sealed[0]
            await self._say(journal.reporter, page.epoch, page.rows())
            await journal.remove_first()

    async def say_left(self) -> None:
        """Say what routers have left that are no more."""
        for folder in usage_journal.folders_of_others(self._folder, self._journal.reporter):
            with usage_journal.taken(folder) as pages:
                for path in pages:
                    left = usage_journal.read_left(path)
                    await self._say(folder.name, left.epoch, left.rows)
                    path.unlink(missing_ok=True)

    async def _say(self, reporter: str, epoch: int, rows: Sequence[UsageRow]) -> None:
        for first in range(0, len(rows), limits.USAGE_ROWS_PER_MESSAGE):
            part = tuple(rows[first : first + limits.USAGE_ROWS_PER_MESSAGE])
            event = UsageReported.model_construct(
                reporter=reporter, epoch=epoch, first=first, rows=part
            ).stamped(id=f"{reporter}-{epoch}-{first}", at=self._bus.clock.now())
            await self._bus.publish_stored_event(
                event.subject(),
                event.model_dump_json().encode(),
                event_headers(event, self._bus.service),
            )

    def _turn_minute(self) -> None:
        left_s = self._journal.turn_minute()
        self._turning = asyncio.get_running_loop().call_later(left_s, self._turn_minute)
