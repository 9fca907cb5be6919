"""The processes of a node, and the parent that starts them. They outlive the job of the node."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from headgate.provisioner.nodes.channel import Peer
from headgate.provisioner.nodes.queue import Held
from headgate.runtime.log import Log
from headgate.runtime.procs import describe_exit
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, WireError

RESTART_FIRST_S = 0.5
RESTART_MAX_S = 30.0
# So often a process may end before it has the script loaded, in a row.
FAILED_STARTS_MAX = 4

_log = Log("provisioner")


@dataclass(frozen=True, slots=True)
class Process:
    """One that has the script loaded. ``ended`` is set once its parent has said so."""

    peer: Peer
    pid: int
    ended: asyncio.Event


@dataclass(eq=False, slots=True)
class Staged:
    """A mini-batch that a process can have at once: its files below the node's folder.

    ``give`` hands it to a process. It raises ConnectionError when that has gone meanwhile.
    """

    held: Held
    key: str
    give: Callable[[Process, Staged], Awaitable[None]]
    paths: list[str] = field(default_factory=list)


class Crew:
    """The processes of one instance. Each takes what is ``staged`` as soon as it has time.

    ``on_ready`` and ``on_failed`` tell what becomes of them.
    """

    def __init__(
        self,
        instance: str,
        count: int,
        *,
        on_ready: Callable[[], None],
        on_failed: Callable[[WireError], None],
    ) -> None:
        self._instance = instance
        self.count = count
        self._on_ready = on_ready
        self._on_failed = on_failed
        self._parent: Peer | None = None
        self._ends: dict[int, asyncio.Event] = {}  # by pid
        self._failed_starts: dict[int, int] = {}
        self._starts: set[asyncio.Task[None]] = set()
        self._closing = False
        self.staged: asyncio.Queue[Staged] = asyncio.Queue()
        self.parent_gone = asyncio.Event()
        self.processes = 0
        self.was_ready = False

    async def serve(self, peer: Peer) -> None:
        """One connection: of the parent, or of a process."""
        with contextlib.suppress(ConnectionError):
            said, _ = await peer.receive()
            if said.get("role") == "parent" and self._parent is None:
                self._parent = peer
                await self._hear_parent(peer)
            elif said.get("role") == "process":
                await self._hear_process(peer, int(said["number"]), int(said["pid"]))

    def kill(self, process: Process) -> None:
        if self._parent is not None:
            self._parent.send({"op": "kill", "pid": process.pid})

    async def close(self) -> None:
        """The parent ends its processes and itself."""
        self._closing = True
        if self._parent is not None:
            self._parent.close()
        starts = list(self._starts)
        for task in starts:
            task.cancel()
        await asyncio.gather(*starts, return_exceptions=True)

    async def _hear_parent(self, peer: Peer) -> None:
        for number in range(self.count):
            peer.send({"op": "start", "number": number})
        try:
            while True:
                said, _ = await peer.receive()
                if said.get("op") == "ended":
                    self._note_end(int(said["number"]), int(said["pid"]), int(said["status"]))
        finally:
            self.parent_gone.set()

    def _note_end(self, number: int, pid: int, status: int) -> None:
        """A process has ended: another one takes its place, later and later if that goes wrong."""
        if (ended := self._ends.pop(pid, None)) is not None:
            ended.set()
        if self._closing:
            return
        failures = self._failed_starts.get(number, 0) + 1
        self._failed_starts[number] = failures  # until it is ready
        if failures > FAILED_STARTS_MAX:
            said = describe_exit(status)
            self._on_failed(
                WireError(
                    code=ErrorCode.RESOURCE_NOT_READY,
                    message=f"a process of the node ended with {said} {failures} times in a row "
                    "before it had the script loaded",
                )
            )
            return
        wait_s = 0.0 if failures == 1 else min(RESTART_MAX_S, RESTART_FIRST_S * 2 ** (failures - 2))
        _log.info("process_ended", node=self._instance, process=number, status=status)
        task = asyncio.create_task(self._start_later(number, wait_s))
        self._starts.add(task)
        task.add_done_callback(self._starts.discard)

    async def _start_later(self, number: int, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        if self._parent is not None and not self._closing:
            self._parent.send({"op": "start", "number": number})

    async def _hear_process(self, peer: Peer, number: int, pid: int) -> None:
        said, _ = await peer.receive()
        if said.get("op") == "failed":
            self._note_failure(said)
            return
        if said.get("op") != "ready":
            return
        self._failed_starts[number] = 0
        self.processes += 1
        if not self.was_ready:
            self.was_ready = True
            self._on_ready()
        ended = self._ends[pid] = asyncio.Event()
        try:
            while not self._closing:
                staged = await self.staged.get()
                if peer.has_gone:
                    self.staged.put_nowait(staged)
                    return
                await staged.give(Process(peer, pid, ended), staged)
        finally:
            self.processes -= 1

    def _note_failure(self, said: dict[str, Any]) -> None:
        """The script cannot be loaded. If it never could, trying again is of no use."""
        if self.was_ready:
            return
        try:
            code = ErrorCode(str(said.get("code")))
        except ValueError:
            code = ErrorCode.USER_SCRIPT_INIT_FAILED
        message = str(said.get("message"))[: limits.ERROR_MESSAGE_CHARS_MAX]
        self._on_failed(WireError(code=code, message=message))
