"""Ports to listen on: the one asked for, or a free one."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Collection

from headgate_contracts.errors import ErrorCode, HeadgateError

# Outside the range that Linux takes outgoing ports from: a client that reconnects to a port of
# that range on its own machine while nobody listens there may end up connected to itself.
FREE_PORTS = range(20_000, 32_000)
_TRIES_MAX = 200


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
