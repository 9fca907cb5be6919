"""A way from containers to the bus: a UNIX socket in a folder that they see.

Runs as a process of its own, so that scoring goes on while the control services are restarted. So
the bus listens on loopback only, and a container without a network still hears its requests. When
the ``headgate up`` that it belongs to is gone, it ends the containers, as processes end themselves.

    python -m headgate.provisioner.drivers.relay <folder> <bus urls> <installation> <pid:start>
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from headgate.provisioner.drivers.containers import LABEL_PREFIX, SOCKET
from headgate.provisioner.drivers.engine import Engine
from headgate.runtime import procs

if TYPE_CHECKING:
    from docker.models.containers import Container

CONNECTIONS_MAX = 4_096
CONNECT_TIMEOUT_S = 3.0
BUFFER_BYTES_MAX = 1024 * 1024
STOP_CONTAINER_S = 10
DEFAULT_PORT = 4222


class Side(asyncio.Protocol):
    """One end of a relayed connection. What one reads, the other writes, at the slower's pace."""

    def __init__(self, other: Side | None = None) -> None:
        self.transport: asyncio.Transport | None = None
        self.other = other
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=BUFFER_BYTES_MAX)

    def join(self, other: Side) -> None:
        """From now on both belong together."""
        self.other, other.other = other, self
        assert other.transport is not None
        other.transport.writelines(self._early)
        self._early.clear()

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)
        else:
            self._early.append(data)  # a client speaks only after the server's greeting

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class Relay:
    """Joins each client of the socket with a connection of its own to the bus."""

    def __init__(self, urls: str) -> None:
        parts = [urlsplit(url.strip()) for url in urls.split(",")]
        self._servers = [(p.hostname or "127.0.0.1", p.port or DEFAULT_PORT) for p in parts]
        self._joining: set[asyncio.Task[None]] = set()
        self._open = 0

    def accept(self) -> Side:
        """The protocol of a new client."""
        return _Client(self)

    def arrived(self, client: Side) -> None:
        self._open += 1
        if self._open > CONNECTIONS_MAX and client.transport is not None:
            client.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._join(client))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    def left(self) -> None:
        self._open -= 1

    async def _join(self, client: Side) -> None:
        loop = asyncio.get_running_loop()
        for host, port in self._servers:
            server = Side(client)
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await loop.create_connection(partial(_itself, server), host, port)
                client.join(server)
                return
        if client.transport is not None:
            client.transport.abort()


def _itself(side: Side) -> Side:
    return side


class _Client(Side):
    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self._relay = relay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._relay.arrived(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._relay.left()


async def serve(urls: str, installation: str, supervisor: str) -> None:
    """Relay until a signal, or until the supervisor has ended; then end the containers."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    listening = await loop.create_unix_server(Relay(urls).accept, SOCKET)
    watching = asyncio.create_task(_await_end(supervisor, over)) if supervisor else None
    await over.wait()
    if watching is not None:
        watching.cancel()
    await end_containers(installation)
    listening.close()


async def _await_end(supervisor: str, over: asyncio.Event) -> None:
    if procs.is_running(supervisor):
        await procs.wait_ended(int(supervisor.partition(":")[0]))
    over.set()


async def end_containers(installation: str) -> None:
    """Stop every container of this installation, requests finished first."""
    engine = Engine()
    if not await engine.answers():
        return
    label = f"{LABEL_PREFIX}installation={installation}"
    found = await engine.call(lambda client: client.containers.list(filters={"label": label}))

    def stop(_: object, container: Container) -> None:
        container.stop(timeout=STOP_CONTAINER_S)

    stops = (engine.call(partial(stop, container=container)) for container in found)
    await asyncio.gather(*stops, return_exceptions=True)


def main() -> None:
    folder, urls, installation, supervisor = sys.argv[1:5]
    os.chdir(folder)  # the path of a socket is short
    os.umask(0)  # who may enter the folder may speak; the bus asks who they are
    Path(SOCKET).unlink(missing_ok=True)
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(urls, installation, supervisor))
        return
    uvloop.run(serve(urls, installation, supervisor))


if __name__ == "__main__":
    main()
