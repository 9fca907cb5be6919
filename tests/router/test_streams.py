"""Answers in parts and large bodies, from a real worker to raw connections: the whole way."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from headgate.router import http1
from headgate.runtime import natsd
from headgate_contracts import limits
from router.stage import KEY, Response, Stage, Wire, connected, request, staged, until
from worker.harness import Worker, eventually, worker

SCRIPT = """
    import asyncio
    import os
    import time

    def init():
        pass

    {keyword} run(data):
        what, _, argument = data.partition(" ")
        print("begun " + what)
        try:
            if what == "numbers":
                for number in range(int(argument)):
                    yield f"{{number}};"
            elif what == "much":
                for number in range(int(argument)):
                    yield (b"%08d" % number) * 8192
                    print(f"made {{number}}")
            elif what == "pipe":
                yield "before;"
                open(argument).read()
                yield "after;"
            elif what == "hang":
                yield "before;"
                {sleep}(3600)
            elif what == "late":
                {sleep}(3600)
                yield "never"
            elif what == "fail":
                yield "before;"
                raise ValueError("halfway")
            elif what == "die":
                yield "before;"
                os.kill(os.getpid(), 9)
        except BaseException as error:
            print("ended by " + type(error).__name__)
            raise
"""
PLAIN = SCRIPT.format(keyword="def", sleep="time.sleep")
ASYNC = SCRIPT.format(keyword="async def", sleep="await asyncio.sleep")
WHOLE = """
    import hashlib

    def init():
        pass

    def run(data):
        what, _, argument = data[:100].partition(" ")
        if what == "make":
            return "x" * int(argument)
        return hashlib.sha256(data.encode()).hexdigest()
"""


class Served:
    """An endpoint with a real worker behind the router."""

    def __init__(self, stage: Stage, one: Worker) -> None:
        self.stage = stage
        self.one = one

    async def send(self, body: str, *, version: str = "1.1", headers: str = "") -> Wire:
        wire = await self.stage.wire()
        said = request(self.one.endpoint, body.encode()).replace(
            b"HTTP/1.1", b"HTTP/" + version.encode()
        )
        await wire.send(said.replace(b"Host:", headers.encode() + b"Host:", 1))
        return wire

    async def counted(self, status: int) -> None:
        """Wait until a request has been counted so."""
        traffic = await self.stage.deployment_traffic(self.one.endpoint)
        await until(lambda: traffic.statuses.get(status) == 1, f"one {status}: {traffic.statuses}")

    async def next_one_is_served(self) -> None:
        """The slot is free."""
        wire = await self.send("numbers 2")
        assert await whole(wire) == b"0;1;"


@asynccontextmanager
async def serving(stage: Stage, script: str, **route: int) -> AsyncIterator[Served]:
    async with worker(stage.server, Path(stage_folder(stage)), script) as one:
        await stage.route(one.endpoint, {"blue": 100}, **route)
        await until(lambda: stage.ready(one.endpoint), "the worker is ready")
        yield Served(stage, one)


def stage_folder(stage: Stage) -> str:
    folder = stage.router._settings.data / "workers"
    folder.mkdir(exist_ok=True)
    return str(folder)


@pytest_asyncio.fixture
async def plain(stage: Stage) -> AsyncIterator[Served]:
    async with serving(stage, PLAIN) as served:
        yield served


async def head_of(wire: Wire) -> Response:
    async with asyncio.timeout(20):
        block = (await wire.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    lines = block.split("\r\n")
    pairs = (line.partition(":") for line in lines[1:] if line)
    return Response(
        int(lines[0].split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}, b""
    )


async def whole(wire: Wire) -> bytes:
    """The next answer's body; what is short may come as one piece, with its length."""
    head = await head_of(wire)
    assert head.status == 200
    if "content-length" in head.headers:
        return await wire.reader.readexactly(int(head.headers["content-length"]))
    return await chunks(wire)


async def chunk(wire: Wire) -> bytes:
    async with asyncio.timeout(20):
        size = int(await wire.reader.readline(), 16)
        return (await wire.reader.readexactly(size + 2))[:-2]


async def chunks(wire: Wire) -> bytes:
    """All of them; IncompleteReadError or ValueError when the last one never comes."""
    parts = []
    while part := await chunk(wire):
        parts.append(part)
    return b"".join(parts)


async def assert_broken(wire: Wire) -> None:
    """The connection ends without the last chunk."""
    rest = await wire.at_end()
    assert not rest.endswith(b"0\r\n\r\n")


async def test_parts_arrive_as_they_are_made_and_the_connection_is_kept(plain: Served) -> None:
    pipe = plain.one.folder / "pipe"
    os.mkfifo(pipe)
    wire = await plain.send(f"pipe {pipe}")
    answer = await head_of(wire)
    assert answer.status == 200
    assert answer.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in answer.headers
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert await chunk(wire) == b"before;"
    await asyncio.to_thread(pipe.write_text, "")
    assert await chunks(wire) == b"after;"
    await wire.send(request(plain.one.endpoint, b"numbers 3"))
    assert await whole(wire) == b"0;1;2;"
    traffic = await plain.stage.deployment_traffic(plain.one.endpoint)
    assert traffic.statuses == {200: 2}
    assert traffic.response_bytes == len(b"before;after;0;1;2;")


async def test_pipelined_requests_wait_for_the_end_of_parts(plain: Served) -> None:
    wire = await plain.stage.wire()
    asked = [request(plain.one.endpoint, b"numbers %d" % count) for count in (3000, 2, 3)]
    await wire.send(b"".join(asked))
    for count in (3000, 2, 3):
        assert await whole(wire) == b"".join(b"%d;" % number for number in range(count))


async def test_http_1_0_gets_parts_up_to_the_end_of_the_connection(plain: Served) -> None:
    wire = await plain.send("much 9", version="1.0")
    answer = await head_of(wire)
    assert "transfer-encoding" not in answer.headers and "content-length" not in answer.headers
    assert answer.headers["connection"] == "close"
    assert len(await wire.reader.read()) == 9 * 65_536


async def test_http_1_0_sees_a_reset_where_there_is_no_end(plain: Served) -> None:
    wire = await plain.send("fail", version="1.0")
    assert (await head_of(wire)).status == 200
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(wire.reader.read(), 20)
    await plain.counted(424)


async def test_server_sent_events_for_who_accepts_them(plain: Served) -> None:
    wire = await plain.send("numbers 2", headers="Accept: text/event-stream\r\n")
    block = await wire.reader.readuntil(b"\r\n\r\n")
    assert b"content-type: text/event-stream\r\n" in block
    rest = await wire.reader.readuntil(b"data: 1;\n\n")
    assert b"data: 0;\n\n" in rest


async def test_a_slow_client_pauses_the_generator(plain: Served) -> None:
    """Nothing is lost, and no more is made than fits on the way."""
    count = 1_000  # of 64 KiB
    wire = await plain.send(f"much {count}")
    await head_of(wire)
    made = await settled(lambda: plain.one.log().count("made "))
    # The window, the worker's pipe and the part in hand, the connection and its sockets.
    assert made * 65_536 < limits.ANSWER_WINDOW_BYTES + 8 * 1024 * 1024
    body = await chunks(wire)
    assert body == b"".join((b"%08d" % number) * 8192 for number in range(count))
    await plain.counted(200)


async def settled(value: Callable[[], int]) -> int:
    before = -1
    while before != (before := value()):
        await asyncio.sleep(0.3)
    return before


@pytest.mark.parametrize(
    ("script", "body", "ending"),
    [
        (PLAIN, "much 100000", "GeneratorExit"),
        (ASYNC, "much 100000", "GeneratorExit"),
        (ASYNC, "hang", "CancelledError"),
        (ASYNC, "late", "CancelledError"),
    ],
)
async def test_a_client_that_leaves_ends_the_generator(
    stage: Stage, script: str, body: str, ending: str
) -> None:
    async with serving(stage, script) as served:
        wire = await served.send(body)
        await eventually(lambda: "begun" in served.one.log(), "it has begun")
        if body != "late":
            await head_of(wire)
        await wire.close()
        await eventually(lambda: f"ended by {ending}" in served.one.log(), "the script has seen it")
        await served.counted(499)
        await served.next_one_is_served()


async def test_a_worker_that_is_killed_ends_the_connection(plain: Served) -> None:
    """Nobody says that it has died: the router finds out."""
    wire = await plain.send("hang")
    await head_of(wire)
    assert await chunk(wire) == b"before;"
    plain.one.signal(signal.SIGKILL)
    await assert_broken(wire)
    await plain.counted(502)


async def test_a_script_that_fails_halfway_ends_the_connection(plain: Served) -> None:
    wire = await plain.send("fail")
    assert (await head_of(wire)).status == 200
    assert await chunk(wire) == b"before;"
    await assert_broken(wire)
    await plain.counted(424)
    assert "ValueError: halfway" in plain.one.log()
    await plain.next_one_is_served()


async def test_time_limits_are_for_the_first_part_and_between_parts(stage: Stage) -> None:
    async with serving(stage, ASYNC, timeout_ms=700) as served:
        wire = await served.send("late")
        assert (await wire.receive()).status == 408
        wire = await served.send("hang")
        await head_of(wire)
        assert await chunk(wire) == b"before;"
        await assert_broken(wire)
        traffic = await stage.deployment_traffic(served.one.endpoint)
        await until(lambda: traffic.statuses == {408: 2}, "both are counted")
        await served.next_one_is_served()


async def test_a_slow_client_is_no_slow_model(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for its client is not cut off by the limit between parts, but by the client's."""
    async with serving(stage, PLAIN, timeout_ms=300) as served:
        wire = await served.send("much 1000")
        await head_of(wire)
        await settled(lambda: served.one.log().count("made "))
        await asyncio.sleep(0.7)  # more than twice the limit, in which nothing can be made
        assert await chunk(wire)
        monkeypatch.setattr(http1, "STALLED_TIMEOUT_S", 0.2)
        await served.counted(499)
        await eventually(lambda: "ended by GeneratorExit" in served.one.log(), "it is closed")


async def test_mirrored_copies_are_dropped_as_they_come(stage: Stage) -> None:
    async with serving(stage, PLAIN) as served:
        endpoint = served.one.endpoint
        await stage.route(endpoint, {"green": 100}, mirror={"blue": 100})
        green = await stage.instance(endpoint, "green")
        answer = await stage.ask(endpoint, b"much 100")
        assert answer.body == b"much 100" and len(green.runs) == 1
        traffic = await stage.deployment_traffic(endpoint)
        await until(lambda: traffic.mirrored == {200: 1}, "the copy has run to its end")
        assert "made 99" in served.one.log()


async def test_a_bus_that_dies_ends_the_connection(data_dir: Path) -> None:
    async with (
        natsd.running(data_dir / "bus") as server,
        staged(server, data_dir) as stage,
        serving(stage, PLAIN) as served,
    ):
        wire = await served.send("much 100000")
        await head_of(wire)
        await server.kill()
        await assert_broken(wire)
        await eventually(lambda: "ended by GeneratorExit" in served.one.log(), "it is closed")
        await server.start()
        await until(lambda: stage.router.lane.up, "the bus is back")
        await until(lambda: stage.ready(served.one.endpoint), "the worker is back")
        await served.next_one_is_served()


async def test_a_draining_worker_finishes_its_parts(plain: Served) -> None:
    wire = await plain.send("much 300")
    await head_of(wire)
    await settled(lambda: plain.one.log().count("made "))
    plain.one.signal(signal.SIGTERM)
    await until(lambda: not plain.stage.ready(plain.one.endpoint), "it has said so")
    await asyncio.sleep(2 * limits.DRAIN_PROPAGATION_S)  # by now it takes no new request
    assert len(await chunks(wire)) == 300 * 65_536
    assert await plain.one.wait() == 0


class TestTheBusEntry:
    async def test_parts_are_joined_unless_asked_for(self, plain: Served) -> None:
        async with connected(plain.stage.server, "probe") as nc:
            answer = await nc.request(
                f"hg.v1.score.{plain.one.endpoint}", b"numbers 3", timeout=10, headers=bearer()
            )
            assert (answer.data, answer.headers["Hg-Status"]) == (b"0;1;2;", "200")
            answer = await nc.request(
                f"hg.v1.score.{plain.one.endpoint}", b"much 1000", timeout=10, headers=bearer()
            )
            assert (answer.data, answer.headers["Hg-Status"]) == (b"", "424")
            await eventually(lambda: "ended by GeneratorExit" in plain.one.log(), "it is closed")

    async def test_parts_come_in_messages(self, plain: Served) -> None:
        async with connected(plain.stage.server, "probe") as nc:
            inbox = nc.new_inbox()
            found = await nc.subscribe(inbox)
            for body, end in ((b"numbers 3", "complete"), (b"fail", "broken")):
                await nc.publish(
                    f"hg.v1.score.{plain.one.endpoint}",
                    body,
                    reply=inbox,
                    headers={**bearer(), "Hg-Parts": "true"},
                )
                messages = [await found.next_msg(10)]
                while "Hg-End" not in messages[-1].headers:
                    messages.append(await found.next_msg(10))
                sequence = [int(message.headers["Hg-Sequence"]) for message in messages]
                assert sequence == list(range(len(messages)))
                assert {message.headers["Hg-Status"] for message in messages} == {"200"}
                assert messages[0].headers["content-type"] == "text/plain; charset=utf-8"
                assert messages[-1].headers["Hg-End"] == end
                expected = b"0;1;2;" if end == "complete" else b"before;"
                assert b"".join(message.data for message in messages) == expected

    async def test_a_caller_that_has_gone_ends_the_answer(self, plain: Served) -> None:
        async with connected(plain.stage.server, "probe") as nc:
            inbox = nc.new_inbox()
            found = await nc.subscribe(inbox)
            await nc.publish(
                f"hg.v1.score.{plain.one.endpoint}",
                b"much 1000000",
                reply=inbox,
                headers={**bearer(), "Hg-Parts": "true"},
            )
            await found.next_msg(10)
            await found.unsubscribe()
            await eventually(lambda: "ended by GeneratorExit" in plain.one.log(), "it is closed")
            await plain.counted(499)


def bearer() -> dict[str, str]:
    return {"Authorization": f"Bearer {KEY}"}


class TestLargeBodies:
    BYTES = 3 * limits.BUS_PAYLOAD_BYTES_MAX

    @pytest.fixture
    async def whole(self, stage: Stage) -> AsyncIterator[Served]:
        async with serving(stage, WHOLE) as served:
            yield served

    async def test_both_ways(self, whole: Served) -> None:
        stage, endpoint = whole.stage, whole.one.endpoint
        body = b"0123456789abcdef" * (self.BYTES // 16)
        answer = await stage.ask(endpoint, body)
        assert answer.body == f'"{hashlib.sha256(body).hexdigest()}"'.encode()
        answer = await stage.ask(endpoint, b"make %d" % self.BYTES)
        assert answer.headers["content-length"] == str(self.BYTES + 2)
        assert answer.body == b'"' + b"x" * self.BYTES + b'"'
        assert stage.router.spools.bytes == 0
        assert list((stage.router._settings.run_dir / "spool").iterdir()) == []

    async def test_chunked(self, whole: Served) -> None:
        stage, endpoint = whole.stage, whole.one.endpoint
        wire = await stage.wire()
        part = b"x" * 65_536
        count = self.BYTES // len(part)
        await wire.send(
            request(endpoint, b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        )
        for _ in range(count):
            await wire.send(b"10000\r\n" + part + b"\r\n")
        await wire.send(b"0\r\n\r\n")
        answer = await wire.receive()
        assert answer.body == f'"{hashlib.sha256(part * count).hexdigest()}"'.encode()

    async def test_an_instance_that_dies_on_the_way_is_replaced(self, stage: Stage) -> None:
        async with serving(stage, WHOLE) as served:
            endpoint = served.one.endpoint
            real = next(i for i in stage.router.table.instances() if i.id == served.one.instance)
            real.withheld, real.withheld_until = True, 1e12
            real.deployment.refresh()
            first = await stage.instance(endpoint)
            first.gate.clear()
            body = b"y" * self.BYTES
            wire = await stage.wire()
            await wire.send(request(endpoint, body))
            await until(lambda: first.runs, "the first has it")
            real.withheld = False
            real.deployment.refresh()
            await first.die()
            await stage.say_lost(first)
            answer = await wire.receive()
            assert answer.body == f'"{hashlib.sha256(body).hexdigest()}"'.encode()

    async def test_what_has_no_room_is_refused_before_it_is_read(self, whole: Served) -> None:
        whole.stage.router.spools.bytes_max = self.BYTES
        wire = await whole.stage.wire()
        said = request(whole.one.endpoint, b"").replace(
            b"Content-Length: 0", b"Content-Length: %d" % (self.BYTES + 1)
        )
        await wire.send(said)
        answer = await wire.receive()
        assert answer.status == 503 and answer.error["code"] == "TooManyLargeBodies"
        assert answer.headers["retry-after"] == "1"

    async def test_answers_over_the_limit_are_errors(
        self, nats: natsd.RunningServer, data_dir: Path
    ) -> None:
        async with (
            staged(nats, data_dir, body_bytes_max=self.BYTES) as stage,
            serving(stage, WHOLE) as served,
        ):
            answer = await stage.ask(served.one.endpoint, b"make %d" % self.BYTES)
            assert answer.status == 424 and answer.error["code"] == "AnswerTooLarge"
            assert (await stage.ask(served.one.endpoint, b"make 3")).body == b'"xxx"'

    async def test_a_client_that_reads_slowly_holds_no_slot(self, whole: Served) -> None:
        stage, endpoint = whole.stage, whole.one.endpoint
        slow = await whole.send(f"make {self.BYTES}")
        await head_of(slow)
        assert (await stage.ask(endpoint, b"make 3")).body == b'"xxx"'
        assert len(await slow.reader.readexactly(self.BYTES + 2)) == self.BYTES + 2
