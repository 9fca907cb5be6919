"""Lines of log files as rows: read on over cuts and restarts, within an allowance, each once."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.js.errors import NotFoundError

from headgate.provisioner import lines, logs, tailing
from headgate_contracts.logs import ConsoleLogged, ConsoleRow
from provisioner.harness import World, eventually

NOW = 1_900_000_000.0


@pytest.mark.parametrize(
    ("text", "level", "request_id", "message"),
    [
        ("2030-03-17T17:46:00.123Z INFO r-1 hello you", "INFO", "r-1", "hello you"),
        ("2030-03-17T17:46:00.123Z WARNING - ", "WARNING", "", ""),
        ("2030-03-17T17:46:00.123Z ERROR -", "ERROR", "", ""),
        ("2030-03-17T17:46:00Z   indented", "", "", "  indented"),
        ("plain C output", "", "", "plain C output"),
        ("", "", "", ""),
        ("2030-99-17T17:46:00.123Z INFO r x", "INFO", "r", "x"),
    ],
)
def test_a_line_is_read(text: str, level: str, request_id: str, message: str) -> None:
    line = lines.parse(text, 5.0, NOW)
    assert (line.level, line.request_id, line.message) == (level, request_id, message)


def test_times_are_the_lines_own_but_never_ahead() -> None:
    assert lines.parse("2030-03-17T17:46:00.500Z INFO - x", 5.0, NOW).at == NOW - 39.5
    assert lines.parse("2999-01-01T00:00:00Z INFO - x", 5.0, NOW).at == NOW
    assert lines.parse("no time", 5.0, NOW).at == 5.0
    assert lines.parse("no time", NOW + 5, NOW).at == NOW


@given(st.text(max_size=100), st.floats(0, 2e9), st.floats(0, 2e9))
def test_any_text_is_a_line(text: str, before: float, now: float) -> None:
    assert lines.parse(text, before, now).at <= now


@given(st.lists(st.floats(0, 3), max_size=50))
def test_an_allowance_is_kept_over_any_time(waits: list[float]) -> None:
    allowance, now, spent = lines.Allowance.full(10, 0.0), 0.0, 0
    for wait in waits:
        now += wait
        count = allowance.now(now)
        assert 0 <= count <= 10 * lines.BURST_S
        allowance.spend(count)
        spent += count
    assert spent <= 10 * (lines.BURST_S + now) + 1e-6


def test_lines_are_read_on_over_any_growth_and_cut(data_dir: Path) -> None:
    """Nothing twice, nothing missed, whatever the pieces in which it comes."""
    dice = random.Random(5)
    path = data_dir / logs.LOG
    path.touch()
    told: list[str] = []
    lost = position = 0
    written = [f"line {number} {'x' * dice.randrange(300)}" for number in range(3_000)]
    left = "".join(f"{line}\n" for line in written).encode()
    while left:
        size = dice.choice([1, 10, 1_000, 20_000])
        with path.open("ab") as file:
            file.write(left[:size])
        left = left[size:]
        if dice.random() < 0.3:
            piece = tailing.read_on(path, position, is_live=True, lines_max=dice.choice([5, 500]))
            told += piece.lines
            lost, position = lost + piece.lost, piece.position
        if dice.random() < 0.1:
            piece = tailing.read_on(path, position, is_live=True, lines_max=10_000)
            told += piece.lines
            position = piece.position
            logs.cut(path, bytes_max=5_000)
    piece = tailing.read_on(path, position, is_live=True, lines_max=10_000)
    told += piece.lines
    assert not tailing.has_news(path, piece.position)
    assert len(told) + lost == len(written)
    assert lost > 0
    places = {line: number for number, line in enumerate(written)}
    assert [places[line] for line in told] == sorted(places[line] for line in told)


def test_a_line_without_end_is_told_when_it_is_too_long_or_nobody_will_end_it(
    data_dir: Path,
) -> None:
    path = data_dir / logs.LOG
    path.write_bytes(b"one\ntwo")
    piece = tailing.read_on(path, 0, is_live=True, lines_max=9)
    assert (piece.lines, piece.position) == (("one",), 4)
    piece = tailing.read_on(path, 4, is_live=False, lines_max=9)
    assert (piece.lines, piece.position) == (("two",), 7)
    path.write_bytes(b"#" * 1_000_000)
    piece = tailing.read_on(path, 0, is_live=True, lines_max=2)
    assert len(piece.lines) == 2 and piece.lost >= 1
    assert all(len(line) <= logs.LINE_BYTES_MAX for line in piece.lines)


def test_a_cut_keeps_what_fits_and_readers_go_on(data_dir: Path) -> None:
    path = data_dir / logs.LOG
    path.write_bytes(b"".join(b"%06d\n" % number for number in range(10_000)))
    logs.cut(path, bytes_max=700)
    assert path.stat().st_size == 0
    assert logs.older(path).stat().st_size == 700
    piece = tailing.read_on(path, 0, is_live=True, lines_max=1_000)
    assert piece.lines == tuple(f"{number:06}" for number in range(9_900, 10_000))
    assert piece.position == 70_000


# --- with a real provisioner --------------------------------------------------------------------


async def told(world: World) -> ConsoleRows:
    """Everything in the stream."""
    bus = await world.connect("logs")
    found, sequence = ConsoleRows(), 1
    while True:
        try:
            message = await bus.js.get_msg(
                "HG_LOG", seq=sequence, subject="hg.v1.log.console.*", next=True
            )
        except NotFoundError:
            break
        said = ConsoleLogged.model_validate_json(message.data or b"")
        found.rows += said.rows
        found.lost += sum(said.lost.values())
        sequence = (message.seq or 0) + 1
    await bus.close()
    return found


class ConsoleRows:
    def __init__(self) -> None:
        self.rows: list[ConsoleRow] = []
        self.lost = 0

    def messages(self, **wanted: Any) -> list[str]:
        return [
            row.message
            for row in self.rows
            if all(getattr(row, name) == value for name, value in wanted.items())
        ]


LOUD = """
import os, threading
def init():
    print("the model is loaded")
def flood():
    line = b"x" * 90 + b"\\n"
    for _ in range(3_000):
        os.write(1, line * 100)
def run(data):
    if data == "flood":
        threading.Thread(target=flood, daemon=True).start()
    print("asked for", data)
    return data
"""


async def test_lines_are_told_with_their_request_and_once(world: World) -> None:
    await world.put(code=await world.code(LOUD))
    (instance,) = await world.ready(1)
    found = await eventually(lambda: _with(world, "the model is loaded"))
    (row,) = [row for row in found.rows if row.message == "the model is loaded"]
    assert (row.workspace, row.endpoint, row.deployment) == ("local", world.endpoint, "blue")
    assert (row.container, row.level, row.request_id) == ("inference-server", "INFO", "")
    assert row.instance == instance.id
    assert found.messages(container="storage-initializer")
    await world.stop_provisioner()
    await world.start_provisioner()
    await world.send(instance, b"again", time_limit_ms=10_000)
    found = await eventually(lambda: _with(world, "asked for again"))
    assert found.messages(message="the model is loaded") == ["the model is loaded"]


async def test_a_flood_is_bounded_and_counted_and_does_not_hold_up_the_model(world: World) -> None:
    await world.put(code=await world.code(LOUD))
    (instance,) = await world.ready(1)
    await world.send(instance, b"flood", time_limit_ms=10_000)
    log = world.settings.instances_dir / instance.id / logs.LOG

    async def answered(count: int) -> bool:
        beats = [beat.requests for beat in world.beats if beat.instance == instance.id]
        return max(beats) >= count

    for number in range(5):
        await eventually(partial(answered, number + 1))
        await world.send(instance, b"small", time_limit_ms=10_000)

    async def counted() -> ConsoleRows | None:
        found = await told(world)
        return found if len(found.rows) + found.lost >= 200_000 else None  # a cut may lose some

    found = await eventually(counted)
    per_s = world.settings.console_log_rows_per_s
    assert len(found.rows) < per_s * (lines.BURST_S + 60)
    assert found.lost > 190_000
    await eventually(lambda: _is_short(log))


async def _with(world: World, message: str) -> ConsoleRows | None:
    found = await told(world)
    return found if message in found.messages() else None


async def _is_short(log: Path) -> bool:
    size = log.stat().st_size + logs.older(log).stat().st_size
    return size <= 5 * logs.LOG_BYTES_MAX
