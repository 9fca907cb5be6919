"""The bus layer: typed errors instead of silence, on a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from headgate.runtime import natsd
from headgate.runtime.bus import ERROR_CODE_HEADER, Bus
from headgate.runtime.clock import SystemClock
from headgate.runtime.service import Service
from headgate_contracts import rpc
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.registry import EndpointReply, GetEndpoint, KeysReply, ListKeys
from headgate_contracts.resources import Endpoint, EndpointKeys, EndpointSpec
from headgate_contracts.routing import GetTraffic, TrafficReply


async def connect(server: natsd.RunningServer, service: str) -> Bus:
    return await Bus.connect(service, server.url, server.creds(service), SystemClock())


async def get_endpoint(query: GetEndpoint) -> EndpointReply:
    if query.name == "missing":
        raise HeadgateError(ErrorCode.RESOURCE_NOT_FOUND, "no endpoint missing", target="name")
    if query.name == "broken":
        raise RuntimeError("a fault with /secret/path in it")
    spec = EndpointSpec(name=query.name)
    return EndpointReply(endpoint=Endpoint(workspace=query.workspace, spec=spec))


async def list_keys(_query: ListKeys) -> KeysReply:
    await asyncio.sleep(1)
    return KeysReply(keys=EndpointKeys(primary_key="", secondary_key=""))


@pytest_asyncio.fixture
async def registry(data_dir: Path) -> AsyncIterator[tuple[natsd.RunningServer, Service]]:
    async with natsd.running(data_dir) as server:
        service = Service(
            await connect(server, "registry"),
            description="stands for the registry",
            handlers={GetEndpoint: get_endpoint, ListKeys: list_keys},
        )
        await service.start()
        yield server, service
        await service.stop()


Registry = tuple[natsd.RunningServer, Service]


async def test_a_question_gets_its_typed_answer(registry: Registry) -> None:
    asker = await connect(registry[0], "gateway")
    reply = await asker.ask(GetEndpoint(workspace="local", name="digits"), EndpointReply)
    assert reply.endpoint.spec.name == "digits"
    await asker.close()


@pytest.mark.parametrize(
    ("name", "code"),
    [("missing", ErrorCode.RESOURCE_NOT_FOUND), ("broken", ErrorCode.INTERNAL)],
)
async def test_every_failure_is_a_typed_error(
    registry: Registry, name: str, code: ErrorCode
) -> None:
    """A handler that raises must not leave its caller to a time-out, nor show its insides."""
    asker = await connect(registry[0], "gateway")
    with pytest.raises(HeadgateError) as caught:
        await asker.ask(GetEndpoint(workspace="local", name=name), EndpointReply)
    assert caught.value.error.code == code
    assert "/secret/path" not in caught.value.error.message
    await asker.close()


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b'{"workspace": 3}', b"\xff\xfe"])
async def test_a_malformed_message_is_refused_by_name(registry: Registry, payload: bytes) -> None:
    asker = await connect(registry[0], "gateway")
    answer = await asker.nc.request(rpc.subject_of(GetEndpoint), payload, timeout=5)
    assert answer.headers is not None
    assert answer.headers[ERROR_CODE_HEADER] == "1001"
    assert json.loads(answer.data)["error"]["code"] == "InvalidMessage"
    await asker.close()


async def test_nobody_there_is_said_at_once(registry: Registry) -> None:
    asker = await connect(registry[0], "gateway")
    with pytest.raises(HeadgateError) as caught:
        await asker.ask(GetTraffic(endpoint="digits"), TrafficReply, timeout_s=30)
    assert caught.value.error.code == ErrorCode.UNAVAILABLE
    assert await asker.ask_all(GetTraffic(endpoint="digits"), TrafficReply) == []
    await asker.close()


async def test_who_knows_how_many_there_are_waits_no_longer(registry: Registry) -> None:
    asker = await connect(registry[0], "gateway")
    query = GetEndpoint(workspace="local", name="digits")
    async with asyncio.timeout(10):
        answers = await asker.ask_all(query, EndpointReply, wait_s=60, enough=1)
    assert [answer.endpoint.spec.name for answer in answers] == ["digits"]
    await asker.close()


async def test_a_late_answer_is_an_unknown_outcome(registry: Registry) -> None:
    asker = await connect(registry[0], "gateway")
    with pytest.raises(HeadgateError) as caught:
        await asker.ask(ListKeys(workspace="local", endpoint="x"), KeysReply, timeout_s=0.2)
    assert caught.value.error.code == ErrorCode.TIMED_OUT
    await asker.close()


async def test_a_bus_that_is_down_fails_fast_and_executes_nothing_later(
    data_dir: Path,
) -> None:
    """A request refused while the bus was away must not reach anybody when it is back."""
    heard: list[str] = []

    async def note(query: GetEndpoint) -> EndpointReply:
        heard.append(query.name)
        return await get_endpoint(query)

    async with natsd.running(data_dir) as server:
        service = Service(
            await connect(server, "registry"), description="", handlers={GetEndpoint: note}
        )
        await service.start()
        asker = await connect(server, "gateway")
        back = asyncio.Event()
        asker.on_reconnect(lambda: _set(back))
        await server.kill()
        while asker.nc.is_connected:
            await asyncio.sleep(0.01)
        with pytest.raises(HeadgateError) as caught:
            await asker.ask(GetEndpoint(workspace="local", name="lost"), EndpointReply)
        assert caught.value.error.code == ErrorCode.UNAVAILABLE
        await server.start()
        await asyncio.wait_for(back.wait(), 20)
        reply = await _eventually(asker, "again")
        assert reply.endpoint.spec.name == "again"
        assert "lost" not in heard
        await asker.close()
        await service.stop()


async def _set(event: asyncio.Event) -> None:
    event.set()


async def _eventually(asker: Bus, name: str) -> EndpointReply:
    """The answering side reconnects on its own schedule."""
    while True:
        try:
            return await asker.ask(GetEndpoint(workspace="local", name=name), EndpointReply)
        except HeadgateError:
            await asyncio.sleep(0.05)


async def test_an_absent_bus_is_reported_and_not_waited_for(data_dir: Path) -> None:
    with pytest.raises(HeadgateError, match="does not answer"):
        await Bus.connect("gateway", "nats://127.0.0.1:9", None, SystemClock())


async def test_discovery_lists_the_service(registry: Registry) -> None:
    """`nats micro` tools see our services, their operations and their counts."""
    probe = await connect(registry[0], "probe")
    gateway = await connect(registry[0], "gateway")
    await gateway.ask(GetEndpoint(workspace="local", name="digits"), EndpointReply)

    async def ask(subject: str) -> dict[str, Any]:
        answer = await probe.nc.request(subject, b"", timeout=5)
        loaded: dict[str, Any] = json.loads(answer.data)
        return loaded

    ping = await ask("$SRV.PING")
    assert ping["name"] == "headgate-registry"
    info = await ask(f"$SRV.INFO.headgate-registry.{ping['id']}")
    assert {e["subject"] for e in info["endpoints"]} >= {rpc.subject_of(GetEndpoint)}
    stats = await ask("$SRV.STATS.headgate-registry")
    counted = {e["name"]: e["num_requests"] for e in stats["endpoints"]}
    assert counted["get_endpoint"] == 1
    await gateway.close()
    await probe.close()


async def test_stopping_finishes_what_was_asked(data_dir: Path) -> None:
    """Requests in hand when a service is told to stop still get their answers."""
    begun = asyncio.Event()

    async def slow(query: GetEndpoint) -> EndpointReply:
        begun.set()
        await asyncio.sleep(0.2)
        return await get_endpoint(query)

    async with natsd.running(data_dir) as server:
        service = Service(
            await connect(server, "registry"), description="", handlers={GetEndpoint: slow}
        )
        await service.start()
        asker = await connect(server, "gateway")
        asked = asyncio.create_task(
            asker.ask(GetEndpoint(workspace="local", name="digits"), EndpointReply)
        )
        await begun.wait()
        await service.stop()
        assert (await asked).endpoint.spec.name == "digits"
        await asker.close()


async def test_a_loop_that_fails_is_started_again(nats: natsd.RunningServer) -> None:
    runs = 0
    twice = asyncio.Event()

    async def loop() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("once")
        twice.set()

    service = Service(await connect(nats, "router"), description="", loops={"loop": loop})
    await service.start()
    await asyncio.wait_for(twice.wait(), 10)
    await service.stop()


async def test_a_loop_that_swallows_its_cancellation_still_ends(
    nats: natsd.RunningServer,
) -> None:
    """As ``asyncio.wait_for`` of Python 3.11 does when both things happen at once."""
    swallowed = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.set()
        await asyncio.Event().wait()

    service = Service(
        await connect(nats, "router"), description="has a loop", loops={"stubborn": stubborn}
    )
    await service.start()
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await service.stop()
    assert swallowed.is_set()
