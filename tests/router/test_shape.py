"""Header blocks that repeat are understood as the parser understands them, and only they."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.router.exchange import Exchange
from headgate.router.http1 import Connection
from headgate.router.shape import Shape
from router.stage import KEY, Stage, Wire, until

Names = Callable[[str], str]


class Parsed:
    """What llhttp makes of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.url = self.body = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.messages = 0
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.method = self._parser.get_method().decode()
        self.keep_alive = self._parser.should_keep_alive()
        self.version_1_0 = self._parser.get_http_version() == "1.0"

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.messages += 1

    def exchange(self) -> Exchange:
        made = Exchange(cast("Connection", None))
        for name, value in self.headers:
            made.head.add(name.decode("latin-1"), value.decode("latin-1"))
        made.method, made.url = self.method, self.url
        made.keep_alive, made.version_1_0 = self.keep_alive, self.version_1_0
        return made


NAMES = st.sampled_from(["X-A", "content-type", "X-Content-Length", "Accept", "x-b"])
VALUES = st.sampled_from(["1", "application/json", "content-length: 7", "a, b", ""])
BODIES = st.one_of(
    st.binary(max_size=40), st.sampled_from([b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n"])
)


def message(headers: list[tuple[str, str]], at: int, spelling: str, body: bytes) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers]
    lines.insert(at % (len(lines) + 1), f"{spelling}: {len(body)}")
    head = "POST /api/v1/endpoint/ep/score?q=1 HTTP/1.1\r\nHost: h\r\n" + "\r\n".join(lines)
    return f"{head}\r\n\r\n".encode() + body


@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=4),
    st.integers(0, 4),
    st.sampled_from(["Content-Length", "content-length", "CONTENT-LENGTH"]),
    BODIES,
    BODIES,
)
def test_the_second_message_means_what_the_parser_says(
    headers: list[tuple[str, str]], at: int, spelling: str, first: bytes, second: bytes
) -> None:
    data = message(headers, at, spelling, first)
    shape = Shape.of(Parsed(data).exchange(), data)
    assert shape is not None
    again = message(headers, at, spelling, second)
    assert again.startswith(shape.before)
    parsed = Parsed(again)
    assert (shape.body_in(again), parsed.messages) == (parsed.body, 1)
    assert (shape.method, shape.url) == (parsed.method, parsed.url)
    head = parsed.exchange().head
    assert head.forwarded == shape.head.forwarded
    assert head.count == shape.head.count


@given(st.lists(st.tuples(NAMES, VALUES), max_size=3), BODIES, st.data())
def test_what_is_not_one_whole_message_is_left_to_the_parser(
    headers: list[tuple[str, str]], body: bytes, data: st.DataObject
) -> None:
    whole = message(headers, 0, "Content-Length", body)
    shape = Shape.of(Parsed(whole).exchange(), whole)
    assert shape is not None
    drawn = data.draw(st.integers(0, len(whole) - 1))
    for cut in (drawn, len(shape.before)):  # the second: cut where the length was to begin
        assert not whole[:cut].startswith(shape.before) or shape.body_in(whole[:cut]) is None
    assert shape.body_in(whole + b"P") is None
    assert shape.body_in(whole + whole) is None


PLAIN = b"POST /x HTTP/1.1\r\nHost: h\r\n"


@pytest.mark.parametrize(
    "data",
    [
        PLAIN + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        PLAIN + b"Content-Length: 2\r\nConnection: close\r\n\r\nhi",
        PLAIN + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\nhi",
        PLAIN + b"Content-Length: 2\r\n\r\nhi" + PLAIN + b"Content-Length: 0\r\n\r\n",
        b"POST /x HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
        b"\r\n\r\n" + PLAIN + b"Content-Length: 2\r\n\r\nhi",
        PLAIN + b"\r\n",
    ],
)
def test_unusual_messages_are_not_remembered(data: bytes) -> None:
    assert Shape.of(Parsed(data).exchange(), data) is None


async def test_a_connection_may_change_its_mind(stage: Stage, unique: Names) -> None:
    """Repeated, longer, empty, with another header, chunked, in pieces, pipelined, and back."""
    name = unique("ep")
    await stage.route(name, {"blue": 100}, concurrency=4)
    instance = await stage.instance(name, capacity=4)
    wire = await stage.wire()
    head = f"POST /api/v1/endpoint/{name}/score HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {KEY}"

    def plain(body: bytes, *more: str) -> bytes:
        said = "\r\n".join([head, *more, f"Content-Length: {len(body)}"])
        return f"{said}\r\n\r\n".encode() + body

    async def check(wire: Wire, sent: bytes, *bodies: bytes) -> None:
        await wire.send(sent)
        for body in bodies:
            answer = await wire.receive()
            assert (answer.status, answer.body) == (200, body)

    for body in (b"a", b"b", b"longer" * 100, b"", b"c"):
        await check(wire, plain(body), body)
    await check(wire, plain(b"d", "X-New: 1"), b"d")
    assert ["x-new", "1"] in instance.runs[-1].meta["h"]
    await check(wire, plain(b"e"), b"e")
    assert ["x-new", "1"] not in instance.runs[-1].meta["h"]
    chunked = f"{head}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nf\r\n0\r\n\r\n".encode()
    await check(wire, chunked, b"f")
    await check(wire, plain(b"g"), b"g")
    await wire.send(plain(b"hh")[:-1])
    await until(lambda: any(c._phase for c in stage.router.ingress._connections), "its first part")
    await check(wire, b"h", b"hh")
    await check(wire, plain(b"i") + plain(b"j") + plain(b"k"), b"i", b"j", b"k")
    await check(wire, plain(b"l"), b"l")
    ids = [run.meta["rid"] for run in instance.runs]
    assert len(set(ids)) == len(ids)


async def test_a_repeated_block_is_checked_anew(stage: Stage, unique: Names) -> None:
    """The key may have been taken back, and the body may have grown too large."""
    name = unique("ep")
    await stage.route(name, {"blue": 100}, keys=("old",))
    await stage.instance(name)
    wire = await stage.wire()

    async def status(key: str, body: bytes) -> Any:
        said = f"POST /api/v1/endpoint/{name}/score HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer "
        said += f"{key}\r\nContent-Length: {len(body)}\r\n\r\n"
        await wire.send(said.encode() + body)
        return (await wire.receive()).status

    assert [await status("old", b"1"), await status("old", b"22")] == [200, 200]
    await stage.route(name, {"blue": 100}, keys=("new",))
    assert [await status("old", b"333"), await status("new", b"333")] == [401, 200]
