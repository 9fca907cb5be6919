"""What a session sees of the system, asked once for all of its pages and kept for a while.

Pages read what is here and never wait for the gateway; a session without a page that is read
asks nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from headgate.client import events, overview
from headgate.client.api import Client, Found
from headgate.portal import core
from headgate.portal.answers import Answers
from headgate.portal.core import Live, Series
from headgate.runtime.clock import Clock
from headgate.runtime.log import Log
from headgate_contracts.errors import HeadgateError
from headgate_contracts.resources import DeploymentSpec, EndpointSpec

LIVE_S = 1.0
RESOURCES_S = 5.0
SETTLE_S = 0.3

Key = tuple[str, str]
_log = Log("portal")


@dataclass(slots=True)
class View:
    """The state of the system as last heard."""

    endpoints: list[Found[EndpointSpec]] = field(default_factory=list)
    deployments: dict[str, list[Found[DeploymentSpec]]] = field(default_factory=dict)
    rates: dict[Key, Series] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)
    loaded: bool = False

    @property
    def trouble(self) -> str:
        """Since when what is here is not current, and why; empty when it is."""
        return next(iter(self.troubles.values()), "")

    def latest(self, endpoint: str, deployment: str) -> Live | None:
        series = self.rates.get((endpoint, deployment))
        return series.latest if series else None

    def latest_of(self, endpoint: str) -> list[Live]:
        """What the deployments of an endpoint do now."""
        return [series.latest for (name, _), series in self.rates.items() if name == endpoint]

    def endpoint(self, name: str) -> Found[EndpointSpec] | None:
        return next((each for each in self.endpoints if each.spec.name == name), None)


class Watch:
    """Looks at the system while somebody looks at a page, and once when a page is opened.

    ``answers``: what several pages ask at about the same time is asked once."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self.view = View()
        self.answers = Answers(clock.monotonic)
        self._client = client
        self._clock = clock
        self._pages: dict[str, Callable[[], bool]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()

    def hurry(self) -> None:
        """Somebody has just changed something: look at once."""
        self._changed.set()

    def begin(self, page_id: str, is_read: Callable[[], bool]) -> None:
        """A page was opened; ``is_read``: whether somebody looks at it now."""
        self._pages[page_id] = is_read
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._run(self._look_at_resources, self._until_changed)),
                asyncio.create_task(self._run(self._look_at_live, lambda: asyncio.sleep(LIVE_S))),
                asyncio.create_task(self._run(self._follow, lambda: asyncio.sleep(RESOURCES_S))),
            ]

    def end(self, page_id: str) -> None:
        self._pages.pop(page_id, None)
        if not self._pages:
            self._stop()

    async def close(self) -> None:
        tasks = self._tasks
        self._pages.clear()
        self._stop()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        self.answers.forget()

    async def _run(
        self, look: Callable[[], Awaitable[None]], pause: Callable[[], Awaitable[None]]
    ) -> None:
        what, fresh_at, is_first = look.__name__, self._clock.now(), True
        while True:
            if not is_first and not any(is_read() for is_read in self._pages.values()):
                await asyncio.sleep(LIVE_S)
                continue
            is_first = False
            try:
                await look()
                self.view.troubles.pop(what, None)
                fresh_at = self._clock.now()
            except HeadgateError as error:
                self.view.troubles[what] = core.stale(fresh_at, error.error.message)
            except Exception:
                _log.exception("look_failed")
                said = "the studio failed; its log says why"
                self.view.troubles[what] = core.stale(fresh_at, said)
            await pause()

    async def _until_changed(self) -> None:
        """Until something has happened, but not for long: an event is a hint that may be lost."""
        await asyncio.sleep(SETTLE_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RESOURCES_S):
                await self._changed.wait()
        self._changed.clear()

    async def _follow(self) -> None:
        """Events are hints; without them resources are looked at all the same."""
        with contextlib.suppress(HeadgateError):
            async for _ in events.tail(self._client.http):
                self._changed.set()

    async def _look_at_resources(self) -> None:
        self.view.endpoints = await self._client.list_endpoints()
        self.view.deployments = await overview.deployments(self._client)
        self.view.loaded = True
        there = {
            (endpoint, found.spec.name)
            for endpoint, deployments in self.view.deployments.items()
            for found in deployments
        }
        for key in self.view.rates.keys() - there:
            del self.view.rates[key]

    async def _look_at_live(self) -> None:
        for row in core.live_rows(await overview.live(self._client), self._clock.now()):
            key = (row.endpoint, row.deployment)
            self.view.rates.setdefault(key, Series(*key)).append(row)
