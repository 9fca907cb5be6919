"""Requests held for the first instance of a deployment that follows its load."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from headgate.router.core import RETRY_AFTER_S_MAX
from headgate_contracts.scoring import InstanceState
from router.stage import Stage, Wire, request, until

Names = Callable[[str], str]
GROWING: dict[str, Any] = {"held_max": 100, "hold_s": 60.0, "instances_max": 4}


def held(stage: Stage, endpoint: str) -> int:
    found = stage.router.table.endpoint(endpoint)
    assert found is not None
    return len(found.deployment("blue").waiting)


async def sent(stage: Stage, endpoint: str, count: int, **options: Any) -> list[Wire]:
    """Requests that are held now, each on its own connection."""
    before, wires = held(stage, endpoint), []
    for number in range(count):
        wires.append(await stage.wire())
        await wires[-1].send(request(endpoint, b"%d" % number, **options))
    await until(lambda: held(stage, endpoint) == before + count, "they are held")
    return wires


async def test_all_that_were_held_are_answered(stage: Stage, unique: Names) -> None:
    """Their time runs from the moment when there is an instance, not from their arrival."""
    name = unique("ep")
    await stage.route(name, {"blue": 100}, timeout_ms=1_000, concurrency=10, growing=GROWING)
    wires = await sent(stage, name, 100)
    one_more = await stage.ask(name)
    assert (one_more.status, one_more.error["code"]) == (429, "TooManyRequests")
    assert 1 <= int(one_more.headers["retry-after"]) <= RETRY_AFTER_S_MAX
    await asyncio.sleep(1.2)  # longer than the time limit of a request
    await stage.instance(name, capacity=10)
    answers = [await wire.receive() for wire in wires]
    assert [answer.status for answer in answers] == [200] * 100
    assert [answer.body for answer in answers] == [b"%d" % number for number in range(100)]
    found = stage.router.table.endpoint(name)
    assert found is not None
    blue = found.deployment("blue")
    assert (blue.held_bytes, blue.held_since) == (0, None) and blue.startup_s >= 1.2


async def test_a_clients_own_limit_counts_from_the_start(stage: Stage, unique: Names) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100}, growing=GROWING)
    answer = await stage.ask(name, headers={"x-request-timeout-ms": "50"})
    assert (answer.status, answer.error["code"]) == (503, "QueueExpired")


async def test_who_waits_in_vain_is_told_so(stage: Stage, unique: Names) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100}, growing={**GROWING, "hold_s": 0.05})
    answer = await stage.ask(name)
    assert (answer.status, answer.error["code"]) == (503, "NoReadyInstance")
    assert "retry-after" in answer.headers


async def test_what_the_last_instance_leaves_is_held_for_the_next(
    stage: Stage, unique: Names
) -> None:
    """An instance that drains refuses what reaches it; a request on its way there is not lost."""
    name = unique("ep")
    await stage.route(name, {"blue": 100}, growing=GROWING)
    last = await stage.instance(name)
    last.refuse = "draining"
    wires = await sent(stage, name, 3)
    await last.beat(InstanceState.STOPPED)
    await stage.instance(name)
    assert [(await wire.receive()).status for wire in wires] == [200] * 3


async def test_a_client_that_leaves_takes_its_request_along(stage: Stage, unique: Names) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100}, growing=GROWING)
    (wire,) = await sent(stage, name, 1)
    await wire.close()
    await until(lambda: held(stage, name) == 0, "it is gone")
    found = stage.router.table.endpoint(name)
    assert found is not None and found.deployment("blue").held_bytes == 0


async def test_a_stopped_deployment_holds_nothing(stage: Stage, unique: Names) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100}, growing=GROWING, is_stopped=True)
    assert (await stage.ask(name)).error["code"] == "DeploymentStopped"
