"""Asks the bus whether an instance still listens: nobody there means that it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headgate.router.lane import NO_RESPONDERS, Lane
from headgate.router.table import GONE, Instance, Table
from headgate.router.wire import Outbox
from headgate_contracts import subjects
from headgate_contracts.scoring import InstanceState

TOKEN = "ping"
# The bus may hear of the end of a process a little later than we do, so it is asked again.
AGAIN_FIRST_S, AGAIN_MAX_S = 0.005, 0.25


class Pings:
    """Those of one router. An instance is judged by them when it is silent or doubted.

    ``on_end`` is called for an instance that has ended, ``on_life`` for one that was doubted and
    lives, with the outbox that it may not have read all of.
    """

    def __init__(
        self,
        lane: Lane,
        table: Table,
        on_end: Callable[[Instance], None],
        on_life: Callable[[Instance, Outbox], None],
    ) -> None:
        self._lane = lane
        self._table = table
        self._on_end = on_end
        self._on_life = on_life
        self._token = f"{table.router_id}-{TOKEN}"
        self._doubts: dict[Instance, Outbox | None] = {}
        lane.subscribe(f"{subjects.inbox_prefix('router')}.{self._token}.*", self._on_pong)

    def ask(self, instance: Instance) -> None:
        self._lane.send(instance.subject, subjects.answers(self._token, instance.id))

    def doubt(self, instance: Instance, unread: Outbox | None) -> None:
        """Something has happened to an instance: asked until the bus says whether it lives.

        ``unread`` is the outbox of which something may be lost if it does.
        """
        is_asked = instance in self._doubts
        self._doubts[instance] = unread
        if not is_asked:
            self._ask_on(instance, AGAIN_FIRST_S)

    def _ask_on(self, instance: Instance, again_s: float) -> None:
        state = instance.state
        # One that drains has left its subject and lives; heartbeats say more, as of silent ones.
        if state is InstanceState.DRAINING or state in GONE or instance.silent:
            self._doubts.pop(instance, None)
        if instance in self._doubts:
            self.ask(instance)
            loop = asyncio.get_running_loop()
            loop.call_later(again_s, self._ask_on, instance, min(4 * again_s, AGAIN_MAX_S))

    def _on_pong(self, subject: str, _reply: str, head: bytes, _payload: bytes) -> None:
        instance = self._table.instance(subject.rpartition(".")[2])
        if instance is None:
            return
        is_doubted = instance in self._doubts and instance.state is not InstanceState.DRAINING
        unread = self._doubts.pop(instance, None)
        if not head.startswith(NO_RESPONDERS):
            if unread is not None:
                self._on_life(instance, unread)
        elif instance.silent or is_doubted:
            instance.state = InstanceState.LOST
            self._on_end(instance)
