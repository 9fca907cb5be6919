"""The scoring path's own connection to the bus: core NATS with sends that never wait.

A general client costs this path more than the bus itself: tasks, futures and copies per message.
Here a send is an append to a buffer and an answer is a function call. Nothing is kept while the
bus is down: a request that was refused must not be executed later.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import nkeys

from headgate import __version__
from headgate.router.wire import Deliver, Outbox, Wire
from headgate.runtime.log import Log
from headgate_contracts import limits

NO_RESPONDERS = b"NATS/1.0 503"

# What is small travels together up to here; a large body delays nobody else's.
JOINED_BYTES_MAX = 64 * 1024
# So many begin their way while others of the same turn are still being read.
JOINED_MAX = 16

_CONNECT_TIMEOUT_S = 2.0
_FIRST_CONNECT_TIMEOUT_S = 5.0
_RECONNECT_S = 0.1
_CREDENTIALS = re.compile(r"-----BEGIN [^-]+-----\s*(\S+)\s*-{3,}END")

_log = Log("router")


@dataclass(slots=True)
class _Subscription:
    subject: str
    queue: str
    deliver: Deliver


class Lane:
    """A connection that comes back by itself; ``up`` says whether sends can leave now."""

    def __init__(self, url: str, creds: Path | None, name: str) -> None:
        self.name = name
        self.payload_bytes_max = limits.BUS_PAYLOAD_BYTES_MAX
        self._servers = itertools.cycle(url.split(","))
        self._creds = creds
        self._wire: Wire | None = None
        self._subscriptions: dict[bytes, _Subscription] = {}
        self._subscribers: dict[bytes, Deliver] = {}
        self._numbers = itertools.count(1)
        self._on_up: list[Callable[[], None]] = []
        self._on_down: list[Callable[[], None]] = []
        self._keeper: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        return self._wire is not None and not self._wire.congested

    def on_up(self, callback: Callable[[], None]) -> None:
        """Call back after every connect, with all subscriptions sent."""
        self._on_up.append(callback)

    def on_down(self, callback: Callable[[], None]) -> None:
        self._on_down.append(callback)

    async def open(self) -> None:
        """Connect within a few seconds (ConnectionError otherwise), then keep connected."""
        try:
            async with asyncio.timeout(_FIRST_CONNECT_TIMEOUT_S):
                wire = await self._connect()
        except (OSError, TimeoutError) as error:
            raise ConnectionError(f"the bus does not answer: {error or 'time-out'}") from None
        self._keeper = asyncio.create_task(self._keep(wire), name="router-lane")

    async def close(self) -> None:
        """Send what is queued, then end the connection."""
        if self._keeper is None:
            return
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await self.sync()
        self._keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeper
        if self._wire is not None:
            self._wire.abort()
            self._wire = None

    async def sync(self) -> None:
        """Return when the server has seen everything sent before; ConnectionError if it cannot."""
        if self._wire is None:
            raise ConnectionError("the bus is down")
        await self._wire.ping()

    def subscribe(self, subject: str, deliver: Deliver, *, queue: str = "") -> Callable[[], None]:
        """Hear a subject, now and after every reconnect; the function returned ends it."""
        number = b"%d" % next(self._numbers)
        subscription = _Subscription(subject, queue, deliver)
        self._subscriptions[number] = subscription
        self._subscribers[number] = deliver
        if self._wire is not None:
            self._wire.send(_sub(number, subscription))

        def end() -> None:
            del self._subscriptions[number]
            if self._wire is not None:
                self._wire.send(b"UNSUB %s\r\n" % number)

        return end

    def send(self, subject: str, reply: str, parts: Sequence[bytes] = ()) -> bool:
        """Send one message; False when it cannot leave now (then it never will).

        ValueError when it is larger than the server takes: that would end the connection.
        """
        wire = self._wire
        if wire is None or wire.congested:
            return False
        size = sum(map(len, parts))
        if size > self.payload_bytes_max:
            raise ValueError(f"a message of {size} bytes; the bus takes {self.payload_bytes_max}")
        wire.send(f"PUB {subject} {reply} {size}\r\n".encode(), *parts, b"\r\n")
        return True

    def post(self, box: Outbox, head: bytes, body: bytes) -> bool:
        """Send one frame; small ones of one turn of the loop in the same box share a message.

        False and ValueError as with :meth:`send`.
        """
        wire = self._wire
        if wire is None or wire.congested:
            return False
        size = len(head) + len(body)
        if size > self.payload_bytes_max:
            raise ValueError(f"a message of {size} bytes; the bus takes {self.payload_bytes_max}")
        if box.link is not None:
            wire = box.link
        if not box.parts:
            wire.collect(box)
        elif box.size + size > JOINED_BYTES_MAX or len(box.parts) >= 2 * JOINED_MAX:
            wire.send_now(*box.take())
        box.parts += (head, body)
        box.size += size
        return True

    def send_with_headers(self, subject: str, head: bytes, body: bytes, reply: str = "") -> bool:
        """Send one message with a header block (``NATS/1.0`` to the blank line)."""
        wire = self._wire
        if wire is None:
            return False
        size = len(head) + len(body)
        if size > self.payload_bytes_max:
            raise ValueError(f"a message of {size} bytes; the bus takes {self.payload_bytes_max}")
        wire.send(f"HPUB {subject} {reply} {len(head)} {size}\r\n".encode(), head, body, b"\r\n")
        return True

    async def _keep(self, wire: Wire) -> None:
        while True:
            await wire.lost
            self._wire = None
            _log.warning("lane_down", reason=wire.refusal or "connection lost")
            for callback in self._on_down:
                callback()
            wire = await self._reconnect()
            _log.info("lane_up")

    async def _reconnect(self) -> Wire:
        while True:
            # Full jitter: a thousand clients of a restarted bus do not come in the same instant.
            await asyncio.sleep(_RECONNECT_S * (0.5 + random.random()))  # noqa: S311
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                    return await self._connect()

    async def _connect(self) -> Wire:
        """One try at the next server: INFO, CONNECT, subscriptions, and a round trip."""
        server = urlsplit(next(self._servers))
        loop = asyncio.get_running_loop()
        wire = Wire(self._subscribers)
        made = cast("Callable[[], asyncio.Protocol]", lambda: wire)
        await loop.create_connection(made, server.hostname or "127.0.0.1", server.port or 4222)
        try:
            info = await wire.greeted
            options = self._options(info, server.username, server.password)
            wire.send(b"CONNECT " + json.dumps(options).encode() + b"\r\n")
            for number, subscription in self._subscriptions.items():
                wire.send(_sub(number, subscription))
            await wire.ping()
        except BaseException:
            wire.abort()
            raise
        self.payload_bytes_max = int(info["max_payload"])
        self._wire = wire
        wire.start_pinging()
        for callback in self._on_up:
            callback()
        return wire

    def _options(
        self, info: dict[str, Any], user: str | None, password: str | None
    ) -> dict[str, Any]:
        options: dict[str, Any] = {
            "name": self.name,
            "lang": "python",
            "version": __version__,
            "verbose": False,
            "pedantic": False,
            "headers": True,
            "no_responders": True,
        }
        if user is not None:
            options |= {"user": user, "pass": password or ""}
        if self._creds is not None:
            # Read anew each time: credentials may have been renewed.
            token, seed = _CREDENTIALS.findall(self._creds.read_text())
            signature = nkeys.from_seed(seed.encode()).sign(str(info.get("nonce", "")).encode())
            options |= {"jwt": token, "sig": base64.b64encode(signature).decode()}
        return options


def _sub(number: bytes, subscription: _Subscription) -> bytes:
    queue = f" {subscription.queue}" if subscription.queue else ""
    return f"SUB {subscription.subject}{queue} {number.decode()}\r\n".encode()
