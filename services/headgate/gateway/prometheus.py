"""``/metrics``: the load of all routers as a page for Prometheus."""

from __future__ import annotations

from aiohttp import web
from pydantic import ValidationError

from headgate import __version__
from headgate.gateway.access import Action
from headgate.gateway.backend import Backend
from headgate.gateway.http import Call, Handle
from headgate.gateway.routes import Route
from headgate.runtime.bus import Msg
from headgate.runtime.log import Log
from headgate.runtime.prometheus import CONTENT_TYPE, LoadPage
from headgate_contracts import subjects
from headgate_contracts.load import LoadReported

_log = Log("gateway")


class Prometheus:
    """Hears the load reports of the routers and tells what they add up to."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._page = LoadPage(backend.clock.now(), __version__)

    async def start(self) -> None:
        await self._backend.bus.subscribe(subjects.LOAD_ALL, self._hear)

    async def _hear(self, message: Msg) -> None:
        try:
            said = LoadReported.model_validate_json(message.data)
        except ValidationError as error:
            _log.warning("bad_load_report", subject=message.subject, error=str(error)[:200])
            return
        self._page.hear(said, self._backend.clock.monotonic())

    async def read(self, call: Call) -> web.StreamResponse:
        """Deployments of the workspaces in which the caller has a role."""
        principal = call.principal
        text = self._page.text(
            self._backend.clock.monotonic(), lambda name: principal.role_in(name) is not None
        )
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    def routes(self) -> tuple[Route[Handle], ...]:
        return (
            Route(
                "GET",
                "/metrics",
                self.read,
                "Read what routers have counted, as Prometheus does",
                reply={"type": "string"},
                media="text/plain",
                action=Action.ANY,
            ),
        )
