"""The agent's end of the connections to a node's processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

SOCKET = "agent.sock"
_LENGTHS = struct.Struct(">II")
BYTES_MAX = 64 * 1024 * 1024  # as headgate_worker.batch_wire has it


class Peer:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def has_gone(self) -> bool:
        return self._reader.at_eof()

    def send(self, said: dict[str, Any]) -> None:
        """Said now; a peer that has gone is noticed by whoever reads."""
        head = json.dumps(said, separators=(",", ":")).encode()
        self._writer.write(_LENGTHS.pack(len(head), 0) + head)

    async def receive(self) -> tuple[dict[str, Any], bytes]:
        """The next message and its body. Raises ConnectionError when the peer has gone."""
        try:
            head_bytes, body_bytes = _LENGTHS.unpack(await self._reader.readexactly(_LENGTHS.size))
            if head_bytes + body_bytes > BYTES_MAX:
                raise ConnectionError("a message is too long")
            whole = await self._reader.readexactly(head_bytes + body_bytes)
            said = json.loads(whole[:head_bytes])
        except (asyncio.IncompleteReadError, OSError) as error:
            raise ConnectionError(str(error)) from None
        except ValueError as error:
            raise ConnectionError(f"no message of ours: {error}") from None
        if not isinstance(said, dict):
            raise ConnectionError("no message of ours")
        return said, whole[head_bytes:]

    def close(self) -> None:
        self._writer.close()


@contextlib.asynccontextmanager
async def listening(folder: Path, serve: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[None]:
    """Hear connections to the socket in ``folder`` for the time of a ``with`` block."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        peer = Peer(reader, writer)
        try:
            await serve(peer)
        except asyncio.CancelledError:
            pass  # we are closing; asyncio would print what it cannot hand to anybody
        finally:
            tasks.discard(task)
            peer.close()

    (folder / SOCKET).unlink(missing_ok=True)
    # By way of the open folder, because the address of a socket may have 107 bytes only.
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        server = await asyncio.start_unix_server(connected, f"/proc/self/fd/{descriptor}/{SOCKET}")
    finally:
        os.close(descriptor)
    (folder / SOCKET).chmod(0o666)  # in a folder that only the node's user may enter
    try:
        yield
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
