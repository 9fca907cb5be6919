"""What a node does for one job: its mini-batches, and its log files on their way to the store."""

from __future__ import annotations

import asyncio
from pathlib import Path

from headgate.provisioner.nodes.agent import Agent
from headgate.provisioner.nodes.log_files import LogFiles
from headgate.runtime.store import Store
from headgate_contracts.nodes import NodeSpec


class Shift:
    """Begins when it is made. ``is_first``: no other job's lines are in the log files."""

    def __init__(
        self, spec: NodeSpec, agent: Agent, store: Store, folder: Path, *, is_first: bool
    ) -> None:
        """``folder`` is the node's own, with its log files below ``logs``."""
        self._agent = agent
        self._shipper = LogFiles(store, folder / "logs", f"{spec.logs}/logs")
        self._ships = is_first
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        if not self._ships:
            await self._shipper.skip()
            self._ships = True
        await asyncio.gather(self._agent.run(), self._shipper.run())

    async def stop(self, grace_s: float) -> bool:
        """Begin nothing more; whether all that ran has ended after ``grace_s``."""
        return await self._agent.stop(grace_s)

    async def settle(self, timeout_s: float) -> None:
        """Wait until all that was begun is reported, but no longer than that."""
        await self._agent.settle(timeout_s)

    async def close(self) -> None:
        """Give back what has not ended, and ship what is left of the log files."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._agent.close()
        if self._ships:
            await self._shipper.ship()
