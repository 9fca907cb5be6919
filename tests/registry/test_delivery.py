"""What was decided gets out, whatever dies: events into the stream, routes into the bucket."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest
from sqlmodel import select

from headgate.registry.app import MIGRATIONS
from headgate.registry.rows import VERSION_TABLE, RegistryOutboxRow
from headgate.runtime.tables import open_database
from headgate_contracts.envelope import CLOUDEVENTS_SPEC_VERSION
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.registry import EndpointCreated, EndpointReply
from registry.harness import EventLog, World, eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

# The registry as a process of its own, so that it can be killed.
PROCESS = """
import asyncio, sys
from pathlib import Path
from headgate.registry import app
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate.runtime.settings import Settings

async def main(url, creds, data, database):
    clock = SystemClock()
    bus = await Bus.connect("registry", url, Path(creds), clock)
    service = await app.build(Settings(data=Path(data), database=database), bus, clock)
    await service.start()
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def waiting_events(world: World) -> int:
    """How many events still lie in the outbox."""
    database = await open_database(world.settings.database, MIGRATIONS, VERSION_TABLE)
    try:
        async with database.reading() as session:
            return len((await session.exec(select(RegistryOutboxRow))).all())
    finally:
        await database.close()


async def test_an_event_is_a_cloud_event_that_names_its_cause(
    world: World, name: str, events: EventLog
) -> None:
    await world.put_endpoint(name)
    await events.until("endpoint_created")
    [(_, data, headers)] = await events.all()
    event = EndpointCreated.model_validate(data)
    assert headers["ce-id"] == headers["Nats-Msg-Id"] == event.id
    assert headers["ce-type"] == EndpointCreated.TYPE
    assert headers["ce-source"] == "/headgate/registry"
    assert headers["ce-specversion"] == CLOUDEVENTS_SPEC_VERSION
    assert event.cause
    assert (event.workspace, event.endpoint) == (world.workspace, name)


async def test_events_come_in_the_order_of_the_changes(
    world: World, name: str, events: EventLog
) -> None:
    await world.put_endpoint(name)
    for number in range(20):
        await world.put_endpoint(name, description=f"change {number}")
    await events.until(*["endpoint_updated"] * 20)
    revisions = [data["revision"] for _, data, _ in await events.all()]
    assert revisions == sorted(set(revisions))


async def test_what_was_committed_but_not_said_is_said_by_the_next_process(
    own_world: World, name: str, events: EventLog
) -> None:
    await own_world.remove_streams()
    await own_world.start()
    await own_world.put_endpoint(name)
    await own_world.put_endpoint(name, description="x")
    assert await waiting_events(own_world) == 2
    await own_world.stop()
    await own_world.bootstrap()
    await own_world.start()
    assert await events.until("endpoint_updated") == ["endpoint_created", "endpoint_updated"]
    await own_world.routed(name, lambda route: True)
    await eventually(lambda: nothing_waits(own_world))


async def nothing_waits(world: World) -> bool:
    return await waiting_events(world) == 0


async def test_killing_the_process_again_and_again_loses_and_doubles_nothing(
    own_world: World, name: str, events: EventLog
) -> None:
    accepted: list[int] = []
    number = 0
    for _ in range(3):
        process = start_process(own_world)
        try:
            while len(accepted) % 7 != 6:
                try:
                    reply = await own_world.put_endpoint(name, description=str(number))
                    accepted.append(reply.endpoint.revision)
                except HeadgateError as error:
                    assert error.error.code is ErrorCode.UNAVAILABLE
                number += 1
            accepted.append((await own_world.put_endpoint(name, tags={})).endpoint.revision)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    await own_world.start()
    last = accepted[-1]

    async def said() -> bool:
        return any(data["revision"] == last for _, data, _ in await events.all())

    await eventually(said)
    revisions = [data["revision"] for _, data, _ in await events.all()]
    assert revisions == sorted(set(revisions))  # in order, none twice
    assert set(accepted) <= set(revisions)


def start_process(world: World) -> subprocess.Popen[str]:
    arguments = (world.server.url, world.server.creds("registry"), world.settings.data)
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS, *map(str, arguments), world.settings.database],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.stdout.close()
    return process


async def test_a_bus_that_dies_under_writes_loses_no_event(
    own_world: World, name: str, events: EventLog
) -> None:
    await own_world.start()
    first = await own_world.put_endpoint(name)
    writes = [
        asyncio.create_task(own_world.put_endpoint(name, tags={"n": str(number)}))
        for number in range(40)
    ]
    await asyncio.wait(writes, return_when=asyncio.FIRST_COMPLETED)
    await own_world.server.kill()
    for write in writes:
        write.cancel()  # their outcome is unknown
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    accepted = {each.endpoint.revision for each in outcomes if isinstance(each, EndpointReply)}
    await own_world.server.start()

    async def answers() -> bool:
        try:
            return bool(await own_world.endpoint(name))
        except HeadgateError:
            return False

    await eventually(answers)
    made = await own_world.deploy(name)
    await own_world.routed(name, lambda route: "blue" in route.deployments)
    await eventually(lambda: nothing_waits(own_world))
    revisions = [data["revision"] for _, data, _ in await events.all()]
    assert revisions == list(range(first.endpoint.revision, revisions[-1] + 1))
    assert {*accepted, made.revision} <= set(revisions)


async def test_routes_are_rebuilt_from_the_rows(own_world: World, name: str) -> None:
    """Whatever happened to the bucket while the registry was away."""
    await own_world.start()
    await own_world.put_endpoint(name)
    before = await own_world.routed(name, lambda route: True)
    await own_world.stop()
    async with own_world.route_bucket() as bucket:
        await bucket.put("stale", b'{"workspace":"w","endpoint":"stale"}')
        await bucket.put(name, b"not a route")
    await own_world.start()
    await own_world.unrouted("stale")
    await own_world.routed(name, lambda route: route.keys == before.keys)


async def test_a_route_never_goes_back_in_revision(own_world: World, name: str) -> None:
    """Routers ignore older revisions, also after a database came back from a backup."""
    await own_world.start()
    await own_world.put_endpoint(name)
    route = await own_world.routed(name, lambda route: True)
    await own_world.stop()
    ahead = route.model_copy(update={"revision": 1_000, "traffic": {"gone": 100}})
    async with own_world.route_bucket() as bucket:
        await bucket.put(name, ahead.model_dump_json().encode())
    await own_world.start()
    healed = await own_world.routed(name, lambda route: route.traffic == {})
    assert healed.revision > ahead.revision


async def test_an_unchanged_route_is_not_written_again(own_world: World, name: str) -> None:
    await own_world.start()
    await own_world.put_endpoint(name)
    await own_world.routed(name, lambda route: True)
    await own_world.put_endpoint(name, description="routers need not know")
    last = await own_world.routes_written()
    await own_world.stop()
    await own_world.start()
    await own_world.put_endpoint(f"{name}-2")
    await own_world.routed(f"{name}-2", lambda route: True)
    assert await own_world.routes_written() == last + 1


async def test_the_streams_may_come_later_than_the_registry(own_world: World, name: str) -> None:
    await own_world.remove_streams()
    await own_world.start()
    await own_world.put_endpoint(name)
    assert (await own_world.endpoint(name)).spec.name == name
    await own_world.bootstrap()
    await own_world.routed(name, lambda route: True)
    await eventually(lambda: nothing_waits(own_world))


async def test_readers_and_writers_in_parallel_agree(own_world: World, name: str) -> None:
    await own_world.start()
    await own_world.put_endpoint(name)
    writes = [own_world.put_endpoint(name, tags={"n": str(n)}) for n in range(30)]
    reads = [own_world.endpoint(name) for _ in range(30)]
    replies = await asyncio.gather(*writes, *reads)
    revisions = [reply.endpoint.revision for reply in replies[:30]]
    assert len(set(revisions)) == 30
    assert (await own_world.endpoint(name)).revision == max(revisions)
