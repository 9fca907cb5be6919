"""All nodes of this machine, and the answers about them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from headgate.provisioner import capacity
from headgate.provisioner.capacity import Holding
from headgate.provisioner.nodes.node import NodeLife, Tools, place_of
from headgate.provisioner.nodes.standing import TOUCH_EVERY_S
from headgate.provisioner.values import Start
from headgate.runtime.answers import Request
from headgate.runtime.bus import Handler
from headgate_contracts import limits
from headgate_contracts.envelope import Done
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.nodes import (
    ListNodes,
    NodeSpec,
    NodesReply,
    ReleaseNode,
    StartNode,
    StopNode,
)


class Nodes:
    """Lives of nodes by their instance. One that has ended is remembered until it is stopped."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._lives: dict[str, NodeLife] = {}
        self._forgetting: set[asyncio.Task[None]] = set()

    def table(self) -> Mapping[Request, Handler]:
        """Which message is answered by which method."""
        return {
            StartNode: self.start,
            ReleaseNode: self.release,
            StopNode: self.stop,
            ListNodes: self.list_all,
        }

    async def begin(self) -> None:
        """Tell of the nodes that a service before us was killed with."""
        standing = self._tools.standing
        for event in await asyncio.to_thread(lambda: list(standing.left())):
            await self._tools.say(event)
            await asyncio.to_thread(standing.forget, event.node)

    async def keep_standing(self) -> None:
        """Note now and then that the nodes are still there, for ever."""
        while True:
            await asyncio.sleep(TOUCH_EVERY_S)
            await asyncio.to_thread(self._tools.standing.touch, self._tools.clock.now())

    def alive(self) -> set[str]:
        """The instances whose processes are ours to have."""
        return {name for name, life in self._lives.items() if life.seen.state != "ended"}

    async def start(self, command: StartNode) -> Done:
        spec = command.node
        if self._find(spec.id) is not None:
            return Done()
        idle = self._find(command.idle)
        if idle is not None and await idle.take_over(spec):
            return Done()
        if len(self._lives) >= limits.JOB_NODES_MAX:
            raise HeadgateError(
                ErrorCode.QUOTA_EXCEEDED,
                f"this machine runs {len(self._lives)} nodes already, the most it may",
            )
        self._admit(spec)
        self._lives[spec.id] = NodeLife(spec, self._tools)
        return Done()

    def _find(self, node: str) -> NodeLife | None:
        return next((life for life in self._lives.values() if life.spec.id == node), None)

    def _admit(self, spec: NodeSpec) -> None:
        """Take the room of a node. Raises HeadgateError(OutOfQuota) when there is none now.

        What could never fit is let through: the node fails, and says why.
        """
        try:
            size = self._tools.allowed(spec)
        except HeadgateError:
            return
        key, ledger = place_of(spec.id), self._tools.ledger
        room = ledger.room_for(key, {spec.id: size})
        admitted = capacity.admit([Start(spec.id, 0)], [], [], room)
        if admitted.lacking:
            count = sum(life.spec.job == spec.job for life in self._lives.values())
            wanted = spec.settings.instance_count
            raise HeadgateError.of(capacity.shortage(room, spec.id, admitted.free, count, wanted))
        ledger.claim(key, Holding(size.counted))

    async def release(self, command: ReleaseNode) -> Done:
        if (life := self._find(command.node)) is not None:
            life.release(command.grace_s)
        return Done()

    async def stop(self, command: StopNode) -> Done:
        if (life := self._find(command.node)) is not None:
            life.stop(command.grace_s)
            task = asyncio.create_task(self._forget(life))
            self._forgetting.add(task)
            task.add_done_callback(self._forgetting.discard)
        return Done()

    async def list_all(self, query: ListNodes) -> NodesReply:
        return NodesReply(nodes=tuple(life.now() for life in self._lives.values()))

    async def close(self) -> None:
        """End all of them: their jobs go on with others."""
        await asyncio.gather(*(life.abandon() for life in self._lives.values()))

    async def _forget(self, life: NodeLife) -> None:
        await life.ended()
        self._lives.pop(life.instance, None)
