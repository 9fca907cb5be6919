"""A node of a batch job: a small parent, and processes that have the script loaded.

The parent starts, kills and reaps processes as the agent beside it says, over a UNIX socket, and
decides nothing. It ends, with all of them, when the agent has gone.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from types import FrameType
from typing import Any, NamedTuple, NoReturn, Optional

from headgate_worker import batch_process, output
from headgate_worker.batch_wire import Channel
from headgate_worker.settings import Settings
from headgate_worker.standing_back import stand_back

EXIT_CRASHED = 70


class Node(NamedTuple):
    """What the agent says about the node. ``folder`` is what both of them see."""

    id: str
    folder: str
    logging_level: str
    keeps_rows: bool
    is_low_priority: bool

    @property
    def socket(self) -> str:
        return os.path.join(self.folder, "agent.sock")


def main(chosen: Settings) -> int:
    """The parent's whole life; its exit status."""
    node = Node(**json.loads(chosen.batch))
    if node.is_low_priority:
        stand_back()
    waker, woken = socket.socketpair()
    for end in (waker, woken):
        end.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    channel = Channel(node.socket)
    channel.send({"role": "parent", "pid": os.getpid()})
    children: dict[int, int] = {}  # pid -> number of the process
    try:
        while True:
            if not channel.has_more:
                readable, _, _ = select.select([channel.socket, woken], [], [])
                if woken in readable:
                    with suppress(BlockingIOError):
                        woken.recv(4096)
                    _reap(children, channel)
                if channel.socket not in readable:
                    continue
            said = channel.receive()
            if said is None:
                return 0
            _obey(said, children, node, chosen, (waker, woken, channel.socket))
    except OSError as error:
        output.log("ERROR", f"the agent has gone: {error}", 2)
        return 0
    finally:
        for pid in children:
            _kill(pid)


def _obey(
    said: dict[str, Any],
    children: dict[int, int],
    node: Node,
    chosen: Settings,
    ours: tuple[socket.socket, ...],
) -> None:
    if said["op"] == "start":
        pid = _fork(int(said["number"]), node, chosen, ours)
        children[pid] = int(said["number"])
    elif said["op"] == "kill" and int(said["pid"]) in children:
        _kill(int(said["pid"]))


def _fork(number: int, node: Node, chosen: Settings, ours: tuple[socket.socket, ...]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        with suppress(OSError):
            os.setpgid(pid, pid)  # both do it, so that it is done whoever comes first
        return pid
    status = EXIT_CRASHED
    try:
        from headgate_worker.process import die_with

        die_with(parent)
        with suppress(OSError):
            os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(each, signal.SIG_DFL)
        for each_socket in ours:
            each_socket.close()
        status = batch_process.main(number, node, chosen)
    finally:
        # The rest of the stack belongs to the parent's program.
        _leave(status)


def _leave(status: int) -> NoReturn:
    output.flush()
    os._exit(status)


def _reap(children: dict[int, int], channel: Channel) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        number = children.pop(pid, None)
        if number is None:
            continue
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL)  # what it has started does not outlive it
        channel.send({"op": "ended", "number": number, "pid": pid, "status": _status(status)})


def _status(status: int) -> int:
    """As Python's subprocess says it: negative for a signal."""
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _kill(pid: int) -> None:
    """The process with everything that it started."""
    for kill in (os.killpg, os.kill):
        with suppress(OSError):
            kill(pid, signal.SIGKILL)


def _stop(number: int, frame: Optional[FrameType]) -> None:
    sys.exit(0)
