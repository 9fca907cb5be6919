"""What the scoring path needs of a bus client: one suite over our lane and over nats-py.

The lane exists because it is faster; that it behaves as the reference client does is shown here.
What only the lane has (several frames in one message) comes last.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error, MaxPayloadError

from headgate.router.lane import JOINED_BYTES_MAX, NO_RESPONDERS, Lane
from headgate.router.wire import Deliver, Outbox
from headgate.runtime import natsd
from headgate_contracts import subjects
from router.stage import until

Heard = tuple[str, str, bytes]
SUBJECT = subjects.load("suite")
REPLY = f"{subjects.inbox_prefix('router')}.suite.1"


class BusClient(Protocol):
    """What both clients can do."""

    @property
    def up(self) -> bool: ...

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def sync(self) -> None: ...

    def on_up(self, callback: Callable[[], None]) -> None: ...

    def on_down(self, callback: Callable[[], None]) -> None: ...

    def subscribe(
        self, subject: str, deliver: Deliver, *, queue: str = ""
    ) -> Callable[[], None]: ...

    def send(self, subject: str, reply: str, parts: Sequence[bytes] = ()) -> bool: ...


class Reference:
    """nats-py behind the lane's interface, with the settings that the scoring path would need."""

    def __init__(self, url: str, creds: Path) -> None:
        self._url, self._creds = url, creds
        self._nc = Client()
        self._wanted: list[tuple[str, Deliver, str, list[Any]]] = []
        self._sent: asyncio.Queue[tuple[str, str, bytes]] = asyncio.Queue()
        self._ups: list[Callable[[], None]] = []
        self._downs: list[Callable[[], None]] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def up(self) -> bool:
        return self._nc.is_connected

    def on_up(self, callback: Callable[[], None]) -> None:
        self._ups.append(callback)

    def on_down(self, callback: Callable[[], None]) -> None:
        self._downs.append(callback)

    async def open(self) -> None:
        async def ignore(_: Exception) -> None: ...

        async def up() -> None:
            for callback in self._ups:
                callback()

        async def down() -> None:
            for callback in self._downs:
                callback()

        await self._nc.connect(
            self._url,
            user_credentials=str(self._creds),
            pending_size=0,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.05,
            error_cb=ignore,
            reconnected_cb=up,
            disconnected_cb=down,
        )
        for subject, deliver, queue, made in self._wanted:
            made.append(await self._nc.subscribe(subject, queue=queue, cb=_forward(deliver)))
        self._tasks.append(asyncio.create_task(self._publish()))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        with contextlib.suppress(Error):
            await self._nc.close()

    async def sync(self) -> None:
        await self._sent.join()
        await asyncio.sleep(0)
        await self._nc.flush()

    def subscribe(self, subject: str, deliver: Deliver, *, queue: str = "") -> Callable[[], None]:
        made: list[Any] = []
        self._wanted.append((subject, deliver, queue, made))

        def end() -> None:
            self._tasks.append(asyncio.create_task(made[0].unsubscribe()))

        return end

    def send(self, subject: str, reply: str, parts: Sequence[bytes] = ()) -> bool:
        if not self._nc.is_connected:
            return False
        if sum(map(len, parts)) > self._nc.max_payload:
            raise ValueError("too large")
        self._sent.put_nowait((subject, reply, b"".join(parts)))
        return True

    async def _publish(self) -> None:
        while True:
            subject, reply, payload = await self._sent.get()
            with contextlib.suppress(MaxPayloadError, Error):
                await self._nc.publish(subject, payload, reply=reply)
            self._sent.task_done()


def _forward(deliver: Deliver) -> Callable[[Msg], Any]:
    async def forward(message: Msg) -> None:
        status = (message.headers or {}).get("Status", "")
        head = f"NATS/1.0 {status}\r\n\r\n".encode() if message.headers else b""
        deliver(message.subject, message.reply, head, message.data)

    return forward


@pytest_asyncio.fixture
async def server(data_dir: Path) -> AsyncIterator[natsd.RunningServer]:
    async with natsd.running(data_dir / "bus") as running:
        yield running


Make = Callable[[], BusClient]


@pytest_asyncio.fixture(params=["lane", "nats-py"])
async def make(request: pytest.FixtureRequest, server: natsd.RunningServer) -> AsyncIterator[Make]:
    """Makes clients of one kind; all are closed in the end."""
    made: list[BusClient] = []

    def one() -> BusClient:
        creds = server.creds("router")
        client: BusClient = Lane(server.url, creds, "suite")
        if request.param == "nats-py":
            client = Reference(server.url, creds)
        made.append(client)
        return client

    yield one
    for client in made:
        await client.close()


def listen(client: BusClient, subject: str = SUBJECT, **options: Any) -> list[Heard]:
    heard: list[Heard] = []

    def deliver(subject: str, reply: str, head: bytes, payload: bytes) -> None:
        heard.append((subject, reply, bytes(payload)))

    client.subscribe(subject, deliver, **options)
    return heard


async def test_messages_arrive_whole_and_in_order(make: Make) -> None:
    client = make()
    heard = listen(client)
    await client.open()
    payloads = [b"", b"\r\nMSG x 1 2\r\n", bytes(range(256)), b"x" * 1_000_000]
    payloads += [b"%d" % number for number in range(200)]
    for payload in payloads:
        assert client.send(SUBJECT, REPLY, (payload[:3], payload[3:]))
    await until(lambda: len(heard) == len(payloads), "all have come")
    assert heard == [(SUBJECT, REPLY, payload) for payload in payloads]


async def test_a_question_that_nobody_hears_is_told_so(make: Make) -> None:
    client = make()
    heads: list[bytes] = []
    client.subscribe(f"{REPLY[:-1]}*", lambda _s, _r, head, _p: heads.append(head))
    await client.open()
    assert client.send(subjects.instance("no", "body", "here"), REPLY, (b"?",))
    await until(lambda: heads, "the server says that nobody is there")
    assert heads[0].startswith(NO_RESPONDERS)


async def test_members_of_a_group_share_the_messages(make: Make) -> None:
    one, other, sender = make(), make(), make()
    first, second = listen(one, queue="g"), listen(other, queue="g")
    for client in (one, other, sender):
        await client.open()
    await asyncio.gather(one.sync(), other.sync())
    for number in range(100):
        assert sender.send(SUBJECT, "", (b"%d" % number,))
    await until(lambda: len(first) + len(second) == 100, "each came once")
    assert first
    assert second


async def test_a_subscription_that_has_ended_hears_nothing(make: Make) -> None:
    client, heard = make(), []
    end = client.subscribe(SUBJECT, lambda *message: heard.append(message))
    kept = listen(client)
    await client.open()
    assert client.send(SUBJECT, "", (b"1",))
    await until(lambda: heard, "it is heard")
    end()
    await asyncio.sleep(0)
    await client.sync()
    assert client.send(SUBJECT, "", (b"2",))
    await until(lambda: len(kept) == 2, "the other one hears it")
    assert len(heard) == 1


async def test_what_is_too_large_harms_nobody(make: Make) -> None:
    """The server would close the connection on it, with everything that is under way."""
    client = make()
    heard = listen(client)
    await client.open()
    with pytest.raises(ValueError, match=r"bytes|large"):
        client.send(SUBJECT, "", (b"x" * (8 * 1024 * 1024), b"y"))
    assert client.send(SUBJECT, "", (b"after",))
    await until(lambda: heard, "the connection lives")


async def test_nothing_is_kept_while_the_bus_is_away(
    make: Make, server: natsd.RunningServer
) -> None:
    client, changes = make(), []
    heard = listen(client)
    client.on_down(lambda: changes.append("down"))
    await client.open()
    client.on_up(lambda: changes.append("up"))
    await server.kill()
    await until(lambda: changes == ["down"], "it notices")
    assert not client.up
    assert not client.send(SUBJECT, "", (b"lost",))
    await server.start()
    await until(lambda: changes == ["down", "up"] and client.up, "it comes back")
    assert client.send(SUBJECT, "", (b"later",))
    await until(lambda: heard, "its subscriptions have come back as well")
    assert [payload for _, _, payload in heard] == [b"later"]


# What only the lane has


@pytest_asyncio.fixture
async def lane(server: natsd.RunningServer) -> AsyncIterator[tuple[Lane, list[Heard]]]:
    client = Lane(server.url, server.creds("router"), "suite")
    heard = listen(client)
    await client.open()
    yield client, heard
    await client.close()


async def test_frames_of_one_turn_share_a_message(lane: tuple[Lane, list[Heard]]) -> None:
    client, heard = lane
    box, other = Outbox(SUBJECT, REPLY), Outbox(subjects.load("other"), REPLY)
    elsewhere = listen(client, subjects.load("other"))
    for number in range(3):
        assert client.post(box, b"head%d" % number, b"body")
    assert client.post(other, b"alone", b"")
    assert box.message == 0
    await until(lambda: heard and elsewhere, "they have come")
    assert heard == [(SUBJECT, REPLY, b"head0bodyhead1bodyhead2body")]
    assert elsewhere == [(subjects.load("other"), REPLY, b"alone")]
    assert client.post(box, b"next", b"")
    assert box.message == 1
    await until(lambda: len(heard) == 2, "the next turn has a message of its own")


async def test_a_large_frame_travels_alone(lane: tuple[Lane, list[Heard]]) -> None:
    client, heard = lane
    box = Outbox(SUBJECT, REPLY)
    large = b"x" * JOINED_BYTES_MAX
    for body in (b"small", large, b"small", b"small"):
        assert client.post(box, b"", body)
    await until(lambda: len(heard) == 3, "they have come")
    assert [payload for _, _, payload in heard] == [b"small", large, b"smallsmall"]


async def test_what_is_in_a_box_goes_down_with_the_connection(
    lane: tuple[Lane, list[Heard]], server: natsd.RunningServer
) -> None:
    client, heard = lane
    box = Outbox(SUBJECT, REPLY)
    assert client._wire is not None
    assert client.post(box, b"lost", b"")
    client._wire.abort()
    assert (box.parts, box.size) == ([], 0)
    await until(lambda: not client.up, "it notices")
    assert not client.post(box, b"refused", b"")
    await until(lambda: client.up, "it comes back")
    assert client.post(box, b"later", b"")
    await until(lambda: heard, "it works")
    assert [payload for _, _, payload in heard] == [b"later"]
