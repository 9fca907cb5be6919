"""Clients that send a byte a second each: a process of its own that takes little of the machine.

They stand for clients elsewhere, so what they cost here must not count: one thread that goes round
all of them, without an event loop, and with what processor time the others leave. ``sink`` is the
control: a process that takes their bytes and does nothing with them.

The crowd says when all are connected, goes on until it is ended (SIGTERM), and then says how many
bytes it has sent; the sink says its port.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path

BYTE_EVERY_S = 1.0
_TICK_S = 0.001
# No more at once than a server's backlog takes.
_CONNECTED_AT_ONCE, _BREATH_S = 50, 0.01
_LEAST = 19


class Dawdler:
    """One client: half of them dawdle over the headers and come again when shown the door, the
    others send the headers at once and dawdle over the body."""

    def __init__(self, address: tuple[str, int], head: bytes, *, over_head: bool) -> None:
        self._address = address
        self._head = head
        self._over_head = over_head
        self._socket: socket.socket | None = None
        self._at = 0

    def connect(self) -> None:
        self._at = 0
        self._socket = socket.create_connection(self._address)
        self._socket.setblocking(False)
        if not self._over_head:
            self._socket.send(self._head)

    def send(self) -> int:
        """Send a byte, or connect; the number of bytes sent."""
        try:
            if self._socket is None:
                self.connect()
                return 0
            byte = self._head[self._at : self._at + 1] if self._over_head else b" "
            self._at += 1
            return self._socket.send(byte)
        except OSError:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
            return 0


def dawdle(clients: list[Dawdler]) -> None:
    """All of them, one after the other, evenly over each second."""
    going = True

    def end(*_: object) -> None:
        nonlocal going
        going = False

    signal.signal(signal.SIGTERM, end)
    for number, client in enumerate(clients):
        client.connect()
        if number % _CONNECTED_AT_ONCE == 0:
            time.sleep(_BREATH_S)
    print("connected", flush=True)
    begun, steps, sent = time.monotonic(), 0, 0
    while going:
        time.sleep(_TICK_S)
        due = int((time.monotonic() - begun) / BYTE_EVERY_S * len(clients))
        for step in range(steps, due):
            sent += clients[step % len(clients)].send()
        steps = due
    print(sent, flush=True)


def sink() -> None:
    """Take what comes, until ended."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)
    clients: dict[int, socket.socket] = {}
    poll = select.epoll()
    poll.register(listener)
    while True:
        for file, _ in poll.poll():
            if file != listener.fileno():
                if not clients[file].recv(65_536):
                    clients.pop(file).close()
                continue
            with contextlib.suppress(BlockingIOError):
                client, _address = listener.accept()
                clients[client.fileno()] = client
                poll.register(client, select.EPOLLIN)


def stand_back() -> None:
    """Run when nobody else wants to: this process, and its session where sessions share alike."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(_LEAST))


def main(what: str, *arguments: str) -> None:
    if what == "sink":
        sink()
        return
    stand_back()
    count, host, port, path, authorization = arguments
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {authorization}\r\n"
        "Content-Type: application/json\r\nContent-Length: 4000\r\n\r\n"
    ).encode()
    address = host, int(port)
    dawdle([Dawdler(address, head, over_head=number % 2 == 1) for number in range(int(count))])


if __name__ == "__main__":
    main(*sys.argv[1:])
