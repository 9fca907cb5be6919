"""Requests that share a call of the model: cut when it becomes free, and failing alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headgate.runtime import natsd
from headgate_contracts.scoring import Heartbeat, InstanceState
from worker.harness import Answer, Router, Worker, eventually, worker

# The item "gate" holds the model until the file `open` is there, so that others pile up behind it.
HEAD = """
    import os, time

    def init():
        pass

    def gate(items):
        while "gate" in items and not os.path.exists("open"):
            time.sleep(0.01)

"""
SIZES = (
    HEAD
    + """
    def run_batch(items):
        gate(items)
        return [{"item": item, "size": len(items)} for item in items]
"""
)
BAD = (
    HEAD
    + """
    def run_batch(items):
        print("batch of", len(items))
        gate(items)
        if "bad" in items:
            raise ValueError("a bad one")
        return [ValueError("only this one") if item == "odd" else item for item in items]
"""
)


def last_beat(router: Router, one: Worker) -> Heartbeat:
    return [beat for beat in router.heartbeats if beat.endpoint == one.endpoint][-1]


async def at_the_gate(router: Router, one: Worker, *, after: int = 0) -> asyncio.Future[Answer]:
    """The answer to come of a request that holds the model now, ``after`` so many batches."""
    gate = await router.send(one, "gate")
    await eventually(lambda: last_beat(router, one).batches == after + 1, "the model is busy")
    return gate


async def behind_the_gate(
    router: Router, one: Worker, *bodies: str, after: int = 0, **meta: Any
) -> list[Answer]:
    """The answers to requests that all came while the model was busy; the gate's own is last."""
    gate = await at_the_gate(router, one, after=after)
    waiting = [await router.send(one, body, **meta) for body in bodies]
    await eventually(lambda: last_beat(router, one).in_flight == 1 + len(bodies), "all have come")
    (one.folder / "code" / "open").touch()
    return await asyncio.wait_for(asyncio.gather(*waiting, gate), 20)


async def test_what_came_while_the_model_was_busy_goes_through_it_together(
    nats: natsd.RunningServer, data_dir: Path
) -> None:
    async with Router.connected(nats) as router, worker(nats, data_dir, SIZES) as one:
        await router.until(one, InstanceState.READY)
        alone = await router.post(one, "first")
        assert alone.json() == {"item": "first", "size": 1}
        bodies = [f"b{number}" for number in range(32)]
        *answers, gate = await behind_the_gate(router, one, *bodies, after=1)
        assert gate.json() == {"item": "gate", "size": 1}
        assert [a.json() for a in answers] == [{"item": body, "size": 32} for body in bodies]
        told = await eventually(
            lambda: (b := last_beat(router, one)).batched_requests == 34 and b, "counted"
        )
        assert (told.batches, told.batched_rows) == (3, 34)
        # One batch in the model and one at hand, although the deployment says nothing.
        assert told.capacity == 64


@pytest.mark.parametrize(
    ("capacity", "variables", "told"),
    [(1, {"BATCH_MAX_ROWS": "8"}, 16), (5, {"BATCH_MAX_ROWS": "8"}, 5)],
)
async def test_an_instance_has_room_for_two_batches_unless_its_deployment_says_otherwise(
    nats: natsd.RunningServer,
    data_dir: Path,
    capacity: int,
    variables: dict[str, str],
    told: int,
) -> None:
    async with (
        Router.connected(nats) as router,
        worker(nats, data_dir, SIZES, capacity=capacity, variables=variables) as one,
    ):
        await router.until(one, InstanceState.READY)
        assert last_beat(router, one).capacity == told


async def test_one_bad_request_fails_no_other(nats: natsd.RunningServer, data_dir: Path) -> None:
    """A batch that raises is tried again one by one; a returned exception is one request's."""
    async with Router.connected(nats) as router, worker(nats, data_dir, BAD) as one:
        await router.until(one, InstanceState.READY)
        *answers, _ = await behind_the_gate(router, one, "a", "odd", "bad", "b")
        assert [a.status for a in answers] == [200, 500, 500, 200]
        assert answers[0].json() == "a"
        assert answers[1].headers["x-ms-run-function-failed"] == "True"
        log = one.log()
        assert "a batch of 4 failed; now one by one: ValueError: a bad one" in log
        assert log.count("batch of 1\n") == 5  # the gate and the four
        assert "ValueError: only this one" in log


async def test_answers_that_cannot_be_told_apart_reach_nobody(
    nats: natsd.RunningServer, data_dir: Path
) -> None:
    script = (
        HEAD
        + """
    def run_batch(items):
        gate(items)
        return list({item: None for item in items}) if len(items) > 1 else items
    """
    )
    async with Router.connected(nats) as router, worker(nats, data_dir, script) as one:
        await router.until(one, InstanceState.READY)
        *answers, _ = await behind_the_gate(router, one, "a", "a", "b")
        assert [a.json() for a in answers] == ["a", "a", "b"]
        assert "run_batch() got 3 items and returned 2 answers" in one.log()


async def test_rows_are_counted_by_the_script(nats: natsd.RunningServer, data_dir: Path) -> None:
    """Batches are cut at the limit of rows, in the order of arrival; a larger one goes alone."""
    script = (
        HEAD
        + """
    def batch_rows(item):
        return 1 if item == "gate" else len(item)

    def run_batch(items):
        gate(items)
        return [items] * len(items)
    """
    )
    variables = {"BATCH_MAX_ROWS": "4"}
    async with (
        Router.connected(nats) as router,
        worker(nats, data_dir, script, variables=variables, capacity=10) as one,
    ):
        await router.until(one, InstanceState.READY)
        *answers, _ = await behind_the_gate(router, one, "aa", "bb", "ccc", "ddddddd", "e", "f")
        batches = [["aa", "bb"], ["aa", "bb"], ["ccc"], ["ddddddd"], ["e", "f"], ["e", "f"]]
        assert [a.json() for a in answers] == batches


async def test_a_request_whose_deadline_passed_in_the_queue_is_not_run(
    nats: natsd.RunningServer, data_dir: Path
) -> None:
    async with Router.connected(nats) as router, worker(nats, data_dir, SIZES) as one:
        await router.until(one, InstanceState.READY)
        gate = await at_the_gate(router, one)
        late = await router.send(one, "late", ttl=300)
        good = await router.send(one, "good")
        await eventually(lambda: last_beat(router, one).in_flight == 3, "all have come")
        came = last_beat(router, one).mono_ms
        await eventually(lambda: last_beat(router, one).mono_ms > came + 400, "it is too late")
        (one.folder / "code" / "open").touch()
        assert (await late).refused == "expired"
        assert (await good).json() == {"item": "good", "size": 1}
        assert (await gate).status == 200


async def test_an_idle_model_waits_for_more_if_it_is_told_to(
    nats: natsd.RunningServer, data_dir: Path
) -> None:
    """Until the batch is full, and never so long that a request would be late."""
    variables = {"BATCH_MAX_ROWS": "3", "BATCH_MAX_WAIT_MS": "60000"}
    async with (
        Router.connected(nats) as router,
        worker(nats, data_dir, SIZES, variables=variables) as one,
    ):
        await router.until(one, InstanceState.READY)
        sent = [await router.send(one, body, ttl=60_000) for body in "abc"]
        answers = await asyncio.wait_for(asyncio.gather(*sent), 20)
        assert [a.json()["size"] for a in answers] == [3, 3, 3]
        assert (await router.post(one, "alone", ttl=800)).json() == {"item": "alone", "size": 1}


async def test_raw_requests_share_a_call_too(nats: natsd.RunningServer, data_dir: Path) -> None:
    script = (
        HEAD
        + """
    from azureml.contrib.services.aml_request import rawhttp
    from azureml.contrib.services.aml_response import AMLResponse

    @rawhttp
    def run_batch(requests):
        gate([request.get_data(as_text=True) for request in requests])
        return [
            AMLResponse(each.args["a"] + str(len(requests)), 400 if each.data == b"x" else 200)
            for each in requests
        ]
    """
    )
    async with Router.connected(nats) as router, worker(nats, data_dir, script) as one:
        await router.until(one, InstanceState.READY)
        *answers, _ = await behind_the_gate(router, one, "x", "y", q="a=n")
        assert [(a.status, a.body) for a in answers] == [(400, b"n2"), (200, b"n2")]


async def test_what_is_no_batch_is_answered_beside_them(
    nats: natsd.RunningServer, data_dir: Path
) -> None:
    async with Router.connected(nats) as router, worker(nats, data_dir, SIZES) as one:
        await router.until(one, InstanceState.READY)
        assert (await router.post(one, p="/", m="GET")).body == b"Healthy"
        assert (await router.post(one, b"\xff")).status == 400
        assert (await router.post(one, p="/nothing")).status == 404


async def test_a_drain_finishes_every_batch(nats: natsd.RunningServer, data_dir: Path) -> None:
    variables = {"BATCH_MAX_ROWS": "2"}
    async with (
        Router.connected(nats) as router,
        worker(nats, data_dir, SIZES, variables=variables, capacity=20) as one,
    ):
        await router.until(one, InstanceState.READY)
        gate = await at_the_gate(router, one)
        sent = [await router.send(one, f"i{number}") for number in range(5)]
        await eventually(lambda: last_beat(router, one).in_flight == 6, "all have come")
        one.signal()
        await router.until(one, InstanceState.DRAINING)
        (one.folder / "code" / "open").touch()
        answers = await asyncio.wait_for(asyncio.gather(gate, *sent), 20)
        assert [a.json()["size"] for a in answers] == [1, 2, 2, 2, 2, 1]
        assert await one.wait() == 0


@pytest.mark.parametrize(
    ("script", "variables", "said"),
    [
        ("async def run_batch(items): return items", {}, "must be a plain function"),
        ("def run_batch(a, b): return a", {}, "must have one parameter"),
        ("def run(data): return data", {"BATCH_MAX_ROWS": "8"}, "no function run_batch(items)"),
        ("", {}, "no function run()"),
    ],
)
async def test_a_script_that_cannot_be_batched_says_why(
    nats: natsd.RunningServer, data_dir: Path, script: str, variables: dict[str, str], said: str
) -> None:
    source = f"def init(): pass\n{script}\n"
    async with worker(nats, data_dir, source, variables=variables) as one:
        assert await one.wait() == 3
        assert one.last_words()["code"] == "UserScriptFunctionNotFound"
        assert said in one.last_words()["message"]
