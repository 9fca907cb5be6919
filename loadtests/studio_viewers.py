"""People who look at the studio, in a process of their own, without a browser's need of processor.

Each speaks what a browser would: it opens a page, joins its web socket, opens a tab. Some read what
they get, some never do, some go away without a word; others follow the events or ask for logs in
the same ways. It says so when all are there, and goes on until it is ended.
"""

from __future__ import annotations

import asyncio
import html
import json
import re
import secrets
import socket
import sys
import time
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp

READS, STALLS, VANISHES = "reads", "stalls", "vanishes"
PING_S = 3.0
ACK_S = 3.0
RCVBUF_BYTES = 4_096  # what is not read is soon not sent, either
_COOKIE = "headgate_studio"
_TABS = ("Charts", "Logs")
_ELEMENTS = re.compile(r"String\.raw`(.*?)`", re.DOTALL)
_CLIENT = re.compile(r"'client_id': '([^']+)'")


@dataclass(frozen=True, slots=True)
class Sight:
    """Where the studio is, and who looks."""

    base: str
    token: str
    endpoint: str

    @property
    def place(self) -> tuple[str, int]:
        parts = urlsplit(self.base)
        return str(parts.hostname), int(parts.port or 0)

    @property
    def host(self) -> str:
        return urlsplit(self.base).netloc

    async def sign_in(self) -> str:
        """A session's cookie."""
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as web,
            web.post(f"{self.base}/studio/sign-in", data={"token": self.token}) as answer,
        ):
            answer.raise_for_status()
            return next(each.value for each in web.cookie_jar if each.key == _COOKIE)


class Viewer:
    """One page of an endpoint, on a connection of its own."""

    def __init__(self, sight: Sight, cookie: str) -> None:
        self._sight = sight
        self._cookie = f"{_COOKIE}={cookie}"
        self._client = ""
        self._next = 0

    async def come(self, *, rcvbuf_bytes: int = 0) -> None:
        """Open the page, its web socket and its tabs."""
        sight = self._sight
        address = f"{sight.base}/studio/endpoints/{sight.endpoint}"
        async with (
            aiohttp.ClientSession(headers={"Cookie": self._cookie}) as web,
            web.get(address) as answer,
        ):
            answer.raise_for_status()
            text = await answer.text()
        elements, client = _ELEMENTS.search(text), _CLIENT.search(text)
        assert elements and client, "the studio's page looks different now"
        self._client = client[1]
        raw = socket.socket()
        if rcvbuf_bytes:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf_bytes)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, sight.place)
        self._reader, self._writer = await asyncio.open_connection(sock=raw)
        query = urlencode({
            "client_id": self._client, "next_message_id": 0, "implicit_handshake": "true",
            "document_id": uuid.uuid4(), "tab_id": uuid.uuid4(), "EIO": 4, "transport": "websocket",
        })  # fmt: skip
        self._writer.write(
            f"GET /studio/_nicegui_ws/socket.io/?{query} HTTP/1.1\r\nHost: {sight.host}\r\n"
            f"Cookie: {self._cookie}\r\nOrigin: {sight.base}\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head.partition(b"\r\n")[0], head
        self._say("40")
        await self._hear()  # of the web socket's library: which one it is, and that it is there
        await self._hear()
        tabs = next(
            (number, each)
            for number, each in json.loads(html.unescape(elements[1])).items()
            if each.get("tag") == "q-tabs"
        )
        for title in _TABS:
            self._open(int(tabs[0]), tabs[1]["events"][0]["listener_id"], title)

    def _open(self, tabs: int, listener: str, title: str) -> None:
        said = {"id": tabs, "client_id": self._client, "listener_id": listener}
        self._say("42" + json.dumps(["event", {**said, "args": [json.dumps(title)]}]))

    async def read(self) -> None:
        """As a browser does: with an answer to each ping, and word of what has come."""
        acked, acked_at = 0, time.monotonic()
        try:
            while True:
                text = await self._hear()
                if text == "2":
                    self._say("3")
                elif text.startswith("42"):
                    self._next = max(self._next, 1 + _number(json.loads(text[2:])))
                if self._next > acked and time.monotonic() - acked_at > ACK_S:
                    acked, acked_at = self._next, time.monotonic()
                    told = {"client_id": self._client, "next_message_id": acked}
                    self._say("42" + json.dumps(["ack", told]))
        finally:
            self._writer.close()

    async def stall(self, *, answers: bool) -> None:
        """Never read; ``answers``: pretend to be alive all the same. Come again when cut off."""
        self._writer.transport.pause_reading()
        while not self._writer.transport.is_closing():
            await asyncio.sleep(PING_S)
            if answers:
                self._say("3")

    def vanish(self) -> None:
        """Gone, and nobody is told: as a machine that was switched off."""
        self._writer.transport.abort()

    def _say(self, text: str) -> None:
        body, mask = text.encode(), secrets.token_bytes(4)
        size = len(body)
        head = bytes([0x81, 0x80 | size]) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(body))
        self._writer.write(head + mask + masked)

    async def _hear(self) -> str:
        head = await self._reader.readexactly(2)
        size = head[1] & 0x7F
        if size > 125:
            size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8), "big")
        body = await self._reader.readexactly(size)
        if head[0] & 0x0F == 8:
            raise ConnectionResetError("the web socket was closed")
        return body.decode("utf-8", "replace") if head[0] & 0x0F == 1 else ""


def _number(said: list[Any]) -> int:
    told = said[1] if len(said) > 1 else None
    return int(told.get("_id", -1)) if isinstance(told, dict) else -1


async def look(sight: Sight, cookie: str, manner: str, number: int, ready: asyncio.Event) -> None:
    """One viewer for ever: whoever is cut off, or has gone, comes again."""
    while True:
        viewer = Viewer(sight, cookie)
        try:
            await viewer.come(rcvbuf_bytes=0 if manner == READS else RCVBUF_BYTES)
            ready.set()
            if manner == READS:
                await viewer.read()
            elif manner == STALLS:
                await viewer.stall(answers=bool(number % 2))
            else:
                await asyncio.sleep(2.0)
                viewer.vanish()
        except (OSError, EOFError, aiohttp.ClientError):
            pass
        await asyncio.sleep(1.0)


async def ask(sight: Sight, request: str, times: int, ready: asyncio.Event) -> None:
    """Requests in a row whose answers are never read; ``request``: its line, and its body."""
    line, _, body = request.partition(" HTTP/1.1 ")
    text = (
        f"{line} HTTP/1.1\r\nHost: {sight.host}\r\nAuthorization: Bearer {sight.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )
    while True:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RCVBUF_BYTES)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, sight.place)
        _, writer = await asyncio.open_connection(sock=raw)
        writer.transport.pause_reading()
        writer.write(text.encode() * times)
        ready.set()
        while not writer.transport.is_closing():
            await asyncio.sleep(PING_S)


async def main(number: int, manner: str, sight: Sight, request: str, times: int) -> None:
    cookie = "" if request else await sight.sign_in()
    tasks, all_ready = [], []
    for each in range(number):
        ready = asyncio.Event()
        doing = (
            ask(sight, request, times, ready)
            if request
            else look(sight, cookie, manner, each, ready)
        )
        tasks.append(asyncio.create_task(doing))
        all_ready.append(ready.wait())
    await asyncio.gather(*all_ready)
    print("all there", flush=True)
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    _, NUMBER, MANNER, BASE, TOKEN, ENDPOINT, REQUEST, TIMES = sys.argv
    asyncio.run(main(int(NUMBER), MANNER, Sight(BASE, TOKEN, ENDPOINT), REQUEST, int(TIMES)))
