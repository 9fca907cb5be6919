"""Alert rules and webhooks: a real receiver, real events, restarts in between."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from headgate.metering import alert_core, alert_state, app
from headgate.metering.rows import VERSION_TABLE, DeliveryRow
from headgate.runtime.tables import open_database
from headgate_contracts import limits
from headgate_contracts.alerts import (
    AlertRule,
    AlertRulesReply,
    DeleteAlertRule,
    DeliveriesReply,
    Delivery,
    DeliveryState,
    ListAlertRules,
    ListDeliveries,
    PutAlertRule,
    SendTestAlert,
    Topic,
)
from headgate_contracts.envelope import Done
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.quotas import QuotaKind, QuotaRefused
from metering.conftest import MakeWorld, World

SECRET = "a-secret-of-enough-letters"


class Receiver:
    """A web server that answers what a test says, and remembers what it was sent."""

    def __init__(self) -> None:
        self.statuses: list[int] = []  # one for each request; 200 when there are none left
        self.got: list[tuple[dict[str, str], str]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.text()))
        status = self.statuses.pop(0) if self.statuses else 200
        location = {"Location": f"{self.url}/elsewhere"} if status == 302 else {}
        return web.Response(status=status, headers=location)

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(text) for _, text in self.got]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.got) < count:
                await asyncio.sleep(0.02)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    application = web.Application()
    application.router.add_post("/{tail:.*}", made.take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = site.name
    yield made
    await runner.cleanup()


async def a_world(make_world: MakeWorld, receiver: Receiver, kind: str = "sqlite") -> World:
    return await make_world(kind, alert_urls=receiver.url, alert_networks="127.0.0.0/8")


def rule(receiver: Receiver, **given: Any) -> AlertRule:
    about = {"workspace": "local", "name": "on-call", "topics": [Topic.QUOTA_REFUSED]}
    return AlertRule.model_validate({**about, "url": f"{receiver.url}/hook?x=1", **given})


async def put(world: World, wanted: AlertRule, secret: str = SECRET) -> AlertRulesReply:
    command = PutAlertRule(rule=wanted, secret=secret)
    return await world.buses["probe"].ask(command, AlertRulesReply)


async def refuse(world: World, quota: str, **about: Any) -> None:
    """A quota refuses something, as routers tell it."""
    event = QuotaRefused(
        **{"workspace": "local", "endpoint": "digits", **about},
        quota=quota,
        kind=QuotaKind.REQUESTS,
        limit=5,
        message=f"{quota} is used up",
    )
    await world.say("router", event)


async def deliveries(world: World, name: str = "on-call") -> list[Delivery]:
    query = ListDeliveries(workspace="local", rule=name)
    return list((await world.buses["probe"].ask(query, DeliveriesReply)).deliveries)


async def until_ended(world: World, count: int) -> list[Delivery]:
    async with asyncio.timeout(30):
        while True:
            found = await deliveries(world)
            if sum(each.state is not DeliveryState.WAITING for each in found) == count:
                return found
            await asyncio.sleep(0.02)


# --- decisions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "event", "topic"),
    [
        ("hg.v1.evt.budget.b.alerted", {}, Topic.BUDGET_ALERTED),
        ("hg.v1.evt.sla.digits.burning", {}, Topic.SLA_BURNING),
        ("hg.v1.evt.sla.digits.recovered", {}, Topic.SLA_RECOVERED),
        ("hg.v1.evt.quota.q.refused", {}, Topic.QUOTA_REFUSED),
        ("hg.v1.evt.quota.q.changed", {}, None),
        ("hg.v1.evt.deployment.digits.blue.failed", {}, Topic.DEPLOYMENT_FAILED),
        ("hg.v1.evt.deployment.digits.blue.succeeded", {}, None),
        ("hg.v1.evt.autoscale.digits.blue.failed", {}, Topic.AUTOSCALE_FAILED),
        ("hg.v1.evt.job.j1.status_changed", {"status": "Failed"}, Topic.JOB_FAILED),
        ("hg.v1.evt.job.j1.status_changed", {"status": "Completed"}, None),
        ("hg.v1.evt.x", {}, None),
    ],
)
def test_topics_are_known_by_their_subject(
    subject: str, event: dict[str, Any], topic: Topic | None
) -> None:
    assert alert_core.topic_of(subject, event) is topic


@given(st.integers(1, 200), st.floats(0, 1, exclude_max=True))
def test_tries_wait_longer_and_end_within_a_day(attempts: int, dice: float) -> None:
    due_at = alert_core.next_try(attempts, 0.0, 100.0, dice)
    assert due_at is not None
    wait_s = due_at - 100
    assert limits.DELIVERY_RETRY_FIRST_S / 2 <= wait_s <= limits.DELIVERY_RETRY_MAX_S
    last = limits.DELIVERY_TRIED_S
    assert alert_core.next_try(attempts, 0.0, last, dice) is None


def test_a_signature_is_that_of_its_time_and_body() -> None:
    said = alert_core.signature("s", '{"a":1}', 1_234.9)
    digest = hmac.new(b"s", b'1234.{"a":1}', hashlib.sha256).hexdigest()
    assert said == f"t=1234,v1={digest}"


# --- the service -------------------------------------------------------------------------------


async def test_an_event_comes_signed_to_the_rules_that_want_it(
    make_world: MakeWorld, receiver: Receiver, kind: str
) -> None:
    world = await a_world(make_world, receiver, kind)
    await refuse(world, "before")  # nobody was listening yet
    await put(world, rule(receiver))
    await put(world, rule(receiver, name="other", endpoint="another"))
    await put(world, rule(receiver, name="off", is_enabled=False))
    await refuse(world, "mine")
    await refuse(world, "of-another-workspace", workspace="elsewhere")
    await refuse(world, "about-another", endpoint="another")
    await receiver.until(3)
    await until_ended(world, 2)
    assert sorted((each["rule"], each["event"]["quota"]) for each in receiver.bodies()) == [
        ("on-call", "about-another"),
        ("on-call", "mine"),
        ("other", "about-another"),
    ]
    headers, text = next(got for got in receiver.got if '"mine"' in got[1])
    body = json.loads(text)
    assert body["summary"] == "mine is used up" and body["topic"] == "quota_refused"
    assert headers["Headgate-Delivery"] == body["id"]
    at = headers["Headgate-Signature"].partition(",")[0].removeprefix("t=")
    assert headers["Headgate-Signature"] == alert_core.signature(SECRET, text, float(at))
    standing = await world.buses["probe"].ask(
        ListAlertRules(workspace="local", name="on-call"), AlertRulesReply
    )
    assert (standing.rules[0].delivered, standing.rules[0].waiting) == (2, 0)


async def test_what_fails_is_sent_again_also_after_a_restart_of_the_service(
    make_world: MakeWorld, receiver: Receiver, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least once, the same bytes and id each time; a redirect is not followed."""
    monkeypatch.setattr(limits, "DELIVERY_RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(limits, "DELIVERY_RETRY_MAX_S", 0.05)
    world = await a_world(make_world, receiver, kind)
    await put(world, rule(receiver))
    receiver.statuses = [500, 302, 429] + [503] * 100
    await refuse(world, "first")
    while len(receiver.got) < 5:
        world.clock.at += 0.1
        await asyncio.sleep(0.02)
    await world.stop()
    await refuse(world, "while-it-was-away")
    receiver.statuses = []
    before = len(receiver.got)
    world.clock.at += 1
    await world.start()
    found = await until_ended(world, 2)
    assert {each.state for each in found} == {DeliveryState.DELIVERED}
    assert len(receiver.got) == before + 2
    first = [body for body in receiver.bodies() if body["event"]["quota"] == "first"]
    assert len({json.dumps(body) for body in first}) == 1 and len(first) == before + 1
    delivered = next(each for each in found if each.id == first[0]["id"])
    assert delivered.attempts >= 5 and delivered.status == 200


async def test_a_receiver_that_is_away_for_a_day_is_given_up(
    make_world: MakeWorld, receiver: Receiver
) -> None:
    world = await a_world(make_world, receiver)
    await put(world, rule(receiver))
    receiver.statuses = [500] * 100
    await refuse(world, "q")
    await receiver.until(1)
    while (found := await deliveries(world))[0].attempts == 0:
        await asyncio.sleep(0.02)
    assert found[0].state is DeliveryState.WAITING and found[0].due_at is not None
    assert "answered 500" in found[0].error
    world.clock.at += 2 * limits.DELIVERY_TRIED_S
    await world.stop()
    await world.start()
    (found_one,) = await until_ended(world, 1)
    assert found_one.state is DeliveryState.GIVEN_UP and found_one.status == 500


async def test_a_full_queue_keeps_the_newest(
    make_world: MakeWorld, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DELIVERIES_WAITING_MAX", 3)
    monkeypatch.setattr(limits, "DELIVERIES_KEPT_MAX", 1)
    world = await make_world(kind)
    await world.stop()
    url = world.settings.database_url("metering")
    database = await open_database(url, app.MIGRATIONS, VERSION_TABLE)
    for number in (*range(5), 4):  # the last one comes twice
        async with database.transaction() as session:
            row = DeliveryRow(
                id=f"d{number}",
                workspace="local",
                rule="r",
                topic=Topic.TEST.value,
                event_id=f"e{number}",
                body="{}",
                state=DeliveryState.WAITING.value,
                created_at=1.0,
                due_at=1.0,
            )
            await alert_state.add(session, row)
    async with database.reading() as session:
        due = await alert_state.due(session, 2.0, 10)
        kept = await alert_state.deliveries(session, "local", "r", 10)
    assert [row.id for row in due] == ["d2", "d3", "d4"]
    assert [each.id for each in kept if each.state is DeliveryState.GIVEN_UP] == ["d1", "d0"]
    async with database.transaction() as session:
        await alert_state.forget(session, 2.0)
        assert len(await alert_state.deliveries(session, "local", "r", 10)) == 4
        await alert_state.forget(session, 2.0 + limits.DELIVERIES_KEPT_S)
        assert len(await alert_state.deliveries(session, "local", "r", 10)) == 3
    await database.close()


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/x",  # not listed
        "http://127.0.0.1:1/hook",  # another port
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "file:///etc/passwd",
        "not a url",
    ],
)
async def test_alerts_go_nowhere_but_to_listed_addresses(
    make_world: MakeWorld, receiver: Receiver, url: str
) -> None:
    world = await a_world(make_world, receiver)
    with pytest.raises(HeadgateError) as caught:
        await put(world, rule(receiver, url=url))
    assert caught.value.error.code is ErrorCode.URI_NOT_ALLOWED
    assert caught.value.error.target == "url" and "alert_urls" in str(caught.value)


async def test_an_address_that_is_not_listed_any_more_gets_nothing(
    make_world: MakeWorld, receiver: Receiver
) -> None:
    """Nor one whose network is not, though its address is."""
    world = await a_world(make_world, receiver)
    await put(world, rule(receiver))
    await world.stop()
    await world.start(alert_networks="")
    await refuse(world, "q")
    while not (found := await deliveries(world)) or not found[0].attempts:
        await asyncio.sleep(0.02)
    assert receiver.got == [] and "alerts may not go there" in found[0].error


async def test_a_test_is_delivered_and_a_rule_goes_with_its_deliveries(
    make_world: MakeWorld, receiver: Receiver
) -> None:
    world = await a_world(make_world, receiver)
    made = await put(world, rule(receiver), secret="")
    assert len(made.secret) == 64
    again = await put(world, rule(receiver, topics=[Topic.SLA_BURNING]), secret="")
    assert again.secret == ""
    probe = world.buses["probe"]
    await probe.ask(SendTestAlert(workspace="local", name="on-call"), DeliveriesReply)
    await receiver.until(1)
    headers, text = receiver.got[0]
    assert json.loads(text)["topic"] == "test"
    at = float(headers["Headgate-Signature"].partition(",")[0].removeprefix("t="))
    assert headers["Headgate-Signature"] == alert_core.signature(made.secret, text, at)
    gone = DeleteAlertRule(workspace="local", name="on-call")
    await probe.ask(gone, Done)
    assert await deliveries(world) == []
    for request in (gone, SendTestAlert(workspace="local", name="on-call")):
        with pytest.raises(HeadgateError) as caught:
            await probe.ask(request, DeliveriesReply)
        assert caught.value.error.code is ErrorCode.RESOURCE_NOT_FOUND
    with pytest.raises(HeadgateError) as caught:
        await put(world, rule(receiver), secret="short")
    assert caught.value.error.target == "secret"
