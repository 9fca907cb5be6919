"""The usage journal: counts that outlive their process, and reach the stream once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from headgate.router import usage_journal, usage_page
from headgate.router.arrivals import Arrival, Target
from headgate.router.headers import Head, Ids
from headgate.router.usage_journal import Journal
from headgate.router.usage_page import Page
from headgate.runtime import natsd
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate_contracts import limits, streams
from headgate_contracts.usage import UsageKind, UsageReported, UsageRow
from router.stage import Stage, staged, until

AT = 1_900_000_000.0
COUNTER = """
import os, sys
from pathlib import Path
from headgate.router.usage_page import Page
page = Page(3, Path(sys.argv[1]))
rows = [page.add(60, ("local", "e", "d", f"k{n}", "scored", 200)) for n in range(3)]
number = 0
while True:
    rows[number % 3].note(7, 11, 13)
    os.write(1, b".")
    number += 1
"""


class Hand:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.at = AT

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


def arrival(endpoint: str = "digits", caller: str = "k1") -> Arrival:
    head = Head()
    return Arrival("local", endpoint, head, Ids(head, "x"), Target("POST", "/score", ""), 0, caller)


def counts(rows: Iterable[UsageRow]) -> Counter[tuple[str, str, int]]:
    found: Counter[tuple[str, str, int]] = Counter()
    for row in rows:
        found[row.caller, row.deployment, row.status] += row.requests
    return found


def test_rows_are_read_as_they_were_counted(data_dir: Path) -> None:
    page = Page(5, data_dir / "p")
    first = page.add(120, ("local", "digits", "blue", "k1", "scored", 200))
    page.add(120, ("local", "digits", "blue", "", "scored", 401))
    third = page.add(120, ("local", "digits", "grün", "häns", "mirrored", 0))
    assert first and third
    for n in range(1_001):
        first.note(n, 2 * n, 3)
    third.note(2**40, 0, 0)
    left = usage_page.read(data_dir / "p")
    assert left.epoch == 5 and left.rows == page.rows()
    assert [row.requests for row in left.rows] == [1_001, 0, 1]
    assert (left.rows[0].request_bytes, left.rows[0].response_bytes) == (500_500, 1_001_000)
    assert left.rows[0].compute_us == 3_003 and left.rows[0].minute == 120
    assert left.rows[2].caller == "häns" and left.rows[2].kind is UsageKind.MIRRORED
    assert left.rows[2].request_bytes == 2**40


def test_a_page_ends_before_its_bytes_do() -> None:
    page, number = Page(1, None), 0
    while page.add(0, ("w", "e", "d", f"{'k' * 100}{number}", "scored", 200)):
        number += 1
    assert number > 500 and len(page.rows()) == number


def test_no_request_that_was_counted_is_lost_with_its_process(data_dir: Path) -> None:
    """Killed at any instruction, a page holds what was counted, or one request more."""
    dice = random.Random(7)
    for turn in range(12):
        path = data_dir / f"{turn}"
        command = (sys.executable, "-c", COUNTER, str(path))
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            seen = len(child.stdout.read(dice.randrange(1, 30_000)))
            child.send_signal(signal.SIGKILL)
            seen += len(child.stdout.read())
        rows = usage_page.read(path).rows
        total = sum(row.requests for row in rows)
        assert total in (seen, seen + 1)
        assert sum(row.request_bytes for row in rows) == 7 * total
        assert sum(row.compute_us for row in rows) == 13 * total


@pytest.mark.parametrize("damage", [b"", b"short", bytes(100), b"HGUSAGE1" + b"\xff" * 200])
def test_what_is_no_page_is_put_aside(data_dir: Path, damage: bytes) -> None:
    path = data_dir / "0000000001.page"
    path.write_bytes(damage)
    assert usage_journal.read_left(path).rows == []
    if not damage.startswith(b"HGUSAGE1"):
        assert not path.exists() and path.with_suffix(".unreadable").exists()


def test_a_minute_has_rows_of_its_own(data_dir: Path) -> None:
    clock = Hand()
    journal = Journal(data_dir, "r1", clock)
    journal.note_answer(arrival(), "blue", 200)
    assert journal.turn_minute() == 60 - AT % 60
    journal.note_answer(arrival(), "blue", 200)
    clock.at += 60
    journal.turn_minute()
    journal.note_answer(arrival(), "blue", 200)
    journal.seal()
    rows = journal.sealed[0].rows()
    assert [row.requests for row in rows] == [2, 1]
    assert rows[1].minute - rows[0].minute == 60
    journal.close()


def test_a_full_disk_or_a_missing_folder_costs_safety_and_no_request(data_dir: Path) -> None:
    (data_dir / "file").write_text("")
    journal = Journal(data_dir / "file", "r1", Hand())
    journal.note_answer(arrival(), "blue", 200)
    journal.seal()
    assert journal.sealed[0].path is None and len(journal.sealed[0].rows()) == 1
    journal.close()


def test_pages_are_bounded(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "USAGE_PAGES_MAX", 2)
    journal = Journal(data_dir, "r1", Hand())
    number = 0
    while not journal.lost:
        journal.note_answer(arrival(caller=f"{'k' * 90}{number}"), "blue", 200)
        number += 1
    assert len(journal.sealed) == 2
    journal.seal()
    kept = sum(len(page.rows()) for page in journal.sealed)
    assert kept == number - 1  # every request is in a page, or counted as lost
    journal.close()


async def test_the_next_page_is_at_hand_and_keys_only_grow(data_dir: Path) -> None:
    journal = Journal(data_dir, "r1", Hand())
    for _ in range(3):
        await journal.prepare()
        journal.note_answer(arrival(), "blue", 200)
        journal.seal()
    preparing = asyncio.create_task(journal.prepare())
    await asyncio.sleep(0)  # it has its number now, and the page that is full takes a higher one
    for _ in range(2):
        journal.note_answer(arrival(), "blue", 200)
        journal.seal()
    await preparing
    await journal.prepare()
    journal.note_answer(arrival(), "blue", 200)
    journal.seal()
    epochs = [page.epoch for page in journal.sealed]
    assert epochs == sorted(set(epochs)) and len(epochs) == 6
    assert all(page.rows()[0].requests == 1 for page in journal.sealed)
    while journal.sealed:
        await journal.remove_first()
    journal.close()
    assert list(data_dir.iterdir()) == []


def test_folders_are_taken_from_the_dead_alone(data_dir: Path) -> None:
    journal = Journal(data_dir, "r1", Hand())
    journal.note_answer(arrival(), "blue", 200)
    journal.seal()
    (folder,) = usage_journal.folders_of_others(data_dir, "r2")
    with usage_journal.taken(folder) as pages:
        assert pages == []
    journal.close()
    with usage_journal.taken(folder) as pages:
        assert len(pages) == 1
        with usage_journal.taken(folder) as again:
            assert again == []
        pages[0].unlink()
    assert not folder.exists()


async def reported(server: natsd.RunningServer) -> list[UsageReported]:
    """All that the stream holds."""
    bus = await Bus.connect("bootstrap", server.url, server.creds("bootstrap"), SystemClock())
    try:
        found, state = [], (await bus.js.stream_info(streams.USAGE.name)).state
        for sequence in range(state.first_seq, state.last_seq + 1):
            message = await bus.js.get_msg(streams.USAGE.name, seq=sequence)
            found.append(UsageReported.model_validate_json(message.data or b""))
        return found
    finally:
        await bus.close()


def of(events: Iterable[UsageReported], endpoint: str) -> list[UsageRow]:
    return [row for event in events for row in event.rows if row.endpoint == endpoint]


async def test_every_answer_is_counted_with_its_caller(stage: Stage, unique: Any) -> None:
    name = unique("ep")
    await stage.route(
        name, {"blue": 100}, mirror={"green": 50}, keys=("first-key", "second-key-of-it")
    )
    await stage.instance(name, model=lambda meta, body: (500 if body == b"bad" else 200, [], b"ok"))
    for key, body in (("first-key", b"123"), ("second-key-of-it", b"bad"), ("wrong", b"")):
        await stage.ask(name, body, key=key)
    await stage.ask(name, b"1", key="first-key")
    await stage.ask(name, b"1", key="first-key", headers={"azureml-model-deployment": "nope"})
    await stage.router.usage.say()
    rows = of(await reported(stage.server), name)
    scored = [row for row in rows if row.kind is UsageKind.SCORED]
    assert counts(scored) == {
        ("0", "blue", 200): 2,
        ("1", "blue", 424): 1,
        ("", "", 401): 1,
        ("0", "", 404): 1,
    }
    good = next(row for row in rows if row.status == 200 and row.kind is UsageKind.SCORED)
    assert (good.request_bytes, good.response_bytes, good.compute_us) == (4, 4, 2_000)
    assert good.workspace == "local"


async def test_mirrored_requests_are_counted_apart(stage: Stage, unique: Any) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100}, mirror={"green": 100}, concurrency=8)
    await stage.instance(name, capacity=8)
    green = await stage.instance(name, "green", capacity=8)
    for _ in range(3):
        await stage.ask(name, b"12345")
    await until(lambda: len(green.runs) == 3)
    traffic = await stage.deployment_traffic(name, "green")
    await until(lambda: traffic.mirrored[200] == 3)
    await stage.router.usage.say()
    rows = of(await reported(stage.server), name)
    kinds = Counter({row.kind: row.requests for row in rows})
    assert kinds == {UsageKind.SCORED: 3, UsageKind.MIRRORED: 3}
    (copied,) = [row for row in rows if row.kind is UsageKind.MIRRORED]
    assert (copied.deployment, copied.caller, copied.request_bytes) == ("green", "", 15)


async def test_what_a_dead_router_left_is_said_by_the_next(data_dir: Path, unique: Any) -> None:
    """Also while the bus was away meanwhile: the page goes on being filled, and is said once."""
    async with natsd.running(data_dir / "bus") as server:
        bus = await Bus.connect("bootstrap", server.url, server.creds("bootstrap"), SystemClock())
        await bootstrap(bus)
        await bus.close()
        dead = Journal(data_dir / "usage", "dead", SystemClock())
        for status in (200, 200, 503):
            dead.note_answer(arrival("left"), "blue", status)
        dead.seal()
        dead.note_answer(arrival("left"), "blue", 200)
        os.close(dead._lock)  # as the kernel does when a process ends
        async with staged(server, data_dir) as stage:
            await until(lambda: not (data_dir / "usage" / "dead").exists())
            events = await reported(server)
            assert counts(of(events, "left")) == {("k1", "blue", 200): 3, ("k1", "blue", 503): 1}
            keys = [(event.reporter, event.epoch, event.first) for event in events]
            assert keys == [("dead", 1, 0), ("dead", 2, 0)]
            name = unique("ep")
            await stage.route(name, {"blue": 100})
            await stage.instance(name)
            await stage.ask(name)
        events = await reported(server)  # its last words
        assert counts(of(events, name)) == {("0", "blue", 200): 1}
        assert list((data_dir / "usage").iterdir()) == []


async def test_a_stream_that_is_full_makes_routers_wait(stage: Stage, unique: Any) -> None:
    """Nothing is dropped on either side: what the stream does not take stays where it is."""
    assert streams.USAGE.refuses_when_full
    bus = await Bus.connect(
        "bootstrap", stage.server.url, stage.server.creds("bootstrap"), SystemClock()
    )
    try:
        config = (await bus.js.stream_info(streams.USAGE.name)).config
        await bus.js.update_stream(config.evolve(max_bytes=1))
        name = unique("ep")
        await stage.route(name, {"blue": 100})
        await stage.instance(name)
        for _ in range(3):
            await stage.ask(name)
            with pytest.raises(Exception, match="maximum bytes"):
                await stage.router.usage.say()
        await bus.js.update_stream(config)
    finally:
        await bus.close()
    await stage.router.usage.say()
    rows = of(await reported(stage.server), name)
    assert counts(rows) == {("0", "blue", 200): 3}
