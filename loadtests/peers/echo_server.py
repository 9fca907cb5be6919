"""The ceiling: Headgate's own HTTP edge with an application that answers with the body it got."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from email.utils import formatdate
from typing import cast

import uvloop

from headgate.router.answers import Answer
from headgate.router.core import Refusal
from headgate.router.exchange import Exchange
from headgate.router.headers import Head
from headgate.router.http1 import Connection
from headgate.router.spool import Spool, SpoolError
from headgate.router.turns import Turns


class Echo:
    """The least that the edge asks of an application."""

    closing = False
    body_bytes_max = message_bytes_max = 8 * 1024 * 1024

    def __init__(self) -> None:
        self.date = formatdate(usegmt=True)
        self.turns = Turns()

    def spool(self, body: bytes) -> Spool:
        raise SpoolError("nothing is larger than a message here")

    def receive(self, exchange: Exchange) -> Answer | None:
        return None

    def handle(self, exchange: Exchange) -> None:
        body = exchange.body
        assert isinstance(body, bytes)
        exchange.reply(Answer(200, "content-type: application/json\r\n", body))

    def leave(self, exchange: Exchange) -> None:
        pass

    def refuse(self, refusal: Refusal, head: Head) -> Answer:
        return Answer(refusal.status, "", refusal.message.encode())


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    echo, connections = Echo(), set[Connection]()
    made = cast("Callable[[], asyncio.Protocol]", lambda: Connection(echo, connections))
    await loop.create_server(made, "127.0.0.1", port)
    gc.freeze()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
