"""Answers in parts where no bus carries them, and from a server beside the worker."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import pytest_asyncio

from headgate.runtime import natsd
from headgate_contracts import limits
from headgate_contracts.scoring import InstanceState
from worker.harness import Router, Worker, eventually, worker
from worker.test_streams import WINDOW, ask, assert_in_order

SCRIPT = """
    import hashlib

    def init():
        pass

    def run(data):
        what, _, argument = data[:100].partition(" ")
        if what == "hash":
            return hashlib.sha256(data.encode()).hexdigest()
        return parts(what, argument)

    def parts(what, argument):
        try:
            for number in range(int(argument)):
                yield f"{number};"
            if what == "fail":
                raise ValueError("halfway")
        except GeneratorExit:
            print("closed by its reader")
            raise
"""


@pytest_asyncio.fixture
async def server(data_dir: Path) -> AsyncIterator[natsd.RunningServer]:
    async with natsd.running(data_dir / "bus") as running:
        yield running


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class TestOnAPortOfItsOwn:
    @pytest_asyncio.fixture
    async def local(
        self, server: natsd.RunningServer, data_dir: Path
    ) -> AsyncIterator[tuple[Worker, int]]:
        port = free_port()
        listen = {"HEADGATE_LISTEN": f"127.0.0.1:{port}"}
        async with worker(server, data_dir, SCRIPT, variables=listen) as one:
            await eventually(lambda: "listening on" in one.log(), "it listens")
            yield one, port

    @staticmethod
    async def say(port: int, body: bytes, version: str = "1.1") -> bytes:
        """The answer behind its head, up to the end of the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /score HTTP/{version}\r\nHost: x\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        try:
            block = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            assert block.split(b" ")[1] == b"200", block
            chunked = b"transfer-encoding: chunked" in block.lower()
            assert chunked == (version == "1.1" and not body.startswith(b"hash"))
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def test_chunks_and_their_end(self, local: tuple[Worker, int]) -> None:
        chunks = (await self.say(local[1], b"some 3")).split(b"\r\n")
        assert b"".join(chunks[1::2]) == b"0;1;2;" and chunks[-3:] == [b"0", b"", b""]
        assert await self.say(local[1], b"some 3", "1.0") == b"0;1;2;"

    async def test_a_failure_halfway_is_seen(self, local: tuple[Worker, int]) -> None:
        with suppress(ConnectionResetError):
            assert not (await self.say(local[1], b"fail 3")).endswith(b"0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await self.say(local[1], b"fail 3", "1.0")

    async def test_who_leaves_ends_the_generator(self, local: tuple[Worker, int]) -> None:
        one, port = local
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b"some 100000000"
        writer.write(b"POST /score HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await reader.readexactly(10_000)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        await eventually(lambda: "closed by its reader" in one.log(), "the generator is closed")
        await self.say(port, b"some 1")

    async def test_a_large_body(self, local: tuple[Worker, int]) -> None:
        body = b"hash " + b"x" * (2 * limits.BUS_PAYLOAD_BYTES_MAX)
        assert json.loads(await self.say(local[1], body)) == hashlib.sha256(body).hexdigest()


class Upstream:
    """A model server of a user's own, whose paths say what it does."""

    def __init__(self) -> None:
        self.poured_bytes = 0
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                path = line.split(b" ")[1].decode()
                length = 0
                while (header := await reader.readline()).strip():
                    name, _, value = header.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                await reader.readexactly(length)
                await self.answer(path, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left.set()
        finally:
            writer.close()

    async def answer(self, path: str, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        if path == "/sized":
            size = 2 * limits.BUS_PAYLOAD_BYTES_MAX
            writer.write(head + b"Content-Length: %d\r\n\r\n" % size + b"s" * size)
        elif path in ("/chunks", "/cut"):
            writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(3 if path == "/cut" else 64):
                writer.write(b"8000\r\n" + b"c" * 0x8000 + b"\r\n")
                await writer.drain()
                self.poured_bytes += 0x8000
            if path == "/cut":
                raise ConnectionResetError
            writer.write(b"0\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()


@asynccontextmanager
async def beside(
    server: natsd.RunningServer, folder: Path
) -> AsyncIterator[tuple[Upstream, Worker, Router]]:
    upstream = Upstream()
    listening = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    said = {"host": "127.0.0.1", "scoring": {"port": port, "path": "/"}}
    async with (
        Router.connected(server) as router,
        worker(server, folder, "", variables={"HEADGATE_SERVER": json.dumps(said)}) as one,
    ):
        await router.until(one, InstanceState.READY)
        yield upstream, one, router
    listening.close()


async def test_a_server_of_its_own_pours_as_fast_as_the_client_reads(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    async with beside(server, data_dir) as (_, one, router):
        answer = await ask(router, one, p="/chunks")
        await eventually(lambda: len(answer.body) == WINDOW, "the window is used up")
        assert answer.frames[0].headers["content-type"] == "text/event-stream"
        await answer.say(c="take", to=10**9)
        await answer.end()
        assert answer.body == b"c" * (64 * 0x8000)
        assert_in_order(answer.frames)
        assert (await router.post(one, p="/short")).body == b"ok"


async def test_a_long_answer_of_a_server_has_its_length(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    async with beside(server, data_dir) as (_, one, router):
        answer = await ask(router, one, p="/sized")
        await eventually(lambda: answer.frames, "it begins")
        size = 2 * limits.BUS_PAYLOAD_BYTES_MAX
        assert answer.frames[0].meta["size"] == size
        await answer.say(c="take", to=size)
        await answer.end()
        assert answer.body == b"s" * size


async def test_a_server_that_breaks_off_looks_broken(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    async with beside(server, data_dir) as (_, one, router):
        answer = await ask(router, one, p="/cut")
        assert (await answer.end()).meta["c"] == "broken"


async def test_a_server_learns_that_its_client_has_left(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    async with beside(server, data_dir) as (upstream, one, router):
        answer = await ask(router, one, p="/sized")
        await eventually(lambda: len(answer.body) == WINDOW, "the window is used up")
        await answer.say(c="leave")
        assert (await answer.end()).meta["c"] == "broken"
        await asyncio.wait_for(upstream.left.wait(), 20)
