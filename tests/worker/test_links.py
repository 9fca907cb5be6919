"""A router's direct connection to an instance: who reads it."""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import uvloop

from headgate_worker.inbox import Inbox
from headgate_worker.links import Handler, Links

INSTANCE = "i1"
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "uvloop"])
def test_a_link_is_read_by_the_models_thread_alone(new_loop, tmp_path):
    readers: queue.Queue[int] = queue.Queue()

    def heard(*_: object) -> None:
        readers.put(threading.get_ident())

    with listening(new_loop, tmp_path, heard) as model, router(tmp_path) as wire:

        def send() -> int:
            wire.sendall(b"MSG subject 1 reply 2\r\nhi\r\n")
            return readers.get(timeout=10)

        while send() != model.ident:
            pass  # what came before it was handed over
        assert {send() for _ in range(300)} == {model.ident}


@contextmanager
def listening(new_loop, folder: Path, handler: Handler) -> Iterator[threading.Thread]:
    """A bus's thread with a loop that lets routers come, and a model's thread, which is given."""
    loop, inbox = new_loop(), Inbox(before_waiting=lambda: None)
    links = Links(str(folder), INSTANCE, handler, print)
    model = threading.Thread(target=wait_for_work, args=(inbox,))
    bus = threading.Thread(target=loop.run_forever)
    model.start()
    bus.start()
    try:
        asyncio.run_coroutine_threadsafe(links.listen(inbox), loop).result()
        yield model
    finally:
        loop.call_soon_threadsafe(links.close)
        inbox.put(None)
        model.join()
        loop.call_soon_threadsafe(loop.stop)
        bus.join()
        loop.close()


def wait_for_work(inbox: Inbox) -> None:
    while True:
        with suppress(queue.Empty):
            if inbox.get() is None:
                return


@contextmanager
def router(folder: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as wire:
        wire.connect(str(folder / f"{INSTANCE}.sock"))
        yield wire
