"""Routers of this machine that talk to us directly: the bus's messages without the bus between.

A router that finds our socket sends there what it would send to our subject. Its answers leave the
same way as long as it is there, and by the bus after that.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Optional, cast

from headgate_worker.inbox import Inbox
from headgate_worker.nats import Connection

BACKLOG = 64
# So much the kernel holds, if it may: an answer that leaves in few pieces wakes its reader seldom.
SEND_BUFFER_BYTES = 4 * 1024 * 1024

Handler = Callable[[str, str, memoryview], None]


class Link(Connection):
    """A connection of one router. Neither side greets."""

    reply = ""  # where its answers go: the subject that they would have on the bus

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        super().connection_made(transport)

    def _head(self, subject: str, size: int) -> bytes:
        return b"MSG %b 1 %d" % (subject.encode(), size)


class Links:
    """The socket ``<folder>/<instance>.sock`` and who has come to it. Lives on the loop.

    ``handler`` hears what comes, from whichever thread reads the inbox.
    """

    def __init__(
        self, folder: str, instance: str, handler: Handler, report: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._name = f"{instance}.sock"
        self._handler = handler
        self._report = report
        self._inbox: Optional[Inbox] = None
        self._by_reply: dict[str, Link] = {}
        self._open: set[Link] = set()
        self._server: Optional[asyncio.AbstractServer] = None

    @property
    def listening(self) -> bool:
        return self._server is not None

    async def listen(self, inbox: Optional[Inbox]) -> None:
        """Lets routers come; what they say is read by the inbox, or on the loop without one."""
        self._inbox = inbox
        try:
            listener = _listener(self._folder, self._name)
        except OSError as error:
            self._report(f"routers of this machine have to take the bus: {error}")
            return
        loop = asyncio.get_running_loop()
        made = cast("Callable[[], asyncio.Protocol]", self._link)
        self._server = await loop.create_unix_server(made, sock=listener, backlog=BACKLOG)

    def answer_now(self, subject: str, payload: bytes) -> bool:
        """From any thread: says it to the router that asked. False when it has to go by the bus."""
        link = self._by_reply.get(subject)
        return link is not None and link.publish_now(subject, payload)

    def close(self) -> None:
        """No router can come any more, and those that are here leave."""
        if self._server is not None:
            self._server.close()
            self._server = None
            with suppress(OSError):
                os.unlink(os.path.join(self._folder, self._name))
        for link in list(self._open):
            link.close()

    def _link(self) -> Link:
        link: Link

        def heard(sid: bytes, subject: str, reply: str, payload: memoryview) -> None:
            if reply != link.reply:
                link.reply = reply
                self._by_reply[reply] = link
            try:
                self._handler(subject, reply, payload)
            except Exception as error:
                self._report(f"a message on {subject} was dropped: {error!r}")

        link = Link(heard, lambda: None, self._report)
        link.on_made = self._came
        link.lost.add_done_callback(lambda _: self._left(link))
        return link

    def _came(self, link: Connection) -> None:
        assert isinstance(link, Link)
        self._open.add(link)
        # uvloop begins to read after this call, so it is too early to tell it not to.
        asyncio.get_running_loop().call_soon(self._hand_over, link)

    def _hand_over(self, link: Link) -> None:
        if self._inbox is not None and link in self._open:
            self._inbox.attach(link)

    def _left(self, link: Link) -> None:
        self._open.discard(link)
        if self._inbox is not None:
            self._inbox.detach(link)
        if self._by_reply.get(link.reply) is link:
            del self._by_reply[link.reply]


def _listener(folder: str, name: str) -> socket.socket:
    """A socket bound to that name: through an open folder, because such paths must be short."""
    holder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=holder)
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(f"/proc/self/fd/{holder}/{name}")
        except OSError:
            listener.close()
            raise
        return listener
    finally:
        os.close(holder)
