"""Changes under a condition: If-Match, If-None-Match, and a gateway that insists on the former."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.harness import Api
from gateway.house import House, open_house
from headgate.runtime.bus import Msg
from headgate.runtime.clock import new_id
from headgate_contracts import registry, rpc

pytestmark = pytest.mark.asyncio(loop_scope="module")
KINDS = ("onlineEndpoints", "batchEndpoints")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with open_house() as house:
        yield house


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strict(house: House) -> Api:
    """A gateway with the setting ``require_if_match``."""
    _, api = await house.open_gateway(require_if_match=True)
    return api


def path_of(kind: str) -> str:
    return f"~/{kind}/ep-{new_id()[:10]}"


async def made(api: Api, kind: str) -> tuple[str, str]:
    """A new resource: its path and ETag."""
    path = path_of(kind)
    reply = await api.put(path, {"tags": {}})
    assert reply.status == 201, reply.raw
    return path, reply.headers["ETag"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stale_etag_changes_nothing(house: House, kind: str) -> None:
    path, stale = await made(house.api, kind)
    fresh = (await house.api.put(path, {"tags": {"a": "b"}})).headers["ETag"]
    for verb, body in (("PUT", {"tags": {}}), ("PATCH", {"tags": {}}), ("DELETE", None)):
        late = await house.api.send(verb, path, body, headers={"If-Match": stale})
        assert (late.status, late.error["code"]) == (412, "PreconditionFailed"), verb
    assert (await house.api.get(path)).headers["ETag"] == fresh
    assert (await house.api.delete(path, headers={"If-Match": fresh})).status in (202, 204)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_not_there_meets_no_condition(house: House, kind: str) -> None:
    for tag in ("*", '"1"'):
        for verb in ("PUT", "DELETE"):
            body = {} if verb == "PUT" else None
            reply = await house.api.send(verb, path_of(kind), body, headers={"If-Match": tag})
            assert reply.status == 412, (verb, tag)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_strict_gateway_wants_to_hear_what_was_seen(strict: Api, kind: str) -> None:
    path, tag = await made(strict, kind)
    for verb, body in (("PUT", {}), ("PATCH", {"tags": {}}), ("DELETE", None)):
        reply = await strict.send(verb, path, body)
        assert (reply.status, reply.error["code"]) == (428, "PreconditionRequired"), verb
        assert reply.error["target"] == "If-Match"
    assert (await strict.get(path)).headers["ETag"] == tag
    changed = await strict.put(path, {"tags": {"a": "b"}}, headers={"If-Match": tag})
    assert changed.status == 200
    assert (await strict.put(path, {}, headers={"If-None-Match": "*"})).status == 412
    assert (await strict.delete(path, headers={"If-Match": "*"})).status in (202, 204)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_strict_gateway_lets_new_things_be_made(strict: Api, kind: str) -> None:
    await made(strict, kind)
    assert (await strict.delete(path_of(kind))).status == 204
    assert (await strict.patch(path_of(kind), {"tags": {}})).status == 404


async def test_a_command_says_who_gave_it_and_what_request_it_was(house: House) -> None:
    """Read where commands pass: on the bus."""
    heard: list[registry.PutEndpoint] = []

    async def hear(message: Msg) -> None:
        heard.append(registry.PutEndpoint.model_validate_json(message.data))

    bus = await house.connect("registry")
    try:
        await bus.subscribe(rpc.subject_of(registry.PutEndpoint), hear)
        await bus.sync()
        token = await house.mint("local/owner")
        reply = await house.api.put(path_of("onlineEndpoints"), {}, token=token)
        await bus.sync()
    finally:
        await bus.close()
    assert [command.cause for command in heard] == [reply.headers["x-request-id"]]
    assert [command.by for command in heard] == ["local/owner"]
