"""Large bodies are read by turns: what a turn of the loop finds is not read all at once."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import cast

from headgate.router.turns import PIECE_BYTES_MIN, Turns

READERS = 6
ROUNDS = 5


class Loop:
    """Counts the turns of the event loop."""

    def __init__(self) -> None:
        self.turn = 0
        self._count()

    def _count(self) -> None:
        self.turn += 1
        asyncio.get_running_loop().call_soon(self._count)


class Reader(asyncio.Protocol):
    """A connection with a body that never ends: in place of what it has read comes more."""

    def __init__(self, turns: Turns, loop: Loop, other_end: socket.socket) -> None:
        self.read_in: list[int] = []  # turns of the loop
        self._turns = turns
        self._loop = loop
        self._other_end = other_end
        self.send()

    def send(self) -> None:
        try:
            while True:
                self._other_end.send(bytes(64 * 1024))
        except BlockingIOError:
            pass

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.read_in.append(self._loop.turn)
        self.send()
        self._turns.take(self.transport, len(data))


@asynccontextmanager
async def connected() -> AsyncIterator[list[Reader]]:
    """Readers that all find something from the first turn on."""
    turns, loop, readers = Turns(), Loop(), []
    with ExitStack() as sockets:
        for _ in range(READERS):
            ours, other = map(sockets.enter_context, socket.socketpair())
            other.setblocking(False)
            other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * PIECE_BYTES_MIN)
            readers.append(Reader(turns, loop, other))
            await asyncio.get_running_loop().create_unix_connection(
                partial(readers.__getitem__, -1), sock=ours
            )
        async with asyncio.timeout(30):
            yield readers
        for reader in readers:
            reader.transport.abort()
        await asyncio.sleep(0)  # now they are closed


async def until_read(readers: list[Reader], times: int) -> None:
    """All of them, in so many turns of the loop."""
    while min(len(set(reader.read_in)) for reader in readers) < times:
        await asyncio.sleep(0)


async def test_a_turn_of_the_loop_is_one_connections_and_all_get_theirs() -> None:
    async with connected() as readers:
        await until_read(readers, 2)
        begun = max(reader.read_in[-1] for reader in readers)
        await until_read(readers, 2 + ROUNDS)
    read_in = [{turn for turn in reader.read_in if turn > begun} for reader in readers]
    assert max(Counter(turn for turns in read_in for turn in turns).values()) == 1
    assert max(map(len, read_in)) - min(map(len, read_in)) <= 1


async def test_one_that_ends_while_it_waits_holds_up_nobody() -> None:
    async with connected() as readers:
        await until_read(readers, 2)
        readers[0].transport.abort()
        await until_read(readers[1:], 2 + ROUNDS)
