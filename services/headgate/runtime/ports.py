"""Ports to listen on: the one asked for, or a free one."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Collection

from headgate_contracts.errors import ErrorCode, HeadgateError

# Outside the range that Linux takes outgoing ports from: a client that reconnects to a port of
# that range on its own machine while nobody listens there may end up connected to itself.
FREE_PORTS = range(20_000, 32_000)
_TRIES_MAX = 200
BACKLOG = 1_024


def choose(host: str, port: int, *, setting: str, avoid: Collection[int] = ()) -> int:
    """``port`` itself if nobody listens there, or a free one for 0. Raises HeadgateError."""
    if port:
        if not is_free(host, port):
            raise HeadgateError(
                ErrorCode.RESOURCE_CONFLICT,
                f"port {port} on {host} is taken by another program; choose another "
                f"{setting.replace('_', '-')}, or 0 for a free one",
                target=setting,
            )
        return port
    for _ in range(_TRIES_MAX):
        candidate = secrets.choice(FREE_PORTS)
        if candidate not in avoid and is_free(host, candidate):
            return candidate
    raise HeadgateError(
        ErrorCode.UNAVAILABLE,
        f"no free port on {host} between {FREE_PORTS.start} and {FREE_PORTS.stop - 1}",
        target=setting,
    )


def is_free(host: str, port: int) -> bool:
    """Whether a listener can be opened there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def listeners(host: str, port: int, count: int) -> list[socket.socket]:
    """So many sockets that listen there, each for a process; the kernel spreads clients over them.

    Whoever holds one keeps its clients waiting while the process behind it is away: they are not
    refused. None for a host that is a name, which may stand for several addresses.
    """
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return []
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    return [
        socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=True)
        for _ in range(count)
    ]
