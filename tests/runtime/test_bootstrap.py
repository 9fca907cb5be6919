"""The bootstrap makes the streams and buckets of the layout, and never takes anything away."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from nats.js.api import StorageType, StreamConfig

from headgate.runtime import natsd
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.streams import EVENTS, LAYOUT, ROUTES, Bucket, Layout, Stream

SUBJECT = "hg.v1.evt.x"
SMALL = Stream(
    "TEST", ("hg.v1.evt.>",), "first", max_bytes=10_000, max_age_s=600, max_msg_bytes=500
)


@pytest.fixture
async def server(data_dir: Path) -> AsyncIterator[natsd.RunningServer]:
    async with natsd.running(data_dir) as running:
        yield running


async def connect(server: natsd.RunningServer, service: str) -> Bus:
    return await Bus.connect(service, server.url, server.creds(service), SystemClock())


@pytest.fixture
async def bus(server: natsd.RunningServer) -> AsyncIterator[Bus]:
    connected = await connect(server, "bootstrap")
    yield connected
    await connected.close()


@pytest.fixture
async def writer(server: natsd.RunningServer) -> AsyncIterator[Bus]:
    """Somebody who may publish; the bootstrap itself may not."""
    connected = await connect(server, "registry")
    yield connected
    await connected.close()


async def config(bus: Bus, name: str) -> StreamConfig:
    return (await bus.js.stream_info(name)).config


async def test_everything_of_the_layout_is_made_with_its_limits(bus: Bus) -> None:
    await bootstrap(bus)
    events = await config(bus, EVENTS.name)
    assert events.subjects == list(EVENTS.subjects)
    assert (events.max_bytes, events.max_age) == (EVENTS.max_bytes, EVENTS.max_age_s)
    assert events.max_msg_size == EVENTS.max_msg_bytes
    assert events.storage == StorageType.FILE
    assert events.deny_delete
    routes = await config(bus, f"KV_{ROUTES.name}")
    assert routes.max_bytes == ROUTES.max_bytes
    assert routes.max_msgs_per_subject == ROUTES.history
    bucket = await bus.js.key_value(ROUTES.name)  # nats-py takes it for a bucket of its own
    assert (await bucket.status()).bucket == ROUTES.name
    assert len(await bus.js.streams_info()) == len(LAYOUT.streams) + len(LAYOUT.buckets)


async def test_the_second_time_nothing_changes(bus: Bus) -> None:
    await bootstrap(bus)
    before = [await config(bus, EVENTS.name), await config(bus, f"KV_{ROUTES.name}")]
    await bootstrap(bus)
    assert [await config(bus, EVENTS.name), await config(bus, f"KV_{ROUTES.name}")] == before


async def test_several_at_once_do_not_disturb_each_other(bus: Bus) -> None:
    await asyncio.gather(*(bootstrap(bus) for _ in range(5)))
    assert len(await bus.js.streams_info()) == len(LAYOUT.streams) + len(LAYOUT.buckets)


async def test_a_new_version_widens_limits_and_keeps_what_is_stored(bus: Bus, writer: Bus) -> None:
    await bootstrap(bus, Layout(streams=(SMALL,), buckets=(Bucket("b", "", 10_000),)))
    await writer.js.publish(SUBJECT, b"kept")
    wider = replace(
        SMALL, subjects=("hg.v1.evt.>", "more.>"), description="second", max_bytes=20_000
    )
    await bootstrap(bus, Layout(streams=(wider,), buckets=(Bucket("b", "", 30_000, history=3),)))
    now = await config(bus, "TEST")
    assert (now.description, now.max_bytes) == ("second", 20_000)
    assert now.subjects == ["hg.v1.evt.>", "more.>"]
    bucket = await config(bus, "KV_b")
    assert (bucket.max_bytes, bucket.max_msgs_per_subject) == (30_000, 3)
    assert (await bus.js.get_msg("TEST", seq=1)).data == b"kept"


async def test_limits_that_an_operator_widened_are_kept(bus: Bus) -> None:
    await bootstrap(bus, Layout(streams=(SMALL,)))
    found = await config(bus, "TEST")
    await bus.js.update_stream(found.evolve(max_bytes=50_000, max_age=900, max_msg_size=900))
    tighter = replace(SMALL, max_bytes=1_000, max_age_s=300, max_msg_bytes=100)
    await bootstrap(bus, Layout(streams=(tighter,)))
    now = await config(bus, "TEST")
    assert (now.max_bytes, now.max_age, now.max_msg_size) == (50_000, 900, 900)


async def test_a_stream_of_another_kind_is_left_alone_and_named(bus: Bus, writer: Bus) -> None:
    await bus.js.add_stream(
        name="TEST", subjects=["hg.v1.evt.>"], storage=StorageType.MEMORY, max_bytes=10_000
    )
    await writer.js.publish(SUBJECT, b"kept")
    with pytest.raises(HeadgateError) as caught:
        await bootstrap(bus, Layout(streams=(SMALL,)))
    assert caught.value.error.code is ErrorCode.RESOURCE_CONFLICT
    assert caught.value.error.target == "TEST"
    assert "storage" in str(caught.value)
    assert (await bus.js.get_msg("TEST", seq=1)).data == b"kept"


async def test_a_bus_without_jetstream_is_an_error_that_says_so() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(natsd.program_path()), "-a", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        bus = await Bus.connect("bootstrap", f"nats://127.0.0.1:{port}", None, SystemClock())
        with pytest.raises(HeadgateError) as caught:
            await bootstrap(bus)
        assert caught.value.error.code is ErrorCode.UNAVAILABLE
        assert "JetStream" in str(caught.value)
        await bus.close()
    finally:
        server.terminate()
        server.wait()
