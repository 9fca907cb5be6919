"""The worker's place on the bus: stays connected, and loses no answer that is still wanted.

An answer is kept until the server has confirmed that it has read it (the PONG of a later PING).
So one that was finished while the bus was away, or that went down with a connection, is said again
after reconnecting, unless its deadline has passed: at once and some moments later, because the
router may come back after us and a router ignores what it has heard already.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, Optional, cast
from urllib.parse import urlsplit

from headgate_worker.core import BUS_PAYLOAD_BYTES_MAX, reconnect_delay_max_s
from headgate_worker.inbox import Inbox
from headgate_worker.kept import Kept
from headgate_worker.nats import Connection, Handler, RefusedError, is_refusal

HANDSHAKE_TIMEOUT_S = 3.0
PING_INTERVAL_S = 2.0
PINGS_UNANSWERED_MAX = 2
CONFIRM_AFTER_S = 0.05
SAY_AGAIN_AFTER_S = (0.3, 1.0)
REFUSALS_MAX = 5
DEFAULT_PORT = 4222


class _Subscription(NamedTuple):
    subject: str
    queue: str
    handler: Handler
    anywhere: bool


class Bus:
    """A connection that comes back. Used on its event loop only, but for ``answer_now``.

    Handlers are called there too, but for those that may be called ``anywhere``: after ``lend``
    they are called by whoever reads the connection.
    """

    def __init__(
        self,
        urls: tuple[str, ...],
        token_file: str,
        name: str,
        *,
        report: Callable[[str], None],
    ) -> None:
        self._urls = urls
        self._token_file = token_file
        self._name = name
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._connection: Optional[Connection] = None
        self._connected = asyncio.Event()
        self._closing = asyncio.Event()
        self._was_connected = False
        self._forbidden = ""
        self._subscriptions: dict[int, _Subscription] = {}
        self._handlers: dict[bytes, _Subscription] = {}
        self._inbox: Optional[Inbox] = None
        self._last_sid = 0
        self._subscribed: set[int] = set()  # by the time the connection was opened
        self._lock = threading.Lock()  # what is kept, and its order with what is written
        self._kept = Kept()
        self._confirming = False
        self._settling = False  # just reconnected: the router may not hear us yet
        # For each PING that is under way: the last answer before it, and who waits for its PONG.
        self._pongs: deque[tuple[int, Optional[asyncio.Future[bool]]]] = deque()
        self._unanswered = 0
        self.max_payload = BUS_PAYLOAD_BYTES_MAX
        self.on_connect: Callable[[], None] = lambda: None
        self.on_lost: Callable[[], None] = lambda: None

    @property
    def connected(self) -> bool:
        return self._connection is not None

    # -- saying -------------------------------------------------------------------------------

    def publish(self, subject: str, payload: bytes) -> None:
        """Said now or never: dropped while the bus is away."""
        if self._connection is not None:
            self._connection.publish(subject, payload)
            self._confirm_soon()  # at the latest with the next heartbeat

    def answer(self, subject: str, payload: bytes, deadline_ms: float) -> None:
        """Said now, and after a reconnect again until ``deadline_ms`` (monotonic clock)."""
        with self._lock:  # a PING after this confirms it, one before does not
            self._kept.add(subject, payload, deadline_ms)
            if self._connection is not None:
                self._connection.publish(subject, payload)
        self._confirm_soon()

    def answer_now(self, subject: str, payload: bytes, deadline_ms: float) -> None:
        """The same from any thread. It may overtake what the loop is about to write."""
        with self._lock:
            self._kept.add(subject, payload, deadline_ms)
            if self._connection is not None:
                self._connection.publish_now(subject, payload)

    def subscribe(
        self, subject: str, queue: str, handler: Handler, *, anywhere: bool = False
    ) -> int:
        """Hears a subject as a member of a queue group, also after every reconnect."""
        self._last_sid += 1
        sid = self._last_sid
        subscription = _Subscription(subject, queue, handler, anywhere)
        self._subscriptions[sid] = self._handlers[b"%d" % sid] = subscription
        if self._connection is not None:
            self._connection.subscribe(sid, subject, queue)
        return sid

    def unsubscribe(self, sid: int) -> None:
        """Messages that are under way still reach the handler: flush before trusting silence."""
        del self._subscriptions[sid]
        if self._connection is not None:
            self._connection.unsubscribe(sid)

    async def flush(self, timeout_s: float) -> bool:
        """True once the server has handled all that was said before; waits for one to be there."""
        until_s = time.monotonic() + timeout_s
        await _within(self._connected.wait(), timeout_s)
        if self._connection is None:
            return False
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._ping(waiter)
        await _within(waiter, until_s - time.monotonic())
        return waiter.done() and not waiter.cancelled() and waiter.result()

    async def settle(self, timeout_s: float) -> bool:
        """Flush, and once more after each reconnect, while there are answers still wanted."""
        until_s = time.monotonic() + timeout_s
        while (left_s := until_s - time.monotonic()) > 0:
            with self._lock:
                self._kept.drop_expired(_now_ms())
            if self._connection is None and not self._kept:
                return False
            if await self.flush(left_s):
                return True
        return False

    def lend(self, inbox: Inbox) -> None:
        """What comes is read by the inbox from now on, also after a reconnect."""
        self._inbox = inbox
        if self._connection is not None and not self._connection.lost.done():
            inbox.attach(self._connection)

    def look_after_answers(self) -> None:
        """To be said now and then while the connection is lent: answers get confirmed."""
        self._confirm_soon()

    def close(self) -> None:
        self._closing.set()
        if self._connection is not None:
            self._connection.close()

    # -- staying connected --------------------------------------------------------------------

    async def run(self) -> None:
        """Connects, and again whenever the connection is lost, until ``close``.

        Raises RefusedError when the server has refused our credentials several times and has
        never accepted them.
        """
        failures = refusals = attempts = 0
        while not self._closing.is_set():
            url = self._urls[attempts % len(self._urls)]
            attempts += 1
            try:
                connection = await asyncio.wait_for(self._open(url), HANDSHAKE_TIMEOUT_S)
            except RefusedError as error:
                refusals += 1
                self._report(f"the bus refuses our credentials: {error}")
                if refusals >= REFUSALS_MAX and not self._was_connected:
                    raise
            except (OSError, asyncio.TimeoutError, ValueError) as reason:
                if failures == 0:
                    self._report(f"no connection to the bus at {url}: {reason or 'no answer'}")
            else:
                failures = 0
                await self._stay(connection)
            failures += 1
            dice = random.random()  # noqa: S311 (spreads reconnects; nothing secret)
            await _within(self._closing.wait(), dice * reconnect_delay_max_s(failures))

    async def _dial(self, url: str) -> Connection:
        """A connection to a server (``nats://host:port``) or to a socket (``unix:///path``)."""
        loop = asyncio.get_running_loop()

        connection = Connection(self._on_message, self._on_pong, self._on_error)
        made = cast("Callable[[], asyncio.Protocol]", lambda: connection)
        parts = urlsplit(url if "//" in url else f"nats://{url}")
        if parts.scheme == "unix":
            await loop.create_unix_connection(made, parts.path)
        else:
            host, port = parts.hostname or "127.0.0.1", parts.port or DEFAULT_PORT
            await loop.create_connection(made, host, port)
        return connection

    async def _open(self, url: str) -> Connection:
        """Connects, presents the token, and hears that it is good."""
        self._forget_pongs()
        self._forbidden = ""
        connection = await self._dial(url)
        try:
            info = await connection.info
            self.max_payload = int(info.get("max_payload") or BUS_PAYLOAD_BYTES_MAX)
            connection.write(b"CONNECT ", self._hello(), b"\r\n")
            self._subscribed = set(self._subscriptions)
            for sid, (subject, queue, *_) in self._subscriptions.items():
                connection.subscribe(sid, subject, queue)
            greeted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._pongs.append((0, greeted))
            connection.ping()
            await asyncio.wait((greeted, connection.lost), return_when=asyncio.FIRST_COMPLETED)
            if self._forbidden or is_refusal(connection.error):
                raise RefusedError(self._forbidden or connection.error)
            if not greeted.done():
                raise ConnectionError(connection.error or "closed while greeting")
        except BaseException:
            connection.abort()
            raise
        return connection

    def _hello(self) -> bytes:
        said: dict[str, Any] = {
            "verbose": False,
            "pedantic": False,
            "lang": "headgate",
            "version": "1",
            "protocol": 1,
            "name": self._name,
            "headers": False,
        }
        if self._token_file:
            with open(self._token_file, encoding="utf-8") as file:  # renewed while we live
                said["jwt"] = file.read().strip()
        return json.dumps(said).encode()

    async def _stay(self, connection: Connection) -> None:
        """From a good connection to its end."""
        self._connection = connection
        self._settling = self._was_connected
        self._was_connected = True
        self._unanswered = 0
        self._connected.set()
        self._catch_up(connection)
        try:
            self._say_again(connection)
            if self._settling:
                for delay_s in SAY_AGAIN_AFTER_S:
                    last = delay_s == SAY_AGAIN_AFTER_S[-1]
                    loop = asyncio.get_running_loop()
                    loop.call_later(delay_s, self._say_again, connection, last)
            self.on_connect()
            if self._inbox is not None and not connection.lost.done():
                self._inbox.attach(connection)
            while not connection.lost.done():
                await asyncio.wait((connection.lost,), timeout=PING_INTERVAL_S)
                self._keep_alive(connection)
        finally:
            self._connection = None
            if self._inbox is not None:
                self._inbox.detach(connection)
            self._connected.clear()
            self._forget_pongs()
            self.on_lost()
        if not self._closing.is_set():
            self._report(f"the connection to the bus is lost: {connection.error or 'closed'}")

    def _catch_up(self, connection: Connection) -> None:
        """Tells what was subscribed and unsubscribed while the connection was being opened."""
        for sid in self._subscribed - set(self._subscriptions):
            connection.unsubscribe(sid)
        for sid in sorted(set(self._subscriptions) - self._subscribed):
            subject, queue, *_ = self._subscriptions[sid]
            connection.subscribe(sid, subject, queue)

    def _say_again(self, connection: Connection, settled: bool = False) -> None:
        """Says every answer that is still wanted and not confirmed."""
        if self._connection is not connection:
            return
        with self._lock:
            self._kept.drop_expired(_now_ms())
            for kept in self._kept:
                connection.publish(kept.subject, kept.payload)
        if settled:
            self._settling = False
        self._confirm_soon()

    def _keep_alive(self, connection: Connection) -> None:
        if self._unanswered >= PINGS_UNANSWERED_MAX:
            connection.error = connection.error or "the server does not answer"
            connection.abort()
        elif not connection.lost.done():
            self._unanswered += 1
            self._ping(None)

    # -- confirming ---------------------------------------------------------------------------

    def _ping(self, waiter: Optional[asyncio.Future[bool]]) -> None:
        assert self._connection is not None
        with self._lock:
            self._pongs.append((self._kept.last_number, waiter))
            self._connection.ping()

    def _confirm_soon(self) -> None:
        if self._kept and not self._confirming and not self._settling:
            self._confirming = True
            asyncio.get_running_loop().call_later(CONFIRM_AFTER_S, self._confirm)

    def _confirm(self) -> None:
        self._confirming = False
        if self._connection is not None and self._kept:
            self._ping(None)

    def _forget_pongs(self) -> None:
        while self._pongs:
            _, waiter = self._pongs.popleft()
            if waiter is not None and not waiter.done():
                waiter.set_result(False)

    # -- hearing ------------------------------------------------------------------------------

    def _on_message(self, sid: bytes, subject: str, reply: str, payload: memoryview) -> None:
        subscription = self._handlers.get(sid)
        if subscription is None:
            return
        if self._inbox is None:
            self._hear(subscription, subject, reply, payload)
            self._confirm_soon()
        elif subscription.anywhere:
            self._hear(subscription, subject, reply, payload)
        else:
            with suppress(RuntimeError):  # the loop is closed: the process ends
                self._loop.call_soon_threadsafe(self._hear, subscription, subject, reply, payload)

    def _hear(
        self, subscription: _Subscription, subject: str, reply: str, payload: memoryview
    ) -> None:
        try:
            subscription.handler(subject, reply, payload)
        except Exception as error:
            self._report(f"a message on {subject} was dropped: {error!r}")

    def _on_pong(self) -> None:
        self._unanswered = 0
        if self._pongs:
            number, waiter = self._pongs.popleft()
            if not self._settling:
                with self._lock:
                    self._kept.confirm(number)
            if waiter is not None and not waiter.done():
                waiter.set_result(True)

    def _on_error(self, error: str) -> None:
        if error.lower().startswith("permissions violation for subscription"):
            self._forbidden = error
        if self._connection is not None:
            self._report(f"the bus says: {error}")


def _now_ms() -> float:
    return time.monotonic() * 1e3


async def _within(wait: Any, timeout_s: float) -> None:
    """Waits for something, but not longer than that."""
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(wait, timeout_s)
