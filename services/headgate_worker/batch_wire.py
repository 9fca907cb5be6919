"""What an agent and the processes of a node say to each other: JSON with a body, length first."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, Optional

_LENGTHS = struct.Struct(">II")
BYTES_MAX = 64 * 1024 * 1024


def packed(said: dict[str, Any], body: bytes = b"") -> bytes:
    """One message as it is sent."""
    head = json.dumps(said, separators=(",", ":")).encode()
    return _LENGTHS.pack(len(head), len(body)) + head + body


class Channel:
    """One end of a connection, blocking, for one thread."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self._held = b""

    def send(self, said: dict[str, Any], body: bytes = b"") -> None:
        self.socket.sendall(packed(said, body))

    def receive(self) -> Optional[dict[str, Any]]:
        """The next message; None when the other side has gone. Bodies come to agents only."""
        lengths = self._exactly(_LENGTHS.size)
        if lengths is None:
            return None
        head_bytes, body_bytes = _LENGTHS.unpack(lengths)
        if head_bytes + body_bytes > BYTES_MAX:
            raise ValueError("a message is too long")
        head = self._exactly(head_bytes + body_bytes)
        if head is None:
            return None
        said: dict[str, Any] = json.loads(head[:head_bytes])
        return said

    @property
    def has_more(self) -> bool:
        """Whether a part of the next message has been read already."""
        return bool(self._held)

    def _exactly(self, size: int) -> Optional[bytes]:
        while len(self._held) < size:
            try:
                chunk = self.socket.recv(max(65_536, size - len(self._held)))
            except OSError:
                return None
            if not chunk:
                return None
            self._held += chunk
        found, self._held = self._held[:size], self._held[size:]
        return found
