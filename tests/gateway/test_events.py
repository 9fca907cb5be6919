"""The event trail over server-sent events, on a real stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from gateway.harness import TOKEN, Api, Connect, publish
from headgate.gateway import app, events
from headgate.gateway.app import GatewayService
from headgate.runtime import natsd
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate.runtime.settings import Settings
from headgate_contracts.envelope import Event
from headgate_contracts.registry import DeploymentDeleting, EndpointCreated, EndpointDeleting

Unique = Callable[[str], str]


@dataclass
class Trail:
    """A reader of the trail."""

    content: aiohttp.StreamReader

    async def next(self) -> dict[str, Any]:
        """The next event; blocks without data are passed over."""
        block: dict[str, str] = {}
        async with asyncio.timeout(20):
            while True:
                raw = await self.content.readline()
                if not raw:
                    raise EOFError
                line = raw.decode().rstrip("\n")
                if line:
                    name, _, text = line.partition(": ")
                    block[name] = text
                elif "data" in block:
                    event: dict[str, Any] = json.loads(block["data"])
                    assert block["id"] == str(event["sequence"])
                    assert block["event"] == event["type"]
                    return event
                else:
                    block = {}


@asynccontextmanager
async def tail(api: Api, query: str = "", last_id: str = "") -> AsyncIterator[Trail]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    if last_id:
        headers["Last-Event-ID"] = last_id
    async with api.session.get(f"{api.base}/events?{query}", headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        trail = Trail(response.content)
        assert await response.content.readline() == b"retry: 1000\n"
        yield trail


@pytest.fixture
async def registry_bus(connect: Connect) -> Bus:
    return await connect("registry")


def created(endpoint: str) -> EndpointCreated:
    return EndpointCreated(workspace="local", endpoint=endpoint, revision=1)


async def test_what_happens_is_told_while_it_happens(
    api: Api, registry_bus: Bus, unique: Unique
) -> None:
    name = unique("ep")
    async with tail(api, f"filter=endpoint.{name}.*") as trail:
        said = await publish(registry_bus, created(name))
        event = await trail.next()
    assert event["id"] == said.id
    assert event["type"] == EndpointCreated.TYPE
    assert event["subject"] == f"hg.v1.evt.endpoint.{name}.created"
    assert event["source"] == "/headgate/registry"
    assert event["specversion"] == "1.0"
    assert event["data"]["endpoint"] == name


async def test_a_reader_resumes_after_the_last_event_it_saw(
    api: Api, registry_bus: Bus, unique: Unique
) -> None:
    name = unique("ep")
    async with tail(api, f"filter=endpoint.{name}.>") as trail:
        await publish(registry_bus, created(name))
        first = await trail.next()
    said: list[Event] = [
        await publish(registry_bus, EndpointDeleting(workspace="local", endpoint=name, revision=n))
        for n in range(3)
    ]
    async with tail(api, f"filter=endpoint.{name}.>", str(first["sequence"])) as trail:
        assert [(await trail.next())["id"] for _ in range(3)] == [event.id for event in said]


async def test_the_past_is_told_from_a_time_on(api: Api, registry_bus: Bus, unique: Unique) -> None:
    name = unique("ep")
    before = await publish(registry_bus, created(name))
    after = await publish(registry_bus, EndpointDeleting(workspace="local", endpoint=name))
    since = datetime.fromtimestamp(after.at, UTC).isoformat().replace("+00:00", "Z")
    ids = []
    for query in ("since=1h", f"since={since}"):
        async with tail(api, f"{query}&filter=endpoint.{name}.*&follow=false") as trail:
            found = []
            with pytest.raises(EOFError):
                while True:
                    found.append((await trail.next())["id"])
            ids.append(found)
    assert ids == [[before.id, after.id], [after.id]]


async def test_a_filter_is_a_kind_or_a_subject(api: Api, registry_bus: Bus, unique: Unique) -> None:
    name = unique("ep")
    await publish(registry_bus, created(name))
    deleting = DeploymentDeleting(workspace="local", endpoint=name, deployment="blue")
    said = await publish(registry_bus, deleting)
    for text in ("deployment", f"deployment.{name}.blue.*", f"hg.v1.evt.*.{name}.blue.>"):
        async with tail(api, f"since=1m&filter={text}&follow=false") as trail:
            ids = []
            with pytest.raises(EOFError):
                while True:
                    ids.append((await trail.next())["id"])
        assert ids[-1] == said.id


@pytest.mark.parametrize(
    "query",
    [
        "since=yesterday",
        "since=10",
        "since=2030-01-31T12:00:00",
        "filter=a..b",
        "filter=>.a",
        "filter=a b",
        "filter=a*",
        "filter=%0d%0aid: 1",
        "filter=",
    ],
)
async def test_a_bad_query_is_refused(api: Api, query: str) -> None:
    reply = await api.get(f"/events?{query}")
    assert reply.status == 400
    assert reply.error["target"] == query.split("=")[0]


async def test_readers_are_limited(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "READERS_MAX", 1)
    async with tail(api):
        refused = await api.get("/events")
        assert refused.status == 503
        assert refused.headers["Retry-After"] == "5"


def test_callers_that_follow_no_more_are_forgotten() -> None:
    """Nobody grows the gateway by following under one name after the other."""
    trail = events.Events(cast(Any, None))
    with trail._place("stays"):
        for number in range(100):
            with pytest.raises(ConnectionError), trail._place(f"leaves-{number}"):
                raise ConnectionError
        assert trail._readers == {"stays": 1} and len(trail._readers) == 1
    assert not trail._readers


async def test_a_quiet_stream_says_that_it_lives(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE_S", 0.0)
    monkeypatch.setattr(events, "LOOK_S", 0.05)
    async with tail(api, "filter=nothing") as trail:
        async with asyncio.timeout(10):
            while await trail.content.readline() != b": still here\n":
                pass


async def test_a_stopping_gateway_ends_its_streams(api: Api, gateway: GatewayService) -> None:
    async with tail(api, "filter=nothing") as trail:
        async with asyncio.timeout(4):
            await gateway.listener.stop()
        with pytest.raises(EOFError):
            await trail.next()


async def test_a_reader_survives_a_restart_of_the_bus(data_dir: Path, unique: Unique) -> None:
    """What happened before, and what happens after, arrives once and in order."""
    async with natsd.running(data_dir / "bus") as server:

        async def connect(service: str) -> Bus:
            return await Bus.connect(service, server.url, server.creds(service), SystemClock())

        maker, registry = await connect("bootstrap"), await connect("registry")
        await bootstrap(maker)
        settings = Settings(data=data_dir, nats=server.url, port=0)
        settings.keys_dir.mkdir()
        (settings.keys_dir / app.TOKEN_FILE).write_text(TOKEN)
        gateway = await app.build(
            settings, await connect("gateway"), SystemClock(), tls=None, scoring_url=""
        )
        await gateway.start()
        name = unique("ep")
        async with aiohttp.ClientSession() as session:
            api = Api(session, gateway.listener.url)
            async with tail(api, f"filter=endpoint.{name}.*") as trail:
                first = await publish(registry, created(name))
                assert (await trail.next())["id"] == first.id
                back = asyncio.Event()

                async def note() -> None:
                    back.set()

                registry.on_reconnect(note)
                await server.kill()
                refused = await api.get("/events")
                assert refused.status == 503
                assert (await api.get("/readyz", token=None)).status == 503
                status = (await api.get("/status")).body
                assert status["bus"] == {"connected": False}
                assert (status["services"], status["endpoints"]) == ([], None)
                await server.start()
                async with asyncio.timeout(20):
                    await back.wait()
                second = await publish(registry, EndpointDeleting(workspace="local", endpoint=name))
                assert (await trail.next())["id"] == second.id
        await gateway.stop()
        for bus in (maker, registry):
            await bus.close()
