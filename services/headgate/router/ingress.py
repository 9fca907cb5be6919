"""The HTTP ingress: which URL means what, the listening socket, and its orderly end.

``/api/v1/endpoint/<endpoint>/score``, ``.../swagger.json`` and ``.../v2`` on any host, ``/score``,
``/swagger.json`` and ``/v2`` on ``<endpoint>.<any domain>``; ``/livez`` and ``/readyz``. Preflight
requests (OPTIONS) need the key like all others: they reach the user's code.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from email.utils import formatdate
from typing import Any, cast

from headgate.router import answers, core
from headgate.router.answers import Answer
from headgate.router.arrivals import Target
from headgate.router.core import Refusal
from headgate.router.exchange import Exchange
from headgate.router.headers import Head
from headgate.router.http1 import Connection
from headgate.router.scoring import Admission, Scoring, new_ids
from headgate.router.spool import Spool
from headgate.router.turns import Turns
from headgate.runtime.clock import Clock
from headgate.runtime.log import Log
from headgate.runtime.networks import Network, comes_from
from headgate.runtime.ports import BACKLOG
from headgate_contracts import limits

METHODS = ("GET", "POST", "OPTIONS")
_PREFIX = "/api/v1/endpoint/"
_SCORE, _SWAGGER = "/score", "/swagger.json"
_HEALTH = ("/livez", "/readyz")

CONNECTIONS_MAX = 8_192
GOODBYE_S = 1.0  # how long idle clients may still send, and learn that the connection closes
TLS_HANDSHAKE_TIMEOUT_S = 10.0
_CHECK_S = 0.5
_CHECKED_AT_ONCE, _BREATH_S = 128, 0.01  # a scoring request waits for no more than these
_POLL_S = 0.05

_log = Log("router")


class Place:
    """What a URL of an endpoint means."""

    __slots__ = ("endpoint", "query", "target")

    def __init__(self, endpoint: str, target: Target, query: str) -> None:
        self.endpoint = endpoint
        self.target = target
        self.query = query


class _Door(Connection):
    """A connection that tells who is at its other end."""

    @property
    def peer(self) -> str:
        name = self._transport.get_extra_info("peername")
        return str(name[0]) if name else ""


class Ingress:
    """The HTTP edge of one router; the application behind its connections."""

    def __init__(
        self,
        scoring: Scoring,
        is_ready: Callable[[], bool],
        clock: Clock,
        networks: Sequence[Network] = (),
    ) -> None:
        """``networks`` have the clients of endpoints that are not public."""
        self.closing = False
        self.date = formatdate(clock.now(), usegmt=True)
        self.turns = Turns()
        self.port = 0
        self.opened = 0
        self._scoring = scoring
        self._is_ready = is_ready
        self._clock = clock
        self._networks = networks
        self._connections: set[Connection] = set()
        self._unchecked: list[Connection] = []  # of this round
        scoring.see_connections(self._connections)
        self._server: asyncio.Server | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    async def start(
        self, host: str, port: int, tls: ssl.SSLContext | None, fd: int | None = None
    ) -> None:
        """Listen there, or on the socket ``fd``; several routers may share one port."""
        where: dict[str, Any] = {"host": host, "port": port, "reuse_port": True}
        if fd is not None:
            where = {"sock": socket.socket(fileno=fd)}
        self._server = await self._loop.create_server(
            cast("Callable[[], asyncio.Protocol]", self._connect),
            ssl=tls,
            ssl_handshake_timeout=TLS_HANDSHAKE_TIMEOUT_S if tls else None,
            backlog=BACKLOG,
            **where,
        )
        server: Any = self._server  # its sockets are a tuple in asyncio, a list in uvloop
        self.port = server.sockets[0].getsockname()[1]
        self._tick()
        _log.info("listening", host=host, port=self.port, tls=tls is not None)

    async def stop(self) -> None:
        """Take no new connection, finish what is under way, let clients know, then close."""
        if self._server is None:
            return
        self.closing = True
        self._server.close()
        begun = self._clock.monotonic()
        while self._connections and self._clock.monotonic() - begun < limits.DRAIN_TIMEOUT_S:
            if self._clock.monotonic() - begun > GOODBYE_S:
                for connection in list(self._connections):
                    connection.close_if_idle()
            await asyncio.sleep(_POLL_S)
        if self._ticking is not None:
            self._ticking.cancel()
        for connection in list(self._connections):
            connection.abort()

    @property
    def connections(self) -> int:
        """How many are open; ``opened`` is how many there have been."""
        return len(self._connections)

    def _connect(self) -> Connection:
        self.opened += 1
        return _Door(self, self._connections)

    # What http1 asks

    @property
    def body_bytes_max(self) -> int:
        return self._scoring.body_bytes_max

    @property
    def message_bytes_max(self) -> int:
        return self._scoring.message_bytes_max

    def spool(self, body: bytes) -> Spool:
        return self._scoring.spool(body)

    def refuse(self, refusal: Refusal, head: Head) -> Answer:
        return answers.of_refusal(refusal, new_ids(head))

    def receive(self, exchange: Exchange) -> Answer | None:
        if len(self._connections) > CONNECTIONS_MAX:
            exchange.keep_alive = False
            busy = Refusal(503, "TooManyConnections", "this router has too many connections", 1)
            return self.refuse(busy, exchange.head)
        place: Place | Answer = exchange.place or self._find(exchange)
        if isinstance(place, Answer):
            return place
        exchange.place = place
        admission = self._scoring.admit(
            place.endpoint, exchange.head, place.target, exchange.connection
        )
        if isinstance(admission, Answer):
            return admission
        if not (admission.endpoint.is_public or self._is_inside(exchange)):
            return admission.refuse(core.no_public_access())
        exchange.admission = admission
        return None

    def _is_inside(self, exchange: Exchange) -> bool:
        door = exchange.connection
        return isinstance(door, _Door) and comes_from(door.peer, self._networks)

    def handle(self, exchange: Exchange) -> None:
        admission: Admission = exchange.admission
        exchange.ticket = self._scoring.submit(
            admission, exchange.place.query, exchange.body, exchange.reply
        )

    def _find(self, exchange: Exchange) -> Place | Answer:
        """What the URL means, or the answer when that is no scoring."""
        path, _, query = _origin_form(exchange.url).partition("?")
        if path in _HEALTH:
            return self._health(path, exchange)
        endpoint, known = _resolve(path, exchange.head.host)
        if not known:
            refusal = core.nothing_served(path)
            return self.refuse(refusal, exchange.head)
        if exchange.method not in METHODS:
            return self._wrong_method(exchange, METHODS)
        protocol = "HTTP/1.0" if exchange.version_1_0 else "HTTP/1.1"
        return Place(endpoint, Target(exchange.method, known, protocol), query)

    def leave(self, exchange: Exchange) -> None:
        if exchange.ticket is not None:
            self._scoring.leave(exchange.ticket)

    def _health(self, path: str, exchange: Exchange) -> Answer:
        if exchange.method not in ("GET", "HEAD"):
            return self._wrong_method(exchange, ("GET", "HEAD"))
        if path == "/readyz" and not self._is_ready():
            return self.refuse(core.bus_down(), exchange.head)
        return Answer(200, "content-type: text/plain\r\n", b"ok\n")

    def _wrong_method(self, exchange: Exchange, allowed: tuple[str, ...]) -> Answer:
        listed = ", ".join(allowed)
        refusal = Refusal(
            405, "MethodNotAllowed", f"{exchange.method} is not allowed here, only {listed}"
        )
        answer = self.refuse(refusal, exchange.head)
        answer.add("allow", listed)
        return answer

    def _tick(self) -> None:
        """Once in a while: the date header, and the time limits of all connections."""
        if not self._unchecked:
            self.date = formatdate(self._clock.now(), usegmt=True)
            self._unchecked = list(self._connections)
        chosen = self._unchecked[-_CHECKED_AT_ONCE:]
        del self._unchecked[-_CHECKED_AT_ONCE:]
        wait_s = _BREATH_S if self._unchecked else _CHECK_S
        self._ticking = self._loop.call_later(wait_s, self._tick)
        now = self._loop.time()
        for connection in chosen:
            if connection in self._connections:
                connection.check(now)


def _origin_form(url: bytes) -> str:
    """Path and query of a request target; proxies send the whole URL."""
    target = url.decode("latin-1")
    if target.startswith("/"):
        return target
    scheme, separator, rest = target.partition("://")
    if separator and scheme.lower() in ("http", "https"):
        return "/" + rest.partition("/")[2]
    return target


def _resolve(path: str, host: str) -> tuple[str, str]:
    """Endpoint and the path for its worker; an empty path when nothing is there."""
    if path.startswith(_PREFIX):
        endpoint, slash, rest = path[len(_PREFIX) :].partition("/")
        rest = slash + rest
    else:
        label, dot, _ = host.partition(".")
        endpoint, rest = (label.lower() if dot else ""), path
    known = rest in (_SCORE, _SWAGGER, answers.V2) or rest.startswith(
        (f"{_SCORE}/", f"{answers.V2}/")
    )
    clean = ".." not in rest and "//" not in rest and "%" not in rest
    return endpoint, rest if known and clean else ""
