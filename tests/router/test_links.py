"""Requests past the bus: which way they go, and what becomes of them when a link is lost."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from headgate.router import links, table
from headgate.runtime import natsd
from headgate_contracts import limits
from headgate_contracts.scoring import Heartbeat, InstanceState
from router.stage import Instance, Response, Stage, connected, staged, until

Names = Callable[[str], str]


@pytest.fixture
def folder(data_dir: Path) -> Path:
    made = data_dir / "links"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture(autouse=True)
def links_are_tried_with_every_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "REOPEN_S", 0.0)


@pytest.fixture(autouse=True)
def nobody_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Missed heartbeats tell nothing: not of links, nor of a machine that has other work."""
    monkeypatch.setattr(table, "SILENT_AFTER_S", 1e9)


@pytest.fixture
def links_hold_little(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UNSENT_BYTES_MAX", "SEND_BUFFER_BYTES"):
        monkeypatch.setattr(links, name, 64 * 1024)


@pytest_asyncio.fixture
async def stage(nats: natsd.RunningServer, data_dir: Path, folder: Path) -> AsyncIterator[Stage]:
    async with staged(nats, data_dir) as made:
        yield made


async def linked(stage: Stage, name: str, folder: Path, **behaviour: Any) -> Instance:
    made = await stage.instance(name, links=folder, **behaviour)
    # The router is connected before the other side has taken the connection up.
    await until(lambda: is_linked(stage, made) and made.peers, "it is linked")
    return made


def is_linked(stage: Stage, instance: Instance) -> bool:
    seen = stage.seen(instance)
    return seen is not None and seen.outbox.link is not None


async def in_hand(stage: Stage, name: str, instance: Instance, count: int = 1) -> Any:
    """Requests that the instance has begun to execute; their answers."""
    before = len(instance.runs)
    asked = [asyncio.create_task(stage.ask(name, b"%d" % number)) for number in range(count)]
    await until(lambda: len(instance.runs) == before + count, "they are in hand")
    return asyncio.gather(*asked)


async def last_words(stage: Stage, name: str, folder: Path) -> tuple[Instance, Instance, Any]:
    """An instance that has said its last word with a request in hand; another; the answer."""
    await stage.route(name, {"blue": 100}, concurrency=2)
    leaving = await linked(stage, name, folder, capacity=2)
    leaving.gate.clear()
    answers = await in_hand(stage, name, leaving)
    other = await linked(stage, name, folder)
    leaving.beating = False
    await leaving.beat(InstanceState.STOPPED)
    return leaving, other, answers


def statuses(answers: list[Response]) -> list[int]:
    return [answer.status for answer in answers]


async def test_requests_of_an_instance_that_listens_go_past_the_bus(
    stage: Stage, unique: Names, folder: Path
) -> None:
    near, far = unique("near"), unique("far")
    await stage.route(near, {"blue": 100})
    await stage.route(far, {"blue": 100})
    beside, away = await linked(stage, near, folder), await stage.instance(far)
    for name in (near, far):
        assert (await stage.ask(name, b"question")).body == b"question"
    assert [run.by_link for run in beside.runs + away.runs] == [True, False]


async def test_a_body_in_parts_goes_the_way_of_its_parts(
    stage: Stage, unique: Names, folder: Path
) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100})
    instance = await linked(stage, name, folder)
    assert (await stage.ask(name, bytes(limits.SCORING_BODY_BYTES_MAX))).status == 200
    assert (await stage.ask(name, bytes(limits.SCORING_BODY_BYTES_MAX + 1))).status == 200
    assert [run.by_link for run in instance.runs] == [True, False]


async def test_what_a_killed_instance_had_in_hand_is_tried_elsewhere(
    stage: Stage, unique: Names, folder: Path
) -> None:
    """Nobody says that it has ended, and its heartbeats are not missed."""
    name = unique("ep")
    await stage.route(name, {"blue": 100}, timeout_ms=60_000, concurrency=4)
    killed = await linked(stage, name, folder, capacity=4)
    killed.gate.clear()
    answers = await in_hand(stage, name, killed, 4)
    other = await linked(stage, name, folder, capacity=4)
    await killed.die()
    assert statuses(await answers) == [200] * 4
    assert sorted(run.body for run in other.runs) == [b"0", b"1", b"2", b"3"]
    assert stage.seen(killed).state is InstanceState.LOST


async def test_an_instance_that_hangs_up_and_lives_keeps_what_it_has(
    stage: Stage, unique: Names, folder: Path
) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100}, concurrency=8)
    instance = await linked(stage, name, folder, capacity=8)
    instance.gate.clear()
    answers = await in_hand(stage, name, instance, 4)
    instance.hang_up()
    await until(lambda: not is_linked(stage, instance), "the router notices")
    later = await in_hand(stage, name, instance, 4)
    instance.gate.set()
    assert statuses(await answers) + statuses(await later) == [200] * 8
    assert len(instance.runs) == 8
    assert stage.seen(instance).state is InstanceState.READY
    await until(lambda: is_linked(stage, instance), "there is a new link")
    await stage.ask(name)
    assert instance.runs[-1].by_link


async def test_what_was_not_read_on_a_link_goes_by_the_bus(
    stage: Stage, unique: Names, folder: Path
) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100}, timeout_ms=60_000, concurrency=4)
    instance = await linked(stage, name, folder, capacity=4)
    (peer,) = instance.peers
    peer.transport.pause_reading()  # type: ignore[attr-defined]
    asked = [asyncio.create_task(stage.ask(name, b"%d" % number)) for number in range(3)]
    await until(lambda: stage.seen(instance).in_flight == 3, "they have been sent")
    peer.transport.abort()
    assert statuses(await asyncio.gather(*asked)) == [200] * 3
    assert sorted(run.body for run in instance.runs) == [b"0", b"1", b"2"]
    assert not any(run.by_link for run in instance.runs)


async def test_what_has_not_left_when_a_link_is_lost_goes_by_the_bus(
    stage: Stage, unique: Names, folder: Path
) -> None:
    """The link ends in the same turn of the loop in which requests were put into its box."""
    name = unique("ep")
    await stage.route(name, {"blue": 100}, concurrency=4)
    instance = await linked(stage, name, folder, capacity=4)
    seen = stage.seen(instance)
    post = stage.router.lane.post
    link = seen.outbox.link

    def post_and_lose(box: Any, head: bytes, body: bytes) -> bool:
        posted = post(box, head, body)
        link.abort()
        return posted

    stage.router.lane.post = post_and_lose  # type: ignore[method-assign]
    answer = await stage.ask(name, b"first")
    stage.router.lane.post = post  # type: ignore[method-assign]
    assert (answer.status, answer.body) == (200, b"first")
    assert [run.by_link for run in instance.runs] == [False]


@pytest.mark.usefixtures("links_hold_little")
async def test_requests_take_the_bus_while_a_link_is_congested(
    stage: Stage, unique: Names, folder: Path
) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100}, timeout_ms=60_000, concurrency=8)
    instance = await linked(stage, name, folder, capacity=8)
    (peer,) = instance.peers
    peer.transport.pause_reading()  # type: ignore[attr-defined]
    large = bytes(1024 * 1024)
    stuck = asyncio.create_task(stage.ask(name, large))
    await until(lambda: not is_linked(stage, instance), "it is full")
    assert (await stage.ask(name, b"past it")).status == 200
    assert [run.by_link for run in instance.runs] == [False]
    peer.transport.resume_reading()  # type: ignore[attr-defined]
    assert (await stuck).body == large
    assert is_linked(stage, instance)
    assert [run.by_link for run in instance.runs] == [False, True]


async def test_many_large_bodies_at_once_stay_on_their_link(
    stage: Stage, unique: Names, folder: Path
) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100}, timeout_ms=60_000, concurrency=32)
    instance = await linked(stage, name, folder, capacity=32)
    (peer,) = instance.peers
    peer.transport.pause_reading()  # type: ignore[attr-defined]
    bodies = [bytes([number]) * 1024 * 1024 for number in range(24)]
    first = asyncio.gather(*(stage.ask(name, body) for body in bodies))
    link = stage.seen(instance).outbox.link
    assert link is not None
    await until(lambda: link._transport.get_write_buffer_size() > 16 * 1024 * 1024, "they wait")
    last = asyncio.create_task(stage.ask(name, b"last"))
    await asyncio.sleep(0)
    assert is_linked(stage, instance)
    peer.transport.resume_reading()  # type: ignore[attr-defined]
    assert [answer.body for answer in await first] == bodies
    assert (await last).body == b"last"
    assert all(run.by_link for run in instance.runs)


@pytest.mark.usefixtures("links_hold_little")
async def test_what_has_not_left_when_an_instance_says_no_more_goes_by_the_bus(
    stage: Stage, unique: Names, folder: Path
) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100}, timeout_ms=60_000)
    instance = await linked(stage, name, folder)
    (peer,) = instance.peers
    peer.transport.pause_reading()  # type: ignore[attr-defined]
    large = bytes(1024 * 1024)
    stuck = asyncio.create_task(stage.ask(name, large))
    await until(lambda: not is_linked(stage, instance), "it is full")
    peer.write_eof()
    assert (await stuck).body == large
    assert [run.by_link for run in instance.runs] == [False]


def said(subject: str, payload: bytes, verb: bytes = b"MSG") -> bytes:
    return b"%b %b 1 %d\r\n%b\r\n" % (verb, subject.encode(), len(payload), payload)


def backward(subject: str) -> bytes:
    """A message that would end where it begins, again and again."""
    line = b"MSG %b 1 -%d\r\n"
    return line % (subject.encode(), len(line % (subject.encode(), 10)) + 2)


@pytest.mark.parametrize(
    "lies",
    [
        lambda own, other: said(other, b""),
        lambda own, other: said(own.rpartition(".")[0], b""),
        lambda own, other: b"MSG %b 1 99999999999\r\n" % own.encode(),
        lambda own, other: backward(own),
        lambda own, other: said(own, b"", b"PUB"),
        lambda own, other: b"HMSG %b 1 12 12\r\nNATS/1.0 503\r\n" % own.encode(),
        lambda own, other: b"PING\r\n",
        lambda own, other: bytes(4096),
    ],
    ids=["another's", "nobody's", "huge", "negative", "a verb", "no responders", "ping", "endless"],
)
async def test_a_link_brings_answers_of_its_own_instance_and_nothing_else(
    stage: Stage, unique: Names, folder: Path, lies: Callable[[str, str], bytes]
) -> None:
    mine, others = unique("mine"), unique("others")
    await stage.route(mine, {"blue": 100})
    await stage.route(others, {"blue": 100})
    liar, victim = await linked(stage, mine, folder), await linked(stage, others, folder)
    victim.gate.clear()
    answers = await in_hand(stage, others, victim)
    (peer,) = liar.peers
    liar.links, heard = None, stage.seen(liar).heard  # no second link
    await liar.beat()
    await until(lambda: stage.seen(liar).heard > heard, "the router knows")
    peer.write(lies(stage.seen(liar).reply, stage.seen(victim).reply))
    await until(lambda: not is_linked(stage, liar), "the link is dropped")
    assert (await stage.ask(mine, b"by the bus")).body == b"by the bus"
    assert is_linked(stage, victim)
    victim.gate.set()
    assert statuses(await answers) == [200]


async def test_an_id_that_is_a_path_opens_nothing(
    stage: Stage, unique: Names, folder: Path
) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100})
    (folder / "inner").mkdir()
    beat = Heartbeat(
        endpoint=name, deployment="blue", instance="x", state=InstanceState.READY, link=True
    )
    async with connected(stage.server, "provisioner") as nc:
        for lie in ("../run/other", "inner/x", "/tmp/x"):
            hostile = json.dumps({**json.loads(beat.model_dump_json()), "instance": lie})
            await nc.publish(beat.subject(), hostile.encode())
        await asyncio.sleep(0)
        await nc.flush()
    instance = await stage.instance(name)
    assert [each.id for each in stage.router.table.instances()] == [instance.name]


async def test_an_answer_before_the_last_word_is_heard(
    stage: Stage, unique: Names, folder: Path
) -> None:
    """The last word comes by the bus, and may overtake what was said on the link before."""
    leaving, other, answers = await last_words(stage, unique("ep"), folder)
    await until(lambda: stage.seen(leaving).state is InstanceState.STOPPED, "it is known")
    leaving.gate.set()
    assert statuses(await answers) == [200]
    assert (len(leaving.runs), len(other.runs)) == (1, 0)


async def test_what_an_instance_left_undone_is_tried_elsewhere(
    stage: Stage, unique: Names, folder: Path
) -> None:
    """Its link stays open after its last word, as that of a child that outlives it."""
    leaving, other, answers = await last_words(stage, unique("ep"), folder)
    assert statuses(await answers) == [200]
    assert len(other.runs) == 1
    assert not is_linked(stage, leaving)


async def test_a_link_works_while_the_bus_is_away(data_dir: Path, folder: Path) -> None:
    async with natsd.running(data_dir) as server, staged(server, data_dir) as stage:
        await stage.route("ep", {"blue": 100}, timeout_ms=60_000, concurrency=4)
        instance = await linked(stage, "ep", folder, capacity=4)
        instance.gate.clear()
        answers = await in_hand(stage, "ep", instance, 4)
        await server.kill()
        await until(lambda: not stage.router.lane.up, "the bus is away")
        instance.gate.set()
        assert statuses(await answers) == [200] * 4
        assert (await stage.ask("ep")).error["code"] == "BusUnavailable"
        await server.start()
        await until(lambda: stage.router.lane.up and stage.ready("ep"), "it is back")
        assert (await stage.ask("ep")).status == 200
        assert all(run.by_link for run in instance.runs)
        assert len(instance.runs) == 5


async def test_every_router_has_a_link_of_its_own_and_ends_it(
    stage: Stage, unique: Names, folder: Path, data_dir: Path, nats: natsd.RunningServer
) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100})
    instance = await linked(stage, name, folder)
    async with staged(nats, data_dir) as second:
        await until(lambda: is_linked(second, instance), "the second router is linked too")
        await until(lambda: second.known(name), "it knows the route")
        for each in (stage, second):
            assert (await each.ask(name)).status == 200
        assert [run.by_link for run in instance.runs] == [True, True]
        _, end = instance.peers
    await until(end.is_closing, "its link ends with it")
    await stage.route(name, {"blue": 100})
    assert (await stage.ask(name)).status == 200
    assert instance.runs[-1].by_link


async def test_a_socket_that_nobody_listens_on_costs_nothing(
    stage: Stage, unique: Names, folder: Path
) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100})
    instance = await stage.instance(name)
    stale = folder / f"{instance.name}.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(stale))
    instance.links = folder
    for _ in range(3):
        await instance.beat()
        assert (await stage.ask(name)).status == 200
    assert not any(run.by_link for run in instance.runs)
    stale.unlink()
    await instance.listen(folder)
    await until(lambda: is_linked(stage, instance), "somebody listens now")
    assert (await stage.ask(name)).status == 200
    assert instance.runs[-1].by_link


async def test_links_can_be_switched_off(
    nats: natsd.RunningServer, data_dir: Path, unique: Names, folder: Path
) -> None:
    name = unique("ep")
    async with staged(nats, data_dir, links=False) as stage:
        await stage.route(name, {"blue": 100})
        instance = await stage.instance(name, links=folder)
        await instance.beat()
        assert (await stage.ask(name)).status == 200
        assert not any(run.by_link for run in instance.runs)
        assert instance.peers == []
