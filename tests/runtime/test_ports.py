"""Sockets that are opened for others to accept on."""

from __future__ import annotations

import contextlib
import socket

from headgate.runtime import ports


def test_clients_wait_at_a_door_whose_process_is_away() -> None:
    port = ports.choose("127.0.0.1", 0, setting="scoring_port")
    doors = ports.listeners("127.0.0.1", port, 3)
    with contextlib.ExitStack() as stack:
        for door in doors:
            stack.enter_context(door)
            assert door.getsockname() == ("127.0.0.1", port)
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        client.sendall(b"hello")
        for door in doors:
            door.setblocking(False)
        accepted = [_accepted(door) for door in doors]
        (found,) = [each for each in accepted if each is not None]
        stack.enter_context(found)
        found.settimeout(5)
        assert found.recv(5) == b"hello"
    assert ports.is_free("127.0.0.1", port)


def test_a_name_may_stand_for_several_addresses() -> None:
    assert ports.listeners("localhost", 0, 1) == []


def _accepted(door: socket.socket) -> socket.socket | None:
    with contextlib.suppress(BlockingIOError):
        return door.accept()[0]
    return None
