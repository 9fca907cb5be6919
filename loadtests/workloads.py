"""What is asked of every server: three models, and the requests that go to them."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

MODELS = Path(__file__).parent / "models"
_JSON = "application/json"
_ROWS = [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]]
_FLAT = [float(number) for row in _ROWS for number in row]
_FLOATS = 1024 * 1024 // 4


@dataclass(frozen=True, slots=True)
class Workload:
    """A model and the request that is sent to it. ``serial_s``: how long one call takes at least,
    one after the other (0: as fast as the server can)."""

    name: str
    title: str
    body: bytes
    content_type: str = _JSON
    serial_s: float = 0.0


SMALL = Workload("small", "small JSON", json.dumps({"data": _ROWS}, separators=(",", ":")).encode())
BINARY = Workload(
    "binary",
    "1 MiB binary",
    struct.pack(f"<{_FLOATS}f", *([0.5] * _FLOATS)),
    "application/octet-stream",
)
SLOW = Workload("slow", "100 ms model", SMALL.body, serial_s=0.1)
ALL = {each.name: each for each in (SMALL, BINARY, SLOW)}

# The same two rows for servers that speak the Open Inference Protocol only.
V2 = (
    json.dumps(
        {"inputs": [{"name": "data", "shape": [2, 10], "datatype": "FP64", "data": _FLAT}]},
        separators=(",", ":"),
    ).encode(),
    _JSON,
)


@dataclass(frozen=True, slots=True)
class Target:
    """Where the requests of a workload go, and what they carry."""

    host: str
    port: int
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}{self.path}"

    def message(self, body: bytes | None = None) -> bytes:
        """The whole request as it goes over the connection."""
        body = self.body if body is None else body
        lines = [f"POST {self.path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += [f"Content-Length: {len(body)}", "", ""]
        return "\r\n".join(lines).encode() + body
