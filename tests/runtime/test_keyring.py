"""Keys and credentials: kept private, kept across starts, and worth exactly what the table says."""

from __future__ import annotations

import base64
import json
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path

import nats as nats_client
import pytest
from nats.errors import NoRespondersError
from nats.js.api import StreamConfig

from headgate.runtime import keyring, natsd
from headgate.runtime.keyring import Keyring
from headgate.runtime.natsd import RunningServer
from headgate.runtime.permissions import (
    SERVICES,
    Permissions,
    missing,
    permissions,
    worker_permissions,
)
from headgate_contracts import streams, subjects
from headgate_contracts.errors import ErrorCode, HeadgateError
from rawnats import RawNats, RefusedError, raw_nats

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
            assert not any(pattern.match(line) for line in row.say), service
        if service != "router":
            assert not any(matches(line, "hg.v1.inst.e.d.i") for line in row.say), service
        assert not any(matches(line, "hg.v1.inst.e.d.i") for line in row.hear), service
        if service != "registry":
            assert not any(matches(line, "$KV.hg_routes.e") for line in row.say + row.hear), service


async def test_without_or_with_foreign_credentials_nobody_gets_in(
    nats: RunningServer, data_dir: Path
) -> None:
    """Anonymous, garbage, and credentials of another installation are refused at the door."""
    foreign = Keyring.open(data_dir / "keys")
    worker = keyring.mint_worker_token(foreign.folder, "e", "d", "i", expires_at=time.time() + 60)
    with pytest.raises(RefusedError, match="Authorization"):
        async with raw_nats(nats.url):
            pass
    for token in ("x.y.z", worker):
        with pytest.raises(RefusedError, match="Authorization"):
            async with raw_nats(nats.url, token=token):
                pass
    with pytest.raises(RefusedError, match="Authorization"):
        async with raw_nats(nats.url, creds=foreign.creds("registry")):
            pass
    jwt_without_its_key = nats.creds("registry").read_text().splitlines()[1]
    with pytest.raises(RefusedError, match="Authorization"):
        async with raw_nats(nats.url, token=jwt_without_its_key):
            pass


class TestServicesDoTheirWork:
    """The rows are not only tight but enough for what each service does through nats-py."""

    @pytest.fixture
    async def layout(self, nats: RunningServer) -> None:
        client = await connect(nats, "bootstrap")
        js = client.jetstream()
        events = streams.EVENTS
        await js.add_stream(
            StreamConfig(
                name=events.name,
                subjects=list(events.subjects),
                max_bytes=1 << 20,
                allow_direct=True,
            )
        )
        await js.create_key_value(bucket=streams.ROUTES.name, max_bytes=1 << 20, direct=True)
        await client.close()

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
        await answering.flush()
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
        await answering.flush()
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


async def connect(server: RunningServer, service: str) -> nats_client.NATS:
    return await nats_client.connect(
        server.url,
        user_credentials=str(server.creds(service)),
        inbox_prefix=subjects.inbox_prefix(service).encode(),
        max_reconnect_attempts=1,
    )


class TestWorkerTokens:
    """A model's process is a stranger on the bus: it gets its own few subjects."""

    def token(self, server: RunningServer, endpoint: str, **options: object) -> str:
        lanes = options.pop("lanes", ())
        expires_at = options.pop("expires_at", time.time() + 60)
        assert not options
        return keyring.mint_worker_token(
            server.server.keys, endpoint, "blue", "i1", expires_at=expires_at, lanes=lanes
        )

    async def test_it_speaks_and_hears_only_as_its_instance(
        self, nats: RunningServer, unique: Unique
    ) -> None:
        """Its beats, its requests, the deployment's only in the queue group; nothing else."""
        e = unique("ep")
        async with raw_nats(nats.url, token=self.token(nats, e)) as worker:
            assert await worker.publish_allowed(subjects.heartbeat(e, "blue", "i1"))
            assert await worker.subscribe_allowed(subjects.instance(e, "blue", "i1"))
            assert await worker.subscribe_allowed(subjects.instance(e, "blue", "i1"), queue="w")
            assert await worker.subscribe_allowed(subjects.deployment(e, "blue"), queue="w")

            assert not await worker.subscribe_allowed(subjects.deployment(e, "blue"))
            assert not await worker.subscribe_allowed(subjects.deployment(e, "blue"), queue="x")
            assert not await worker.subscribe_allowed(subjects.deployment(e, "green"), queue="w")
            for subject in (
                subjects.instance(e, "blue", "i2"),
                subjects.instance("other", "blue", "i1"),
                subjects.heartbeat(e, "blue", "i1"),
                f"hg.v1.inst.{e}.blue.*",
                *FAMILIES,
            ):
                assert not await worker.subscribe_allowed(subject), subject
            for subject in (
                subjects.heartbeat(e, "blue", "i2"),
                subjects.heartbeat(e, "green", "i1"),
                subjects.instance(e, "blue", "i1"),
                subjects.instance(e, "blue", "i2"),
                *map(literal, FAMILIES),
            ):
                assert not await worker.publish_allowed(subject), subject

    async def test_it_answers_what_it_was_asked_and_cannot_forge_other_answers(
        self, nats: RunningServer, unique: Unique
    ) -> None:
        """The reply subject of a request it got is open to it, any other inbox is not."""
        e = unique("ep")
        async with (
            raw_nats(nats.url, token=self.token(nats, e)) as worker,
            raw_nats(nats.url, creds=nats.creds("router")) as router,
        ):
            await worker.subscribe_allowed(subjects.instance(e, "blue", "i1"), queue="w")
            await router.subscribe_allowed("_INBOX_router.>")
            await router.publish_allowed(
                subjects.instance(e, "blue", "i1"), b"ask", reply="_INBOX_router.c1.r1"
            )
            _, reply, _ = await worker.receive()
            for payload in (b"first frame", b"second frame"):  # a message may hold many requests
                assert await worker.publish_allowed(reply, payload)
                assert (await router.receive())[2] == payload
            assert not await worker.publish_allowed("_INBOX_router.c1.r2", b"forged")
            assert not await worker.publish_allowed("_INBOX_gateway.c1.r1", b"forged")

    async def test_an_answer_can_still_be_given_after_the_bus_was_away(
        self, nats: RunningServer, unique: Unique
    ) -> None:
        """The server forgets reply subjects with the connection; the instance's own place stays."""
        e = unique("ep")
        token = self.token(nats, e)
        async with raw_nats(nats.url, creds=nats.creds("router")) as router:
            await router.subscribe_allowed("_INBOX_router.>")
            async with raw_nats(nats.url, token=token) as worker:
                await worker.subscribe_allowed(subjects.instance(e, "blue", "i1"))
                await router.publish_allowed(
                    subjects.instance(e, "blue", "i1"), b"ask", reply="_INBOX_router.c1.r1"
                )
                await worker.receive()
            async with raw_nats(nats.url, token=token) as worker:
                assert not await worker.publish_allowed("_INBOX_router.c1.r1", b"late")
                assert await worker.publish_allowed(subjects.answers("c1", "i1"), b"late")
                assert not await worker.publish_allowed(subjects.answers("c1", "i2"), b"forged")
            assert (await router.receive())[2] == b"late"

    async def test_lanes_of_one_process_share_a_token(
        self, nats: RunningServer, unique: Unique
    ) -> None:
        """WORKER_COUNT=3: three instance ids, and not a fourth."""
        e = unique("ep")
        token = self.token(nats, e, lanes=("i1", "i1-1", "i1-2"))
        async with raw_nats(nats.url, token=token) as worker:
            for lane in ("i1", "i1-1", "i1-2"):
                assert await worker.publish_allowed(subjects.heartbeat(e, "blue", lane))
                assert await worker.subscribe_allowed(subjects.instance(e, "blue", lane))
            assert not await worker.publish_allowed(subjects.heartbeat(e, "blue", "i1-3"))

    async def test_it_ends(self, nats: RunningServer, unique: Unique) -> None:
        """An expired token is refused, and one that expires takes its connection along."""
        expired = self.token(nats, unique("ep"), expires_at=time.time() - 5)
        with pytest.raises(RefusedError, match="Authorization"):
            async with raw_nats(nats.url, token=expired):
                pass
        short = self.token(nats, unique("ep"), expires_at=time.time() + 1)
        async with raw_nats(nats.url, token=short) as worker:
            assert "Expired" in await worker.closed_by_server()

    def test_names_that_are_no_tokens_are_refused(self, data_dir: Path) -> None:
        """A name cannot smuggle a wildcard into the permissions."""
        Keyring.open(data_dir / "keys")
        for name in ("*", ">", "a.b", "a b", ""):
            with pytest.raises(ValueError, match="not a subject token"):
                keyring.mint_worker_token(data_dir / "keys", name, "d", "i", expires_at=1)

    def test_answers_outlive_the_longest_request(self) -> None:
        """Azure's longest time-out is 180 s; the right to answer lasts longer."""
        assert worker_permissions("e", "d", ("i",)).response_ttl_s > 180


class TestFiles:
    """What lies in ``<data>/keys``."""

    def test_only_the_owner_can_read_them(self, data_dir: Path) -> None:
        """0600 in 0700, also where rights had been widened since."""
        folder = data_dir / "keys"
        Keyring.open(folder)
        keyring.admin_token(folder)
        folder.chmod(0o755)
        (folder / "app.seed").chmod(0o644)
        (folder / "admin.token").chmod(0o644)
        Keyring.open(folder)
        keyring.admin_token(folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert set(modes.values()) == {0o600}
        assert {"operator.seed", "app.seed", "sys.seed", "registry.creds"} <= set(modes)
        assert not [name for name in modes if name.startswith(".")]

    def test_keys_stay_and_credentials_follow_the_table(self, data_dir: Path) -> None:
        """A second start has the same identities; creds of an older version are written anew."""
        folder = data_dir / "keys"
        first = Keyring.open(folder)
        first.creds("router").write_text("made by an older version")
        again = Keyring.open(folder)
        assert (again.operator, again.app, again.sys) == (first.operator, first.app, first.sys)
        jwt = again.creds("router").read_text().splitlines()[1].split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(jwt + "=" * (-len(jwt) % 4)))
        assert claims["nats"]["pub"]["allow"] == list(permissions("router").say)

    @pytest.mark.parametrize("damage", ["", "garbage", "SOAA", "flipped"])
    def test_a_damaged_key_is_never_replaced_silently(self, data_dir: Path, damage: str) -> None:
        """New keys would lock out every worker that runs; the error names the file and ways out."""
        folder = data_dir / "keys"
        Keyring.open(folder)
        path = folder / "app.seed"
        if damage == "flipped":
            seed = path.read_text()
            damage = seed[:20] + ("A" if seed[20] != "A" else "B") + seed[21:]
        path.write_text(damage)
        with pytest.raises(HeadgateError, match=r"app\.seed does not hold a whole account key"):
            Keyring.open(folder)
        assert path.read_text() == damage

    def test_a_key_does_not_show_its_seed(self, data_dir: Path) -> None:
        """Logs and tracebacks print objects."""
        key = Keyring.open(data_dir / "keys").app
        assert key.seed not in repr(key)
        assert key.public in repr(key)

    def test_the_admin_token_is_long_random_and_stays(self, data_dir: Path) -> None:
        """32 random bytes; the same at every start; another for every installation."""
        token = keyring.admin_token(data_dir / "a")
        assert len(token) >= 43
        assert keyring.admin_token(data_dir / "a") == token
        assert keyring.admin_token(data_dir / "b") != token


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
