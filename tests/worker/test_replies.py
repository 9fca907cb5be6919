"""A drain ends when every answer has been said, not when every answer has been made."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from headgate.runtime import natsd
from headgate.runtime.keyring import mint_worker_token
from headgate_contracts import subjects
from headgate_contracts.scoring import InstanceState
from headgate_worker import core, settings
from headgate_worker.bus import Bus
from headgate_worker.lane import EXIT_DRAINED, Lane
from headgate_worker.replies import Replies
from headgate_worker.request import Answer, Request
from headgate_worker.streams import Stream
from worker.harness import DEPLOYMENT, WAIT_S, Router, Worker, eventually

OK = Answer(200, [], b"said late")


def request() -> Request:
    return Request("to.router", {"id": "r1"}, b"", time.monotonic() * 1e3 + 60_000)


class Wire:
    """A bus whose writes take as long as the test wants."""

    max_payload = core.BUS_PAYLOAD_BYTES_MAX

    def __init__(self, happened: list[str]) -> None:
        self.writing = threading.Event()
        self.free = threading.Event()
        self._happened = happened

    def answer_now(self, subject: str, payload: bytes, deadline_ms: float) -> None:
        self.writing.set()
        assert self.free.wait(WAIT_S)
        self._happened.append("said")


class Draining:
    """The replies of a worker that drains and has one request in hand."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.wire = Wire(self.happened)
        self.loop = asyncio.get_running_loop()
        self.replies = Replies(
            cast(Bus, self.wire), self.wire.answer_now, self.loop, self._in_parts
        )
        self.replies.on_idle = lambda: self.happened.append("idle")
        self.replies.draining = True
        self.replies.taken = 1

    def _in_parts(self, request: Request, answer: Answer) -> None:
        self.happened.append("in parts")

    async def looked(self) -> None:
        """What has been called for on the loop so far is done."""
        turned = asyncio.Event()
        self.loop.call_soon_threadsafe(turned.set)
        await turned.wait()

    def model(self, *calls: Callable[[], None]) -> asyncio.Future[None]:
        """Call on a thread as the model's is."""

        def all_of_them() -> None:
            for call in calls:
                call()

        return self.loop.run_in_executor(None, all_of_them)


async def test_an_answer_that_is_gathered_is_waited_for() -> None:
    drain = Draining()
    drain.wire.free.set()
    await drain.model(lambda: drain.replies.gather(request(), OK))
    await drain.looked()
    assert drain.replies.in_flight == 0  # its slot is free, as the router will hear
    assert not drain.replies.is_idle and drain.happened == []
    await drain.model(drain.replies.flush)
    await drain.looked()
    assert drain.replies.is_idle and drain.happened == ["said", "idle"]


async def test_an_answer_that_is_being_written_is_waited_for() -> None:
    """Nothing is gathered any more, and the bytes are not on their way either."""
    drain = Draining()
    ended = drain.model(lambda: drain.replies.gather(request(), OK), drain.replies.flush)
    assert await asyncio.to_thread(drain.wire.writing.wait, WAIT_S)
    drain.replies.flush()  # the loop's own look: there is nothing left for it to say
    await drain.looked()
    assert not drain.replies.is_idle and drain.happened == []
    drain.wire.free.set()
    await ended
    await drain.looked()
    assert drain.happened == ["said", "idle"]


@pytest.mark.parametrize("parts", ["a stream", "too large for a message"])
async def test_an_answer_in_parts_has_begun_before_a_drain_may_end(parts: str) -> None:
    """``on_idle`` finds it among the transfers."""
    drain = Draining()
    one = request()
    one.window = 1
    if parts == "a stream":
        answer = Answer(200, [], b"", stream=Stream())
    else:
        answer = Answer(200, [], bytes(core.BUS_PAYLOAD_BYTES_MAX))
    await drain.model(lambda: drain.replies.gather(one, answer))
    await drain.looked()
    assert drain.happened[0] == "in parts"


class SlowToSpeak:
    """A model that has its answers at once and says them when it is told to."""

    room = 1
    interruptible = False
    inbox = None

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self.asked = threading.Event()

    def submit(self, request: Request) -> None:
        self._lane.gather(request, OK)
        self.asked.set()

    def figures(self) -> dict[str, int]:
        return {}

    def overdue_ms(self, now_ms: float) -> float:
        return 0.0

    def withdraw(self) -> list[Request]:
        return []

    def stop(self) -> None:
        """It has no thread."""


@contextmanager
def hosted(nats: natsd.RunningServer, folder: Path, endpoint: str) -> Iterator[Hosted]:
    """The bus side of a worker, on a thread of the test's process."""
    token = folder / "token"
    expires_at = time.time() + 600
    token.write_text(
        mint_worker_token(nats.server.keys, endpoint, DEPLOYMENT, "i1", expires_at=expires_at)
    )
    said = {
        "BUS_URL": nats.url,
        "BUS_TOKEN_FILE": str(token),
        "ENDPOINT": endpoint,
        "DEPLOYMENT": DEPLOYMENT,
        "INSTANCE": "i1",
        "DRAIN_TIMEOUT_S": str(WAIT_S),
    }
    environ = {settings.PREFIX + name: text for name, text in said.items()}
    ours, kernel = socket.socketpair()
    ours.setblocking(False)
    with ours, kernel:
        lane = Lane(settings.load(environ, version="1"), 0, ours)
        thread = threading.Thread(target=lane.run)
        thread.start()
        try:
            subject = subjects.instance(endpoint, DEPLOYMENT, "i1")
            yield Hosted(lane, endpoint, lane.instance, subject, kernel)
        finally:
            kernel.send(bytes([signal.SIGTERM]))
            lane.started.wait()
            lane.flush()
            thread.join()


@dataclass(frozen=True, slots=True)
class Hosted:
    lane: Lane
    endpoint: str
    instance: str
    subject: str
    kernel: socket.socket  # what is sent here is the number of a signal


async def test_a_worker_does_not_leave_with_an_answer_unsaid(
    nats: natsd.RunningServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "DRAIN_PROPAGATION_S", 0.0)
    async with Router.connected(nats) as router:
        with hosted(nats, data_dir, "slow-to-speak") as one:
            await asyncio.to_thread(one.lane.started.wait)
            model = SlowToSpeak(one.lane)
            one.lane.ready(model)

            def states() -> list[InstanceState]:
                return router.states(cast(Worker, one))

            await eventually(lambda: InstanceState.READY in states(), "it is ready")
            answer = await router.send(cast(Worker, one))
            assert await asyncio.to_thread(model.asked.wait, WAIT_S)
            one.kernel.send(bytes([signal.SIGTERM]))
            await eventually(lambda: InstanceState.DRAINING in states(), "it drains")
            # Long enough for a drain that does not wait; one that does is in no hurry.
            assert not await asyncio.to_thread(one.lane.ended.wait, 0.3)
            assert not answer.done() and InstanceState.STOPPED not in states()
            one.lane.flush()
            assert (await asyncio.wait_for(answer, WAIT_S)).body == OK.body
            await eventually(lambda: states()[-1] == InstanceState.STOPPED, "it has ended")
    assert one.lane.exit_code == EXIT_DRAINED
