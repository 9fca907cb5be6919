"""Requests that wait for the first instance of a deployment, as those that follow their load allow.

Such a request has the deployment's time limit to be answered from the moment when there is an
instance. A client that sets its own limit is taken at its word: its time runs from the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headgate.router import core
from headgate.router.core import Refusal
from headgate.router.deadlines import Deadlines
from headgate.router.requests import Request
from headgate.router.table import Deployment


class Holding:
    """Holds requests and lets them go. ``on_hold`` is called when a deployment begins to hold."""

    def __init__(self, deadlines: Deadlines, on_hold: Callable[[], None]) -> None:
        self._deadlines = deadlines
        self._on_hold = on_hold
        self._loop = asyncio.get_running_loop()

    def take(self, request: Request, now: float) -> None:
        """Let a request of a deployment without instances wait."""
        deployment = request.deployment
        if deployment.held_since is None:
            deployment.held_since = now
            self._loop.call_soon(self._on_hold)
        if request.is_patient:
            request.is_held = True
            deployment.held_bytes += len(request.body)
            self._deadlines.set(request, now + deployment.route.hold_s)
        elif request.due is None:
            self._deadlines.set(request, request.deadline)
        deployment.waiting[request] = None

    def end(self, deployment: Deployment, now: float) -> None:
        """The first instance is ready: from now on time runs for those that waited for it."""
        if deployment.held_since is not None:
            deployment.startup_s = now - deployment.held_since
        deployment.held_since, deployment.held_bytes = None, 0
        for request in deployment.waiting:
            if request.is_held:
                request.is_held, request.deadline = False, now + request.timeout_s
                self._deadlines.set(request, request.deadline)

    def keep(self, deployment: Deployment, now: float) -> list[tuple[Request, Refusal]]:
        """There is no instance any more: whoever waits is held, or returned with the reason."""
        route, refused = deployment.route, []
        reason = core.stopped if route.is_stopped else core.not_ready
        for request in (*deployment.waiting, *deployment.copies):
            if route.is_stopped or not route.hold_s or request.is_copy:
                refused.append((request, reason(deployment.name)))
            elif not request.is_held:
                self.take(request, now)
        return refused
