"""Answers in parts, and bodies larger than the bus takes: windows, interruptions, false ends."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from headgate.runtime import natsd
from headgate_contracts import limits, subjects
from headgate_contracts.scoring import InstanceState, encode_frame
from worker.harness import Answer, Router, Worker, eventually, worker

WINDOW = limits.ANSWER_WINDOW_BYTES
_numbers = count(1)

COUNTING = """
    import time

    def init():
        pass

    def run(data):
        print("begun")
        try:
            number = 0
            while number < int(data):
                yield f"{number} " * 1000
                number += 1
                print(f"made {number}")
        except GeneratorExit:
            print("closed by its reader")
            raise
"""


@pytest_asyncio.fixture
async def server(data_dir: Path) -> AsyncIterator[natsd.RunningServer]:
    async with natsd.running(data_dir / "bus") as running:
        yield running


class Listener:
    """What one request gets, frame by frame."""

    def __init__(self, router: Router, worker: Worker, number: str) -> None:
        self._router = router
        self._worker = worker
        self.number = number

    @property
    def frames(self) -> list[Answer]:
        return [frame for frame in self._router.answers if frame.meta["id"] == self.number]

    @property
    def body(self) -> bytes:
        return b"".join(frame.body for frame in self.frames)

    async def end(self) -> Answer:
        def last() -> Answer | None:
            frames = self.frames
            over = frames and "more" not in frames[-1].meta and frames[-1].meta.get("c") != "take"
            return frames[-1] if over else None

        found: Answer = await eventually(last, f"the end: {self.frames[-1:]} {self._worker.log()}")
        return found

    async def say(self, body: bytes = b"", **meta: Any) -> None:
        await self._router.client.publish(
            f"{self._worker.subject}.parts",
            encode_frame(
                {
                    "id": self.number,
                    "r": subjects.answers(self._router.name, self._worker.instance),
                    **meta,
                },
                body,
            ),
        )


async def ask(
    router: Router, one: Worker, body: bytes | str = b"", *, w: int = WINDOW, **meta: Any
) -> Listener:
    number = f"s{next(_numbers)}"
    await router.send(one, body, id=number, w=w, **meta)
    return Listener(router, one, number)


async def assert_served(router: Router, one: Worker) -> None:
    """The next request is answered, in one frame or in two."""
    answer = await ask(router, one, "1")
    await answer.end()
    assert answer.frames[0].status == 200


def assert_in_order(frames: list[Answer]) -> None:
    assert [frame.meta["q"] for frame in frames] == list(range(len(frames)))


async def test_parts_leave_as_they_are_made(server: natsd.RunningServer, data_dir: Path) -> None:
    script = """
        def init():
            pass

        def run(data):
            yield "first"
            input_file = open("go")  # a pipe: waits until the test has opened it as well
            input_file.read()
            yield "second"
    """
    async with (
        Router.connected(server) as router,
        worker(server, data_dir, script) as one,
    ):
        go = one.folder / "code" / "go"
        os.mkfifo(go)
        await router.until(one, InstanceState.READY)
        answer = await ask(router, one)
        await eventually(lambda: answer.body == b"first", "the first part alone")
        assert answer.frames[0].status == 200
        assert answer.frames[0].headers["content-type"] == "text/plain; charset=utf-8"
        assert "ms" not in answer.frames[0].meta  # the model is still at it
        await asyncio.to_thread(go.write_text, "")
        last = await answer.end()
        assert answer.body == b"firstsecond"
        assert last.meta["n"] == 0 and last.meta["ms"] > 0
        assert_in_order(answer.frames)


async def test_a_slow_reader_stops_the_generator(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    """It makes no more than the window, the pipe and the part in hand; and goes on when told."""
    async with Router.connected(server) as router, worker(server, data_dir, COUNTING) as one:
        await router.until(one, InstanceState.READY)
        answer = await ask(router, one, "400")
        await eventually(lambda: len(answer.body) == WINDOW, "the window is used up")
        made = await _settled(lambda: one.log().count("made "))
        made_bytes = sum(len(f"{number} ") * 1000 for number in range(made))
        assert WINDOW < made_bytes <= WINDOW + 2 * limits.ANSWER_PART_BYTES_MAX
        await answer.say(c="take", to=2 * WINDOW)
        await eventually(lambda: len(answer.body) == 2 * WINDOW, "one more window")
        assert all(len(frame.body) <= limits.ANSWER_PART_BYTES_MAX for frame in answer.frames)
        await answer.say(c="take", to=10**9)
        await answer.end()
        assert answer.body == b"".join(f"{n} ".encode() * 1000 for n in range(400))
        assert_in_order(answer.frames)


async def _settled(value: Any) -> Any:
    """A figure that does not change any more."""
    before = None
    while before != (before := value()):
        await asyncio.sleep(0.3)
    return before


async def test_a_reader_that_leaves_closes_the_generator(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    async with Router.connected(server) as router, worker(server, data_dir, COUNTING) as one:
        await router.until(one, InstanceState.READY)
        answer = await ask(router, one, "1000000")
        await eventually(lambda: len(answer.body) == WINDOW, "the window is used up")
        await answer.say(c="leave")
        last = await answer.end()
        assert last.meta["c"] == "broken" and last.meta["n"] == 0
        assert "closed by its reader" in one.log()
        await assert_served(router, one)
        assert "Traceback" not in one.log()


async def test_asynchronous_ones_are_cancelled_where_they_wait(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    script = """
        import asyncio

        def init():
            pass

        async def run(data):
            try:
                if data == "later":
                    yield "a part"
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                print(f"cancelled: {data}")
                raise
            yield "never"
    """
    async with (
        Router.connected(server) as router,
        worker(server, data_dir, script, capacity=2) as one,
    ):
        await router.until(one, InstanceState.READY)
        begun, silent = await ask(router, one, "later"), await ask(router, one, "at once")
        await eventually(lambda: begun.body == b"a part", "a part of one")
        await begun.say(c="leave")
        await silent.say(c="leave")
        assert (await begun.end()).meta["c"] == "broken"
        assert (await silent.end()).refused == "expired"
        log = one.log()
        assert "cancelled: later" in log and "cancelled: at once" in log
        assert "Traceback" not in log


@pytest.mark.parametrize("keyword", ["def", "async def"])
async def test_a_failure_before_the_first_part_is_an_answer_and_later_a_break(
    server: natsd.RunningServer, data_dir: Path, keyword: str
) -> None:
    script = f"""
        def init():
            pass

        {keyword} run(data):
            if data == "early":
                raise ValueError("too early")
            yield "a part"
            raise ValueError("too late")
    """
    async with Router.connected(server) as router, worker(server, data_dir, script) as one:
        await router.until(one, InstanceState.READY)
        early = await ask(router, one, "early")
        assert (await early.end()).status == 500 and len(early.frames) == 1
        late = await ask(router, one, "late")
        last = await late.end()
        assert last.meta["c"] == "broken" and late.body == b"a part"
        assert "ValueError: too late" in one.log()


@pytest.mark.parametrize(
    ("yields", "accept", "kind", "body"),
    [
        ("'a', b'b'", "*/*", "text/plain; charset=utf-8", b"ab"),
        ("{'n': 1}, {'n': 2}", "*/*", "application/x-ndjson", b'{"n": 1}\n{"n": 2}\n'),
        ("'a\\nb', {'n': 1}", "text/event-stream", "text/event-stream",
         b'data: a\ndata: b\n\ndata: {"n": 1}\n\n'),
        ("'data: as it is\\n\\n', ", "text/event-stream", "text/event-stream",
         b"data: as it is\n\n"),
        ("", "*/*", "text/plain; charset=utf-8", b""),
    ],
)  # fmt: skip
async def test_what_a_bare_generator_yields(
    server: natsd.RunningServer, data_dir: Path, yields: str, accept: str, kind: str, body: bytes
) -> None:
    script = f"""
        def init():
            pass

        def run(data):
            for part in ({yields}):
                yield part
    """
    async with Router.connected(server) as router, worker(server, data_dir, script) as one:
        await router.until(one, InstanceState.READY)
        answer = await ask(router, one, h=[["Accept", accept]])
        await answer.end()
        assert answer.frames[0].headers["content-type"] == kind
        assert answer.body == body


@pytest.mark.parametrize(
    "made",
    [
        "AMLResponse(parts(), 201, {'Content-Type': 'text/event-stream', 'X-Own': 'yes'})",
        "flask.Response(parts(), 201, {'X-Own': 'yes'}, mimetype='text/event-stream')",
    ],
)
async def test_a_response_around_a_generator(
    server: natsd.RunningServer, data_dir: Path, made: str
) -> None:
    if "flask" in made:
        pytest.importorskip("flask")
    script = f"""
        {"import flask" if "flask" in made else ""}
        from azureml.contrib.services.aml_response import AMLResponse

        def init():
            pass

        def parts():
            for number in range(3):
                yield f"data: {{number}}\\n\\n"

        def run(data):
            return {made}
    """
    async with Router.connected(server) as router, worker(server, data_dir, script) as one:
        await router.until(one, InstanceState.READY)
        answer = await ask(router, one)
        await answer.end()
        first = answer.frames[0]
        assert first.status == 201 and first.headers["x-own"] == "yes"
        assert first.headers["content-type"].startswith("text/event-stream")
        assert answer.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


async def test_who_grants_no_window_gets_a_whole_answer(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    async with Router.connected(server) as router, worker(server, data_dir, COUNTING) as one:
        await router.until(one, InstanceState.READY)
        whole = await router.post(one, "3")
        assert whole.status == 200 and "c" not in whole.meta
        assert whole.body == b"0 " * 1000 + b"1 " * 1000 + b"2 " * 1000
        assert (await router.post(one, "100000")).status == 500
        assert (await router.post(one, "1")).status == 200


LARGE = """
    import hashlib

    def init():
        pass

    def run(data):
        if data.isdecimal():
            return "x" * int(data)
        return hashlib.sha256(data.encode()).hexdigest()
"""


async def test_a_body_larger_than_the_bus_takes_comes_in_parts(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    async with Router.connected(server) as router, worker(server, data_dir, LARGE) as one:
        await router.until(one, InstanceState.READY)
        body = b"abcdefgh" * (2 * limits.BUS_PAYLOAD_BYTES_MAX // 8)
        answer = await ask(router, one, size=len(body))
        sent = await _send_body(answer, body)
        last = await answer.end()
        assert last.json() == hashlib.sha256(body).hexdigest()
        assert sent == len(body)


async def _send_body(answer: Listener, body: bytes) -> int:
    """As a router does: never beyond what was granted."""
    sent = sequence = 0
    while sent < len(body):
        granted = max([0, *(f.meta["to"] for f in answer.frames if f.meta.get("c") == "take")])
        if granted <= sent:
            await asyncio.sleep(0.002)
            continue
        assert granted - sent <= limits.BODY_WINDOW_BYTES
        part = body[sent : min(granted, sent + 256 * 1024)]
        await answer.say(part, c="body", q=sequence)
        sent, sequence = sent + len(part), sequence + 1
    return sent


@pytest.mark.parametrize("fault", ["torn", "late", "left"])
async def test_a_body_that_does_not_come_whole_frees_its_slot(
    server: natsd.RunningServer, data_dir: Path, fault: str
) -> None:
    async with Router.connected(server) as router, worker(server, data_dir, LARGE) as one:
        await router.until(one, InstanceState.READY)
        answer = await ask(router, one, size=10**7, ttl=800 if fault == "late" else 20_000)
        await eventually(lambda: answer.frames, "it was taken")
        assert (await router.post(one, "1")).refused == "busy"
        await answer.say(b"x", c="body", q=0)
        if fault == "torn":
            await answer.say(b"x", c="body", q=2)
        elif fault == "left":
            await answer.say(c="leave")
        assert (await answer.end()).refused == "expired"
        assert (await router.post(one, "1")).status == 200


async def test_an_answer_larger_than_the_bus_takes_leaves_in_parts(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    """Its slot is free at once: what is left to do is not the model's work."""
    async with Router.connected(server) as router, worker(server, data_dir, LARGE) as one:
        await router.until(one, InstanceState.READY)
        size = 2 * limits.BUS_PAYLOAD_BYTES_MAX
        answer = await ask(router, one, str(size))
        await eventually(lambda: len(answer.body) == WINDOW, "the window is used up")
        first = answer.frames[0].meta
        assert first["size"] == size + 2 and first["n"] == 0 and first["ms"] > 0
        assert (await router.post(one, "1")).status == 200
        await answer.say(c="take", to=size + 2)
        await answer.end()
        assert json.loads(answer.body) == "x" * size
        assert_in_order(answer.frames)


async def test_a_lost_bus_ends_what_is_under_way(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    """Parts may have been lost, so the generator is closed, and the router is told afterwards."""
    async with Router.connected(server) as router, worker(server, data_dir, COUNTING) as one:
        await router.until(one, InstanceState.READY)
        answer = await ask(router, one, "1000000")
        await eventually(lambda: len(answer.body) == WINDOW, "the window is used up")
        await server.stop()
        await eventually(lambda: "closed by its reader" in one.log(), "the generator is closed")
        await server.start()
        last = await answer.end()
        assert last.meta["c"] == "broken"
        await assert_served(router, one)
