"""Direct connections to instances of this machine: requests and whole answers go past the bus.

An instance that listens says so in its heartbeats. Its requests then leave on a Unix socket, as the
message that the bus would have delivered, and its answers come back on it. Everything else stays
on the bus: who is there, who lives, bodies and answers in parts. Losing a link loses no request.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

from headgate.router.lane import Lane
from headgate.router.pings import Pings
from headgate.router.table import GONE, Instance
from headgate.router.wire import Deliver, Outbox, Wire
from headgate.runtime.clock import Clock
from headgate.runtime.log import Log
from headgate_contracts import limits
from headgate_contracts.scoring import Heartbeat

# Above this much unsent data its instance is not reading, and requests take the bus again. Some of
# the largest bodies that come together are not that.
UNSENT_BYTES_MAX = 8 * limits.BUS_PAYLOAD_BYTES_MAX
# So much the kernel holds, if it may: a body that leaves in few pieces wakes its reader seldom.
SEND_BUFFER_BYTES = 4 * 1024 * 1024
REOPEN_S = 5.0
# An instance has said its last word on the bus: what it wrote here before is still read.
LINGER_S = 0.25
_LINE_BYTES_MAX = 512
_NUMBER = b"1"  # of the one subscription that each side has

_log = Log("router")


class Link(Wire):
    """One connection to one instance, whose process runs its user's code: nothing is believed."""

    def __init__(
        self,
        instance: Instance,
        message_bytes_max: int,
        on_answer: Deliver,
        on_made: Callable[[Link], None],
        on_lost: Callable[[Link, bool], None],
    ) -> None:
        """``on_lost`` is told whether all that left was read, or is going to be."""
        super().__init__({_NUMBER: on_answer})
        self.instance = instance
        self.outbox = Outbox(instance.subject, instance.reply, self)
        self.lingers = False
        self._message_bytes_max = message_bytes_max
        self._reply = instance.reply.encode()
        self._on_made = on_made
        self._on_lost = on_lost
        self._is_read = False

    def abort(self) -> None:
        """End the connection; ``on_lost`` is called soon."""
        self._leave()
        self._transport.abort()

    def _leave(self) -> None:
        self.instance.outbox = self.instance.bus_outbox

    def _flush(self) -> None:
        if not self._transport.is_closing():  # else what is queued is looked at when it is lost
            super()._flush()

    def _take(self, data: bytes, at: int, end: int) -> int:
        """As on the bus, but nothing else than answers of this instance to us."""
        line_end = data.find(b"\r\n", at, at + _LINE_BYTES_MAX)
        if line_end < 0:
            return -1 if end - at < _LINE_BYTES_MAX else self._refuse("a line without an end", end)
        words = data[at:line_end].split()
        if len(words) != 4 or words[0] != b"MSG" or not words[3].isdigit():
            return self._refuse("no message", end)
        if words[1] != self._reply:
            return self._refuse("an answer of another instance, or to somebody else", end)
        size = int(words[3])
        if size > self._message_bytes_max:
            return self._refuse(f"a message of {size} bytes", end)
        begin = line_end + 2
        after = begin + size + 2
        if after > end:
            return end - after
        self._deliver(words, b"", data[begin : begin + size])
        return after

    def _refuse(self, what: str, end: int) -> int:
        _log.error("link_refused", **self.instance.names, error=f"{what} came from the instance")
        self.abort()
        return end

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES_MAX)
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._on_made(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._leave()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self._transport.is_closing():
            self.instance.outbox = self.outbox

    def eof_received(self) -> None:
        """The instance says no more. It read what the kernel took, or this were an error."""
        self._is_read = not (self._out or self._transport.get_write_buffer_size())
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._on_lost(self, self._is_read and exc is None)
        super().connection_lost(exc)


class Links:
    """All links of one router.

    ``on_lost`` is called with an instance and the outbox of its link when that is lost.
    """

    def __init__(
        self,
        folder: Path | None,
        lane: Lane,
        clock: Clock,
        on_answer: Deliver,
        on_lost: Callable[[Instance, Outbox], None],
        pings: Pings,
    ) -> None:
        """``folder`` holds the sockets, ``<instance>.sock`` each; None: there are no links."""
        self._folder = folder
        self._lane = lane
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._on_answer = on_answer
        self._tell_lost = on_lost
        self._pings = pings
        # All by the ids of instances.
        self._links: dict[str, Link] = {}
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._tried: dict[str, float] = {}
        self._failed: set[str] = set()  # said in the log

    def stop(self) -> None:
        for link in self._links.copy().values():
            self.close(link.instance)
        for task in self._opening.values():
            task.cancel()
        self._opening.clear()

    def hear(self, instance: Instance, beat: Heartbeat) -> None:
        """A heartbeat. Of one that listens: be connected to it soon, if this is possible."""
        key = instance.id
        if not beat.link or self._folder is None or key in self._links or key in self._opening:
            return
        now = self._clock.monotonic()
        if instance.state in GONE or now - self._tried.get(key, -REOPEN_S) < REOPEN_S:
            return
        self._tried[key] = now
        self._opening[key] = self._loop.create_task(self._open(instance, self._folder))

    def close(self, instance: Instance) -> None:
        """An instance has ended."""
        key = instance.id
        link, task = self._links.pop(key, None), self._opening.pop(key, None)
        if link is not None:
            link.abort()
        if task is not None:
            task.cancel()
        self._tried.pop(key, None)
        self._failed.discard(key)

    def forget(self, instances: Iterable[Instance]) -> None:
        for instance in instances:
            self.close(instance)

    def lingers(self, instance: Instance) -> bool:
        """Whether answers of an instance that has ended may still be on their way here.

        Its link is then lost by itself, or soon by us.
        """
        link = self._links.get(instance.id)
        if link is None:
            return False
        if not link.lingers:
            link.lingers = True
            self._loop.call_later(LINGER_S, link.abort)
        return True

    # Connections

    async def _open(self, instance: Instance, folder: Path) -> None:
        """The path is a short one, however long the folder's is: the kernel takes 107 bytes."""
        try:
            holder = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        except OSError:  # no instance of this machine has such a folder
            self._opening.pop(instance.id, None)
            return
        try:
            made = cast("Callable[[], asyncio.Protocol]", lambda: self._new(instance))
            path = f"/proc/self/fd/{holder}/{instance.id}.sock"
            await self._loop.create_unix_connection(made, path)
        except OSError as error:
            if instance.id not in self._failed:
                self._failed.add(instance.id)
                _log.info("link_failed", **instance.names, error=str(error.strerror or error))
        finally:
            os.close(holder)
            self._opening.pop(instance.id, None)

    def _new(self, instance: Instance) -> Link:
        bytes_max = self._lane.payload_bytes_max
        return Link(instance, bytes_max, self._on_answer, self._on_made, self._on_link_lost)

    def _on_made(self, link: Link) -> None:
        instance = link.instance
        if instance.id not in self._opening:  # it has ended meanwhile
            link.abort()
            return
        self._links[instance.id] = link
        self._failed.discard(instance.id)
        instance.outbox = link.outbox
        _log.info("lane_linked", **instance.names)

    def _on_link_lost(self, link: Link, is_read: bool) -> None:
        instance = link.instance
        if self._links.get(instance.id) is not link:
            return  # closed by us
        del self._links[instance.id]
        _log.info("link_lost", **instance.names, in_flight=len(instance.flights))
        if instance.state not in GONE:
            self._pings.doubt(instance, None if is_read else link.outbox)
        self._tell_lost(instance, link.outbox)
