"""The life of a service: start in order, answer, run its loops, drain in reverse."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from headgate.runtime import answers
from headgate.runtime.bus import Bus, Handler
from headgate.runtime.discovery import Discovery
from headgate.runtime.log import Log

Step = Callable[[], Awaitable[Any]]

_LOOP_RETRY_FIRST_S = 0.2
_LOOP_RETRY_MAX_S = 5.0
_CANCEL_AGAIN_S = 0.5


class Service:
    """One service of the system, assembled by its ``app.build``.

    ``starts`` run before the service answers, ``loops`` run until it stops (one that raises is
    logged and started again), ``stops`` run in reverse order after it has stopped answering.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        description: str,
        handlers: Mapping[answers.Request, Handler] | None = None,
        shared: bool = True,
        starts: Sequence[Step] = (),
        loops: Mapping[str, Step] | None = None,
        stops: Sequence[Step] = (),
    ) -> None:
        self.name = bus.service
        self.bus = bus
        self.ready = asyncio.Event()
        self._answers = answers.make(
            bus.service, bus.url, bus.creds, handlers or {}, shared=shared, tracer=bus.tracer
        )
        self._discovery = Discovery(bus, description, self._answers.stats)
        self._starts = starts
        self._loops = dict(loops or {})
        self._stops = stops
        self._tasks: list[asyncio.Task[None]] = []
        self._log = Log(self.name)

    async def start(self) -> None:
        """Return when the service is ready: state loaded, subscriptions known to the server."""
        for step in self._starts:
            await step()
        await self._answers.broker.start()
        await self._discovery.start()
        await self.bus.sync()
        for name, loop in self._loops.items():
            self._tasks.append(asyncio.create_task(self._run(name, loop), name=name))
        self.ready.set()
        self._log.info("ready")

    async def stop(self) -> None:
        """Stop loops, finish the requests in hand, run the stops, close the connection."""
        self.ready.clear()
        while running := [task for task in self._tasks if not task.done()]:
            # Again and again: before Python 3.12, asyncio.wait_for can swallow a cancellation.
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=_CANCEL_AGAIN_S)
        self._tasks.clear()
        # A bus that is away must not keep the other steps from being taken.
        for step in (self._answers.broker.stop, *reversed(self._stops), self.bus.close):
            try:
                await step()
            except Exception as error:
                self._log.error("stop_step_failed", error=repr(error))
        self._log.info("stopped")

    async def _run(self, name: str, loop: Step) -> None:
        wait_s = _LOOP_RETRY_FIRST_S
        while True:
            begun = self.bus.clock.monotonic()
            try:
                await loop()
                return
            except asyncio.CancelledError:
                raise
            except Exception:
                self._log.exception("loop_failed", loop=name, retry_in_s=wait_s)
            if self.bus.clock.monotonic() - begun > 10 * _LOOP_RETRY_MAX_S:
                wait_s = _LOOP_RETRY_FIRST_S
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LOOP_RETRY_MAX_S)
