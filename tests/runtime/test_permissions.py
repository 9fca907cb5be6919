"""What each service may say and hear: exactly its row, and enough for its work."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import nats as nats_client
import pytest
from nats.errors import NoRespondersError

from headgate.runtime import keyring, natsd
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate.runtime.natsd import RunningServer
from headgate.runtime.permissions import SERVICES, Permissions, missing, permissions
from headgate_contracts import streams, subjects
from headgate_contracts.errors import ErrorCode, HeadgateError
from rawnats import RawNats, raw_nats

Unique = Callable[[str], str]


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject with or without wildcards is inside a pattern."""
    wanted, given = pattern.split("."), subject.split(".")
    for position, part in enumerate(wanted):
        if part == ">":
            return len(given) > position
        if position >= len(given) or (part not in ("*", given[position])):
            return False
    return len(wanted) == len(given)


def literal(pattern: str) -> str:
    return pattern.replace(">", "x.y").replace("*", "x")


FORBIDDEN_TO_ALL = (
    ">",
    "_INBOX.>",
    "_INBOX_stranger.>",
    "$SYS.REQ.SERVER.PING",
    "$SYS.ACCOUNT.x.CONNECT",
    "$JS.ACK.HG_EVT.x",
    "other",
)
FAMILIES = sorted(
    {line for service in SERVICES for line in permissions(service).say + permissions(service).hear}
    | {f"{subjects.inbox_prefix(service)}.>" for service in SERVICES}
    | {f"$JS.API.STREAM.{verb}.HG_EVT" for verb in ("CREATE", "UPDATE", "DELETE", "PURGE")}
    | set(FORBIDDEN_TO_ALL)
)


async def granted(client: RawNats) -> tuple[set[str], set[str]]:
    """Which families the server lets this connection publish to and subscribe to."""
    say = {family for family in FAMILIES if await client.publish_allowed(literal(family))}
    hear = set()
    for family in FAMILIES:
        if await client.subscribe_allowed(family):
            hear.add(family)
            await client.unsubscribe_last()
    return say, hear


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_may_do_what_its_row_says_and_nothing_else(
    nats: RunningServer, service: str
) -> None:
    """Every subject of the system, said and heard under each identity, against the real server."""
    row = permissions(service)
    async with raw_nats(nats.url, creds=nats.creds(service)) as client:
        say, hear = await granted(client)
    assert say == {f for f in FAMILIES if any(matches(line, literal(f)) for line in row.say)}
    assert hear == {f for f in FAMILIES if any(matches(line, f) for line in row.hear)}


def test_what_must_never_be_granted() -> None:
    """The rules behind the table, told apart from it: a new row that breaks one fails here."""
    for service in SERVICES:
        row = permissions(service)
        foreign = [line for line in row.hear if line.startswith("_INBOX")]
        assert foreign == [f"{subjects.inbox_prefix(service)}.>"], service
        assert not any(line.startswith(("_INBOX", "_R_")) for line in row.say), service
        if service != "bootstrap":
            pattern = re.compile(r"\$JS\.API\.(>|STREAM\.(CREATE|UPDATE|DELETE|PURGE|RESTORE))")
            granted = [line for line in row.say if pattern.match(line)]
            # What is in the ledger makes room in its stream; a job that ends leaves its queue.
            streams_of = {"metering": ["HG_USAGE"], "batch": ["HG_BATCH"]}
            own = [f"$JS.API.STREAM.PURGE.{name}" for name in streams_of.get(service, [])]
            assert granted == own, service
        if service != "router":
            assert not any(matches(line, "hg.v1.inst.e.d.i") for line in row.say), service
        assert not any(matches(line, "hg.v1.inst.e.d.i") for line in row.hear), service
        if service != "registry":
            assert not any(matches(line, "$KV.hg_routes.e") for line in row.say + row.hear), service


class TestServicesDoTheirWork:
    """The rows are not only tight but enough for what each service does through nats-py."""

    @pytest.fixture
    async def layout(self, nats: RunningServer) -> None:
        bus = await Bus.connect("bootstrap", nats.url, nats.creds("bootstrap"), SystemClock())
        await bootstrap(bus)
        await bus.close()

    async def test_routes_are_written_by_the_registry_and_read_by_routers(
        self, nats: RunningServer, layout: None, unique: Unique
    ) -> None:
        """Put, get, list, watch and delete for one; get, list and watch for the other."""
        registry, router = await connect(nats, "registry"), await connect(nats, "router")
        written = await registry.jetstream().key_value(streams.ROUTES.name)
        read = await router.jetstream().key_value(streams.ROUTES.name)
        key = unique("ep")
        await written.put(key, b"1")
        assert (await read.get(key)).value == b"1"
        assert key in await read.keys()
        assert key in await written.keys()
        watcher = await read.watchall()
        seen = await watcher.updates(timeout=5)
        while seen is not None and seen.key != key:
            seen = await watcher.updates(timeout=5)
        assert seen is not None
        await watcher.stop()
        await written.delete(key)
        with pytest.raises(nats_client.js.errors.KeyNotFoundError):
            await read.get(key)
        await registry.close()
        await router.close()

    async def test_events_are_stored_by_their_services_and_read_by_the_gateway(
        self, nats: RunningServer, layout: None, unique: Unique
    ) -> None:
        """The acknowledgement of the stream reaches its publisher; ordered consumers work."""
        name = unique("ep")
        subject = subjects.event("instance", f"{name}.blue.i1", "ready")
        for service in ("registry", "provisioner"):
            client = await connect(nats, service)
            stored = await client.jetstream().publish(subject, service.encode(), timeout=2)
            assert stored.stream == streams.EVENTS.name
            await client.close()
        gateway = await connect(nats, "gateway")
        history = await gateway.jetstream().subscribe(
            subject, stream=streams.EVENTS.name, ordered_consumer=True
        )
        assert [(await history.next_msg(timeout=5)).data for _ in range(2)] == [
            b"registry",
            b"provisioner",
        ]
        await history.unsubscribe()
        await gateway.close()

    @pytest.mark.parametrize(
        ("asker", "answerer"),
        [
            ("gateway", "registry"),
            ("gateway", "provisioner"),
            ("gateway", "router"),
            ("provisioner", "registry"),
            ("probe", "registry"),
        ],
    )
    async def test_questions_are_answered(
        self, nats: RunningServer, unique: Unique, asker: str, answerer: str
    ) -> None:
        """An answer may go to the inbox that asked, although no row names that inbox."""
        asking, answering = await connect(nats, asker), await connect(nats, answerer)
        subject = subjects.rpc(answerer, unique("op"))

        async def answer(message: nats_client.aio.msg.Msg) -> None:
            await message.respond(b"yes")

        await answering.subscribe(subject, cb=answer)
        await settled(answering)
        assert (await asking.request(subject, b"", timeout=2)).data == b"yes"
        await asking.close()
        await answering.close()

    @pytest.mark.parametrize("service", ["registry", "provisioner", "router", "gateway"])
    async def test_services_can_be_discovered(self, nats: RunningServer, service: str) -> None:
        """Each long-lived service answers ``$SRV.>``."""
        probe, answering = await connect(nats, "probe"), await connect(nats, service)

        async def answer(message: nats_client.aio.msg.Msg) -> None:
            await message.respond(service.encode())

        subject = f"$SRV.PING.headgate-{service}"
        await answering.subscribe(subject, cb=answer)
        await settled(answering)
        assert (await probe.request(subject, b"", timeout=2)).data == service.encode()
        await probe.close()
        await answering.close()

    async def test_nobody_answers_is_told_at_once(
        self, nats: RunningServer, unique: Unique
    ) -> None:
        """The server's no-responders notice passes the inbox permissions."""
        gateway = await connect(nats, "gateway")
        with pytest.raises(NoRespondersError):
            await gateway.request(subjects.rpc("registry", unique("op")), b"", timeout=5)
        await gateway.close()


async def settled(connection: nats_client.NATS) -> None:
    """Return when the server knows what was subscribed: a flush alone may overtake it."""
    await asyncio.sleep(0)
    await connection.flush()


async def connect(server: RunningServer, service: str) -> nats_client.NATS:
    return await nats_client.connect(
        server.url,
        user_credentials=str(server.creds(service)),
        inbox_prefix=subjects.inbox_prefix(service).encode(),
        max_reconnect_attempts=1,
    )


class TestSelfCheck:
    """A service that was granted too little says so at start."""

    async def test_fresh_credentials_pass(self, nats: RunningServer) -> None:
        """What the server granted is what the table says, for every service."""
        for service in SERVICES:
            client = await connect(nats, service)

            async def request(
                subject: str, payload: bytes, client: nats_client.NATS = client
            ) -> bytes:
                return bytes((await client.request(subject, payload, timeout=2)).data)

            await keyring.self_check(request, service)
            await client.close()

    async def test_missing_subjects_are_named(self, data_dir: Path) -> None:
        """Credentials of another version: the error names each subject that is not granted."""
        async with natsd.running(data_dir) as server:
            client = await connect(server, "gateway")

            async def request(subject: str, payload: bytes) -> bytes:
                return bytes((await client.request(subject, payload, timeout=2)).data)

            with pytest.raises(HeadgateError, match=r"publish hg\.v1\.evt\.>") as caught:
                await keyring.self_check(request, "registry")
            assert caught.value.error.code == ErrorCode.FORBIDDEN
            assert "subscribe hg.v1.rpc.registry.>" in caught.value.error.message
            await client.close()

    def test_no_restriction_grants_everything(self) -> None:
        """A server without permissions (a developer's own) is enough for any service."""
        wanted = Permissions(say=("a",), hear=("b",))
        assert missing(wanted, {}) == []
        assert missing(wanted, {"publish": {"allow": ["a"]}, "subscribe": {"allow": []}}) == [
            "subscribe b"
        ]
