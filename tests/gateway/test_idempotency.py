"""Requests with an Idempotency-Key: done once, whoever asks again and whatever restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.harness import WORKSPACE
from gateway.house import House, open_house
from headgate.gateway import repeats
from headgate.gateway.repeats import Record, Repeats
from headgate.runtime.bus import Bus
from headgate.runtime.clock import new_id
from headgate_contracts import limits, streams
from headgate_contracts.errors import ErrorCode, HeadgateError

pytestmark = pytest.mark.asyncio(loop_scope="module")
TOKENS = "/access/tokens"
BODY = {"name": "pipeline", "grants": ["local/operator"]}
RECORD = Record(fingerprint="f", begun_at=100.0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with open_house() as house:
        yield house


def keyed(key: str, header: str = "Idempotency-Key") -> dict[str, Any]:
    return {"headers": {header: key}}


async def test_the_same_request_again_gets_the_same_answer(house: House) -> None:
    key, before = new_id(), await tokens(house)
    first = await house.api.post(TOKENS, BODY, **keyed(key))
    again = await house.api.post(TOKENS, BODY, **keyed(f'"{key}"'))
    assert first.status == again.status == 201
    assert first.body == again.body
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(await tokens(house)) == len(before) + 1


async def tokens(house: House) -> list[Any]:
    value: list[Any] = (await house.api.get(TOKENS)).body["value"]
    return value


async def test_another_gateway_and_a_later_one_know_the_answer(house: House) -> None:
    key = new_id()
    first = await house.api.post(TOKENS, BODY, **keyed(key))
    _, other = await house.open_gateway()
    assert (await other.post(TOKENS, BODY, **keyed(key))).body == first.body


async def test_the_same_key_for_another_body_is_refused(house: House) -> None:
    key = new_id()
    await house.api.post(TOKENS, BODY, **keyed(key))
    other = await house.api.post(TOKENS, {**BODY, "name": "another"}, **keyed(key))
    assert other.status == 422
    assert other.error["code"] == "IdempotencyKeyReused"
    assert other.error["target"] == "Idempotency-Key"


async def test_a_key_is_its_callers_own(house: House) -> None:
    key = new_id()
    first = await house.api.post(TOKENS, BODY, **keyed(key))
    token = await house.mint("local/owner")
    second = await house.api.post(TOKENS, BODY, token=token, **keyed(key))
    assert second.status == 201
    assert second.body["id"] != first.body["id"]


async def test_at_the_same_time_one_runs_and_the_others_wait(house: House) -> None:
    key, before = new_id(), len(await tokens(house))
    replies = await asyncio.gather(*(house.api.post(TOKENS, BODY, **keyed(key)) for _ in range(10)))
    assert {reply.status for reply in replies} <= {201, 409}
    assert len({reply.body["token"] for reply in replies if reply.status == 201}) == 1
    assert all("Retry-After" in reply.headers for reply in replies if reply.status == 409)
    assert len(await tokens(house)) == before + 1


@pytest.mark.parametrize("key", ["", '""', "a b", "é", "x" * 256, 'a"b'])
async def test_a_malformed_key_is_refused(house: House, key: str) -> None:
    reply = await house.api.post(TOKENS, BODY, **keyed(key))
    assert reply.status == 400
    assert reply.error["target"] == "Idempotency-Key"


async def test_a_token_is_not_made_without_a_key(house: House) -> None:
    headers = {"Authorization": f"Bearer {await house.mint('local/owner')}"}
    url = house.api.url(TOKENS)
    async with house.session.post(url, json=BODY, headers=headers) as reply:
        assert reply.status == 400
        assert (await reply.json())["error"]["target"] == "Idempotency-Key"


async def test_azures_header_says_the_same(house: House) -> None:
    key = new_id()
    first = await house.api.post(TOKENS, BODY, headers={"Idempotency-Key": key})
    both = {"Idempotency-Key": key, "Repeatability-Request-ID": key}
    again = await house.api.post(TOKENS, BODY, headers=both)
    assert again.body == first.body
    assert again.headers["Repeatability-Result"] == "accepted"
    differing = await house.api.post(TOKENS, BODY, headers={**both, "Idempotency-Key": "x"})
    assert differing.status == 400


async def test_a_refused_request_may_be_sent_again(house: House) -> None:
    name, key = f"keys-{new_id()[:8]}", new_id()
    path = f"~/onlineEndpoints/{name}"
    regenerate = f"{path}/regenerateKeys"
    body = {"keyType": "Primary"}
    assert (await house.api.post(regenerate, body, **keyed(key))).status == 404
    endpoint = {"location": "local", "properties": {"authMode": "Key"}}
    assert (await house.api.put(path, endpoint)).status == 201
    assert (await house.api.post(regenerate, body, **keyed(key))).status == 200
    made = (await house.api.post(f"{path}/listKeys")).body
    assert (await house.api.post(regenerate, body, **keyed(key))).status == 200
    assert (await house.api.post(f"{path}/listKeys")).body == made


async def test_what_is_kept_is_sealed_and_passes_away(house: House) -> None:
    bus: Bus = await house.connect("gateway")
    try:
        secret = (await house.api.post(TOKENS, BODY, **keyed(new_id()))).body["token"]
        info = await bus.js.stream_info(f"KV_{streams.REPEATS.name}")
        assert info.config.max_age == limits.REPEATS_KEPT_S
        bucket = await bus.js.key_value(streams.REPEATS.name)
        for key in await bucket.keys():
            value = (await bucket.get(key)).value or b""
            assert secret.encode() not in value
            assert b"pipeline" not in value
            assert len(key) == 64
    finally:
        await bus.close()


# --- the decisions -----------------------------------------------------------------------------


async def test_what_was_done_is_said_again_and_what_runs_is_awaited() -> None:
    done = RECORD.model_copy(update={"status": 201})
    assert repeats.decide(None, "f", 100.0) is None
    assert repeats.decide(done, "f", 1e9) is done
    with pytest.raises(HeadgateError) as running:
        repeats.decide(RECORD, "f", 100.0 + limits.REPEAT_RUNNING_S_MAX - 1)
    assert running.value.error.code is ErrorCode.RESOURCE_CONFLICT
    with pytest.raises(HeadgateError) as reused:
        repeats.decide(done, "g", 100.0)
    assert reused.value.error.code is ErrorCode.IDEMPOTENCY_KEY_REUSED


async def test_a_request_that_died_with_its_gateway_may_run_again() -> None:
    assert repeats.decide(RECORD, "f", 100.0 + limits.REPEAT_RUNNING_S_MAX) is None


async def test_routes_that_do_not_care_ignore_the_header() -> None:
    assert repeats.read_key({"Idempotency-Key": "a b"}, Repeats.IGNORED) is None
    assert repeats.read_key({}, Repeats.ACCEPTED) is None


async def test_places_and_fingerprints_do_not_run_together() -> None:
    assert repeats.place("a", "bc", WORKSPACE, "k") != repeats.place("ab", "c", WORKSPACE, "k")
    assert repeats.fingerprint("a", b"b") != repeats.fingerprint("", b"ab")
