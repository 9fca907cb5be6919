"""The traffic log: a row per request, bounded, counted, and never in anybody's way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nats.js.errors import NotFoundError

from headgate.router.answers import ModelAnswer
from headgate.router.arrivals import Arrival, Target
from headgate.router.core import Refusal
from headgate.router.headers import Head, Ids
from headgate.router.requests import Outcome
from headgate.router.traffic_log import ROWS_HELD_MAX, TrafficLog
from headgate.runtime import natsd
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus, connection_options
from headgate.runtime.clock import SystemClock
from headgate_contracts import subjects
from headgate_contracts.logs import TrafficLogged, TrafficRow

ANSWER = ModelAnswer({"s": 200}, b"[1]")
REFUSAL = Refusal(503, "NoReadyInstance", "none is ready")


def arrival(endpoint: str, workspace: str = "local") -> Arrival:
    head = Head()
    head.add("User-Agent", "u" * 100)
    return Arrival(workspace, endpoint, head, Ids(head, "fresh"), Target("POST", "/score", "x"), 0)


def note(
    log: TrafficLog, arrival: Arrival, deployment: str, status: int, outcome: Outcome, **told: Any
) -> None:
    """As the router does: the allowance is asked first."""
    if log.allowance.takes(arrival, status):
        log.note(arrival, deployment, status, outcome, **told)


class Heard:
    """What a router has said about requests."""

    def __init__(self) -> None:
        self.messages: list[TrafficLogged] = []

    @property
    def rows(self) -> list[TrafficRow]:
        return [row for said in self.messages for row in said.rows]

    @property
    def lost(self) -> int:
        return sum(sum(said.lost.values()) for said in self.messages)


async def said(server: natsd.RunningServer, writer: str) -> Heard:
    """Everything that is in the stream from one writer."""
    bus = await Bus.connect("logs", server.url, server.creds("logs"), SystemClock())
    heard, sequence = Heard(), 1
    while True:
        try:
            found = await bus.js.get_msg(
                "HG_LOG", seq=sequence, subject=subjects.log("traffic", writer), next=True
            )
        except NotFoundError:
            break
        heard.messages.append(TrafficLogged.model_validate_json(found.data or b""))
        sequence = (found.seq or 0) + 1
    await bus.close()
    return heard


async def prepared(
    server: natsd.RunningServer, writer: str, rows_per_s: int
) -> tuple[Bus, TrafficLog]:
    first = await Bus.connect("bootstrap", server.url, server.creds("bootstrap"), SystemClock())
    await bootstrap(first)
    await first.close()
    bus = await Bus.connect("router", server.url, server.creds("router"), SystemClock())
    return bus, TrafficLog(bus, writer, rows_per_s)


async def test_a_row_says_what_happened(
    nats: natsd.RunningServer, unique: Callable[[str], str]
) -> None:
    writer, endpoint = unique("r"), unique("ep")
    bus, log = await prepared(nats, writer, 10)
    note(
        log,
        arrival(endpoint),
        "blue",
        424,
        ModelAnswer({"s": 500}, b""),
        body_s=0.001,
        total_s=0.0125,
        request_bytes=7,
        response_bytes=3,
    )
    note(log, arrival(endpoint), "", 503, REFUSAL)
    await log.say()
    answered, refused = (await said(nats, writer)).rows
    assert (answered.status, answered.reason) == (424, "Failed Dependency")
    assert (answered.model_status, answered.model_reason) == (500, "Internal Server Error")
    assert (answered.request_ms, answered.total_ms, answered.response_ms) == (1.0, 12.5, 12.5)
    assert (answered.request_bytes, answered.response_bytes) == (7, 3)
    assert (answered.user_agent, answered.request_id) == ("u" * 70, "fresh")
    assert (answered.endpoint, answered.deployment, answered.workspace) == (
        *(endpoint, "blue"),
        "local",
    )
    assert (refused.reason, refused.model_status, refused.response_ms) == (
        *("NoReadyInstance", None),
        None,
    )
    await bus.close()


async def test_too_many_requests_are_counted_and_failures_have_room(
    nats: natsd.RunningServer, unique: Callable[[str], str]
) -> None:
    writer, loud, quiet = unique("r"), unique("loud"), unique("quiet")
    bus, log = await prepared(nats, writer, 10)
    for _ in range(1_000):
        note(log, arrival(loud), "blue", 200, ANSWER)
    for _ in range(5):
        note(log, arrival(loud), "blue", 503, REFUSAL)
    note(log, arrival(quiet, "other"), "blue", 200, ANSWER)
    await log.say()
    heard = await said(nats, writer)
    statuses = [row.status for row in heard.rows if row.endpoint == loud]
    assert statuses == [200] * 8 + [503] * 2
    assert [row.endpoint for row in heard.rows].count(quiet) == 1
    assert heard.messages[0].lost == {"local": 995}
    note(log, arrival(loud), "blue", 200, ANSWER)  # the next second has rows again
    await log.say()
    assert len((await said(nats, writer)).rows) == 12
    await bus.close()


async def test_without_a_bus_memory_stays_bounded_and_the_loss_is_told_later(
    nats: natsd.RunningServer, unique: Callable[[str], str]
) -> None:
    writer = unique("r")
    bus, log = await prepared(nats, writer, 10_000)
    await bus.close()
    for number in range(ROWS_HELD_MAX + 500):
        note(log, arrival(f"e{number % 2}"), "blue", 200, ANSWER)
    await log.say()
    await bus.nc.connect(
        **connection_options("router", nats.url), user_credentials=str(nats.creds("router"))
    )
    await log.say()
    heard = await said(nats, writer)
    assert heard.rows == []
    assert heard.lost == ROWS_HELD_MAX + 500
    await bus.close()


async def test_the_log_can_be_off(nats: natsd.RunningServer, unique: Callable[[str], str]) -> None:
    writer = unique("r")
    bus, log = await prepared(nats, writer, 0)
    note(log, arrival("e"), "blue", 200, ANSWER)
    await log.say()
    assert (await said(nats, writer)).messages == []
    await bus.close()
