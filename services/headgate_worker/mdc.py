"""Where ``azureml-ai-monitoring`` sends what a script collects: an address on loopback.

Azure runs a collector of its own beside every container; the package finds it by
``AZUREML_MDC_HOST`` and ``AZUREML_MDC_PORT``, and what is enabled by the file that
``AZUREML_MDC_CONFIG_PATH`` names. Whatever sampling says, the package sends everything: what is
kept is decided here, so that all events of one correlation id are kept or none.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import MutableMapping
from contextlib import suppress

from headgate_worker import collecting, collector
from headgate_worker.collecting import Event

PATH = "/modeldata/log"
CONFIG = ".mdc-config.json"
HEAD_BYTES_MAX = 32 * 1024
BODY_BYTES_MAX = 8 * 1024 * 1024
CONNECTION_TIMEOUT_S = 5.0
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 413: "Content Too Large"}
_REASONS.update({429: "Too Many Requests"})
_PREFIX = "ce-"
_OWN: tuple[str, ...] = ("ce-time", "ce-type", "ce-x-request-id", "ce-model-version", "ce-agent")
_OWN += ("ce-collect-data-type",)


class Listener:
    """Takes events for a collector."""

    def __init__(self, to: collector.Collector) -> None:
        self._to = to
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)

    def start(self, folder: str, environ: MutableMapping[str, str]) -> None:
        """Begin to listen, and tell the script's packages where. What the user has set stays."""
        custom = [n for n in self._to.plan.collections if collector.custom(self._to.plan, n)]
        every = {name: {"enabled": True, "sampleRatePercentage": 100} for name in custom}
        path = os.path.join(folder, f"{CONFIG}.{os.getpid()}")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"collections": every, "runMode": "cloud"}, file)
        environ.setdefault("AZUREML_MDC_CONFIG_PATH", path)
        environ.setdefault("AZUREML_MDC_HOST", "127.0.0.1")
        environ.setdefault("AZUREML_MDC_PORT", str(self._socket.getsockname()[1]))
        threading.Thread(target=self._serve, name="headgate-mdc", daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection, suppress(OSError, ValueError):
                connection.settimeout(CONNECTION_TIMEOUT_S)
                status, said = self._answer(connection)
                connection.sendall(_response(status, said))

    def _answer(self, connection: socket.socket) -> tuple[int, str]:
        raw = bytearray()
        while b"\r\n\r\n" not in raw:
            chunk = connection.recv(64 * 1024)
            raw += chunk
            if not chunk or len(raw) > HEAD_BYTES_MAX + BODY_BYTES_MAX:
                return 400, "no whole request"
        head, _, rest = bytes(raw).partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        pairs = (line.partition(":") for line in lines[1:])
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        size = int(headers.get("content-length", "0"))
        if size > BODY_BYTES_MAX:
            return 413, f"an event can have at most {BODY_BYTES_MAX} bytes"
        body = bytearray(rest)
        while len(body) < size:
            chunk = connection.recv(min(256 * 1024, size - len(body)))
            if not chunk:
                return 400, "no whole request"
            body += chunk
        if method != "POST" or target.partition("?")[0] != PATH:
            return 404, f"events are posted to {PATH}"
        return self._take(headers, bytes(body))

    def _take(self, headers: dict[str, str], body: bytes) -> tuple[int, str]:
        name = headers.get("ce-type", "")[len(collecting.TYPE) :]
        found = collector.custom(self._to.plan, name)
        if found is None:
            return 400, f"collection {name[:80]} is not enabled"
        request_id = headers.get("ce-x-request-id", "")
        if not collecting.sampled(request_id, found.rate):
            return 200, "dropped_sampling"
        other = {
            name[len(_PREFIX) :]: value
            for name, value in headers.items()
            if name.startswith(_PREFIX) and name not in _OWN
        }
        about = {
            **collecting.attributes(other),
            "modelversion": headers.get("ce-model-version", ""),
            "collectdatatype": headers.get("ce-collect-data-type", ""),
            "agent": headers.get("ce-agent", ""),
        }
        kind = headers.get("content-type", "")
        event = Event(found, _time(headers.get("ce-time", "")), request_id, kind, body, about)
        return (200, "accepted") if self._to.add(event) else (429, "queue is full")


def _time(text: str) -> float:
    """Unix seconds; now, when that is not what was sent."""
    try:
        at = float(text)
    except ValueError:
        return time.time()
    return at if 0 <= at < 2**32 else time.time()


def _response(status: int, said: str) -> bytes:
    body = said.encode("utf-8", "replace")
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: text/plain\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
