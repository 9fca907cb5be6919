"""The service on a real bus and both databases: rows in exactly once, rows out to their owners."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headgate.logs import app, state
from headgate.logs.rows import VERSION_TABLE, PositionRow
from headgate.runtime.tables import open_database
from headgate_contracts import provisioning, subjects
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.logs import ConsoleLogged, Log, TrafficLogged
from logs.conftest import AT, MakeWorld, console_row, traffic_row


def values(reply: Any, column: str) -> list[Any]:
    at = [each.name for each in reply.columns].index(column)
    return [row[at] for row in reply.rows]


async def test_rows_are_found_by_what_they_say(make_world: MakeWorld, kind: str) -> None:
    world = await make_world(kind)
    said = [
        traffic_row(at=AT + number, status=status, request_id=f"r{number}", response_ms=0.5)
        for number, status in enumerate((200, 424, 503))
    ]
    await world.say("router", TrafficLogged(writer="r1", rows=tuple(said)))
    await world.say("provisioner", ConsoleLogged(writer="p1", rows=(console_row("hällo 100%"),)))
    reply = await world.until(lambda r: len(r.rows) == 3)
    assert values(reply, "ResponseCode") == [503, 424, 200]
    assert values(reply, "AzureMLWorkspaceName") == ["local"] * 3
    assert not reply.is_cut and reply.lost == 0 and reply.kept_since == AT
    assert reply.table == "AmlOnlineEndpointTrafficLog"
    for where, expected in {
        "ResponseCode >= 424": ["r2", "r1"],
        "ResponseCode > 423.5 and TotalDurationMs < 5": ["r2", "r1"],
        "ResponseCode in (200, 503) and not (XRequestId == 'r0')": ["r2"],
        "ModelStatusCode == null and ModelStatusCode != 200": ["r2", "r1", "r0"],
        "XRequestId contains 'R'": ["r2", "r1", "r0"],
        "XRequestId contains '%'": [],
    }.items():
        assert values(await world.ask(where=where), "XRequestId") == expected, where
    assert values(await world.ask(order="oldest", limit=2), "XRequestId") == ["r0", "r1"]
    assert (await world.ask(limit=2)).is_cut
    assert values(await world.ask(since=AT + 1, until=AT + 2), "XRequestId") == ["r1"]
    reply = await world.until(lambda r: r.rows, "console", columns=("message", "Level"))
    assert [each.name for each in reply.columns] == ["Message", "Level"]
    assert reply.rows == (("hällo 100%", ""),)


async def test_only_the_tenants_rows_are_answered(make_world: MakeWorld) -> None:
    world = await make_world()
    rows = (traffic_row(request_id="ours"), traffic_row(request_id="theirs", workspace="other"))
    await world.say("router", TrafficLogged(writer="r", rows=rows, lost={"other": 9}))
    reply = await world.until(lambda r: r.rows)
    for where in ("", "ResponseCode == 1 or ResponseCode != 1", "AzureMLWorkspaceName != 'x'"):
        found = await world.ask(where=where)
        assert values(found, "XRequestId") == ["ours"]
    assert reply.lost == 0
    other = await world.ask(workspace="other")
    assert values(other, "XRequestId") == ["theirs"]
    assert other.lost == 9


async def test_nothing_is_taken_in_twice_or_missed_over_restarts(make_world: MakeWorld) -> None:
    world = await make_world()
    for number in range(30):
        row = traffic_row(request_id=f"r{number}")
        await world.say("router", TrafficLogged(writer="r", rows=(row,), lost={"local": 1}))
        if number % 10 == 9:
            await world.stop()
            await world.start()
    reply = await world.until(lambda r: len(r.rows) >= 30)
    assert sorted(values(reply, "XRequestId")) == sorted(f"r{number}" for number in range(30))
    assert reply.lost == 30
    await world.stop()
    await world.start()
    await world.say("router", TrafficLogged(writer="r", rows=(traffic_row(request_id="last"),)))
    reply = await world.until(lambda r: "last" in values(r, "XRequestId"))
    assert len(reply.rows) == 31


async def test_events_of_instances_become_rows(make_world: MakeWorld) -> None:
    world = await make_world()
    about = {"workspace": "local", "endpoint": "digits", "deployment": "blue", "instance": "i1"}
    await world.say("provisioner", provisioning.InstanceStarted(**about, pid=7))
    await world.say(
        "provisioner", provisioning.InstanceLost(**about, reason="boom", restart_in_s=10)
    )
    reply = await world.until(lambda r: len(r.rows) == 4, "events", order="oldest")
    assert values(reply, "Name") == ["Pulled", "Created", "Started", "BackOff"]
    reply = await world.ask("events", where="Name == 'BackOff'")
    assert values(reply, "Message") == ["boom; started again in 10 s"]


async def test_what_is_not_understood_is_left_out(make_world: MakeWorld) -> None:
    world = await make_world()
    subject = subjects.log("traffic", "r")
    for payload in (b"", b"{", b'{"rows": [{"at": "x"}]}', b'{"writer": "r", "rows": 5}', b"[]"):
        await world.buses["router"].publish_stored_event(subject, payload, {})
    about = subjects.event("instance", "e.d.i", "started")
    await world.buses["provisioner"].publish_stored_event(about, b"[1]", {})
    await world.say("router", TrafficLogged(writer="r", rows=(traffic_row(),)))
    reply = await world.until(lambda r: r.rows)
    assert len(reply.rows) == 1


async def test_a_stream_that_began_again_is_followed(make_world: MakeWorld) -> None:
    """Its numbers are smaller than the one we know: it was made anew after a loss."""
    world = await make_world()
    await world.say("router", TrafficLogged(writer="r", rows=(traffic_row(request_id="a"),)))
    await world.until(lambda r: r.rows)
    await world.stop()
    url = world.settings.database_url("logs")
    database = await open_database(url, app.MIGRATIONS, VERSION_TABLE)
    async with database.transaction() as session:
        await session.merge(PositionRow(stream="HG_LOG", sequence=10_000))
    await database.close()
    await world.start()
    await world.until(lambda r: len(r.rows) == 2)  # the stream still holds it


async def test_rows_are_forgotten_by_age_and_by_share(make_world: MakeWorld, kind: str) -> None:
    world = await make_world(kind)
    loud = tuple(traffic_row(at=AT + n, endpoint="loud") for n in range(2_000))
    quiet = tuple(traffic_row(at=AT + n, endpoint="quiet") for n in range(5))
    for start in range(0, 2_000, 500):
        await world.say("router", TrafficLogged(writer="r", rows=loud[start : start + 500]))
    await world.say("router", TrafficLogged(writer="r", rows=quiet))
    await world.until(lambda r: len(r.rows) == 5, endpoint="quiet")
    database = await open_database(
        world.settings.database_url("logs"), app.MIGRATIONS, VERSION_TABLE
    )
    await app.forget_once(database, rows_max=105, before=0.0)
    async with database.reading() as session:
        assert await state.counts(session, Log.TRAFFIC) == {"loud": 100, "quiet": 5}
    reply = await world.ask(endpoint="loud", order="oldest", limit=1, columns=("TimeGenerated",))
    assert reply.rows == ((AT + 1_900,),)
    await app.forget_once(database, rows_max=105, before=AT + 1_990)
    async with database.reading() as session:
        assert await state.counts(session, Log.TRAFFIC) == {"loud": 10}
    await database.close()


async def test_answers_fit_a_message(make_world: MakeWorld) -> None:
    world = await make_world()
    rows = tuple(console_row("x" * 8_000) for _ in range(60))
    for _ in range(10):
        await world.say("provisioner", ConsoleLogged(writer="p", rows=rows))
    reply = await world.until(lambda r: r.rows and len(r.rows) > 200, "console", limit=600)
    assert reply.is_cut and len(reply.rows) < 600


@pytest.mark.parametrize(
    ("asked", "target"),
    [
        ({"where": "nonsense"}, "where"),
        ({"columns": ("Nonsense",)}, "columns"),
    ],
)
async def test_a_bad_question_is_the_askers_fault(
    make_world: MakeWorld, asked: dict[str, Any], target: str
) -> None:
    world = await make_world()
    with pytest.raises(HeadgateError) as caught:
        await world.ask(**asked)
    assert caught.value.error.code is ErrorCode.BAD_ARGUMENT
    assert caught.value.error.target == target


async def test_a_writer_says_rows_of_its_own_table_alone(make_world: MakeWorld) -> None:
    """A router cannot write lines of the console, nor a provisioner requests."""
    world = await make_world()
    with pytest.raises(TimeoutError):  # nobody acknowledges what the server does not let through
        async with asyncio.timeout(2):
            await world.say("router", ConsoleLogged(writer="r", rows=(console_row("forged"),)))
    await world.say("provisioner", ConsoleLogged(writer="p", rows=(console_row("true"),)))
    reply = await world.until(lambda r: r.rows, "console")
    assert values(reply, "Message") == ["true"]
