"""The managed identity of the deployment, for the user's code: tokens from an address on loopback.

Speaks what Azure's clients expect: App Service's protocol (2019-08-01, ``IDENTITY_ENDPOINT`` and
``IDENTITY_HEADER``) and that of Azure Machine Learning (2017-09-01, ``MSI_ENDPOINT`` and
``MSI_SECRET``). Tokens come over the bus, on a connection of their own: the model may hold up
everything else in this process while it waits for one.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import threading
import time
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from headgate_worker.core import identity_inbox, identity_subject
from headgate_worker.settings import Settings

PATH = "/msi/token"
HEAD_BYTES_MAX = 16 * 1024
CONNECTION_TIMEOUT_S = 5.0
BUS_TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 64 * 1024
KEEP_UNTIL_BEFORE_S = 300.0  # a token that is about to expire is not handed out again
KNOWN_MAX = 64
DEFAULT_PORT = 4222
# What the two protocols call the same thing, and what the identity service calls it.
_NAMES = {
    "resource": "resource",
    "client_id": "client_id",
    "clientid": "client_id",
    "principal_id": "principal_id",
    "object_id": "principal_id",
    "mi_res_id": "name",
    "msi_res_id": "name",
}
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}
_REASONS.update({405: "Method Not Allowed", 503: "Service Unavailable"})


class Said(NamedTuple):
    """A request as far as it matters here."""

    method: str
    target: str
    headers: dict[str, str]


class IdentityEndpoint:
    """Listens on loopback. Only who knows the secret from the environment gets an answer."""

    def __init__(self, chosen: Settings) -> None:
        self._chosen = chosen
        self._secret = secrets.token_urlsafe(32)
        self._known: dict[str, dict[str, Any]] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))

    def start(self, environ: MutableMapping[str, str]) -> None:
        """Begin to listen, and tell the user's code where. What the user has set stays."""
        url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{PATH}"
        if "IDENTITY_ENDPOINT" not in environ:
            environ.update(IDENTITY_ENDPOINT=url, IDENTITY_HEADER=self._secret)
        if "MSI_ENDPOINT" not in environ:
            environ.update(MSI_ENDPOINT=url, MSI_SECRET=self._secret)
        threading.Thread(target=self._serve, name="headgate-identity", daemon=True).start()

    def _serve(self) -> None:
        """One request at a time: tokens are asked for once an hour."""
        while True:
            connection, _ = self._listener.accept()
            with connection, suppress(OSError, ValueError):
                connection.settimeout(CONNECTION_TIMEOUT_S)
                said = _read(connection)
                connection.settimeout(BUS_TIMEOUT_S + CONNECTION_TIMEOUT_S)
                connection.sendall(_response(*self._answer(said)))

    def _answer(self, said: Said) -> tuple[int, dict[str, Any]]:
        shown = said.headers.get("x-identity-header") or said.headers.get("secret", "")
        if not hmac.compare_digest(shown.encode(), self._secret.encode()):
            return 401, _refusal(401, "the secret of the environment variables is needed")
        parts = urlsplit(said.target)
        if parts.path != PATH:
            return 404, _refusal(404, f"tokens are at {PATH}")
        if said.method != "GET":
            return 405, _refusal(405, "GET is possible here")
        asked = parse_qs(parts.query, max_num_fields=20)
        wanted = {_NAMES[name]: values[0] for name, values in asked.items() if name in _NAMES}
        return self._token(wanted)

    def _token(self, wanted: dict[str, str]) -> tuple[int, dict[str, Any]]:
        key = json.dumps(wanted, sort_keys=True)
        known = self._known.get(key)
        if known is not None and int(known["expires_on"]) - time.time() > KEEP_UNTIL_BEFORE_S:
            return 200, known
        try:
            answer = ask(self._chosen, key.encode())
        except (OSError, ValueError) as error:
            return 503, _refusal(503, f"the identity service does not answer: {error}; try again")
        if "access_token" not in answer:
            problem = answer.get("error") or {}
            return 400, _refusal(400, str(problem.get("message", "no token was given")))
        answer["expires_on"] = str(answer["expires_on"])
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[key] = answer
        return 200, answer


def _read(connection: socket.socket) -> Said:
    """The head of a request; a body is nobody's business here."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        chunk = connection.recv(4096)
        raw += chunk
        if not chunk or len(raw) > HEAD_BYTES_MAX:
            raise ValueError("no whole request")
    lines = raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ", 2)
    pairs = (line.partition(":") for line in lines[1:])
    return Said(method, target, {name.strip().lower(): value.strip() for name, _, value in pairs})


def _response(status: int, body: dict[str, Any]) -> bytes:
    raw = json.dumps(body).encode()
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(raw)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + raw


def _refusal(status: int, message: str) -> dict[str, Any]:
    """In the form that Azure's clients show to their users."""
    return {"statusCode": status, "message": message}


def ask(chosen: Settings, question: bytes) -> dict[str, Any]:
    """One question to the identity service, on a connection of its own.

    Raises OSError when the bus does not do its part, ValueError for an answer without sense.
    """
    failure: Exception = OSError("no address of the bus is known")
    for url in chosen.bus_urls:
        try:
            return _ask(url, chosen, question)
        except OSError as error:
            failure = error
    raise failure


def _ask(url: str, chosen: Settings, question: bytes) -> dict[str, Any]:
    parts = urlsplit(url if "//" in url else f"nats://{url}")
    address = (parts.hostname or "127.0.0.1", parts.port or DEFAULT_PORT)
    # The server counts the answers to a reply subject, so every question has one of its own.
    inbox = f"{identity_inbox(chosen.instance)}.{secrets.token_hex(8)}"
    subject = identity_subject(chosen.endpoint, chosen.deployment, chosen.instance)
    hello: dict[str, Any] = {"verbose": False, "pedantic": False, "name": "headgate-identity"}
    hello.update(lang="headgate", version="1", protocol=1, headers=True, no_responders=True)
    if chosen.token_file:
        with open(chosen.token_file, encoding="utf-8") as file:  # renewed while we live
            hello["jwt"] = file.read().strip()
    with socket.create_connection(address, BUS_TIMEOUT_S) as connection:
        connection.settimeout(BUS_TIMEOUT_S)
        with connection.makefile("rb") as lines:
            lines.readline(1024 * 1024)  # INFO
            connection.sendall(
                b"CONNECT %s\r\nSUB %s 1\r\nPUB %s %s %d\r\n%s\r\n"
                % (
                    json.dumps(hello).encode(),
                    inbox.encode(),
                    subject.encode(),
                    inbox.encode(),
                    len(question),
                    question,
                )
            )
            return _await(connection, lines)


def _await(connection: socket.socket, lines: Any) -> dict[str, Any]:
    """The first message that comes."""
    while True:
        line = lines.readline(64 * 1024)
        if not line:
            raise OSError("the bus closed the connection")
        fields = line.split()
        if fields[:1] == [b"PING"]:
            connection.sendall(b"PONG\r\n")
        elif fields[:1] == [b"-ERR"]:
            raise OSError(f"the bus says {line.decode('utf-8', 'replace').strip()}")
        elif fields[:1] == [b"HMSG"]:
            raise OSError("nobody answers there")
        elif fields[:1] == [b"MSG"]:
            size = int(fields[-1])
            if size > ANSWER_BYTES_MAX:
                raise ValueError("an answer that is too large")
            found = json.loads(lines.read(size))
            if not isinstance(found, dict):
                raise ValueError("an answer that is no object")
            return found
