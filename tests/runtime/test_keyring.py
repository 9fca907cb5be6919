"""Keys, credentials and tokens: private, kept across starts, and worth no more than they should."""

from __future__ import annotations

import base64
import json
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from headgate.runtime import keyring
from headgate.runtime.keyring import Keyring
from headgate.runtime.natsd import RunningServer
from headgate.runtime.permissions import SERVICES, permissions, worker_permissions
from headgate_contracts import subjects
from headgate_contracts.errors import HeadgateError
from rawnats import RefusedError, raw_nats

Unique = Callable[[str], str]


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


class TestWorkerTokens:
    """A model's process is a stranger on the bus: it gets its own few subjects."""

    def token(
        self,
        server: RunningServer,
        endpoint: str,
        *,
        lanes: Sequence[str] = (),
        expires_in_s: float = 60,
    ) -> str:
        expires_at = time.time() + expires_in_s
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
                *(line for service in SERVICES for line in permissions(service).hear),
                ">",
                "$SYS.>",
            ):
                assert not await worker.subscribe_allowed(subject), subject
            for subject in (
                subjects.heartbeat(e, "blue", "i2"),
                subjects.heartbeat(e, "green", "i1"),
                subjects.instance(e, "blue", "i1"),
                subjects.instance(e, "blue", "i2"),
                "_INBOX_router.x",
                "_INBOX_gateway.x.y",
                "$JS.API.INFO",
                "$KV.hg_routes.x",
                "$SYS.REQ.USER.INFO",
                subjects.rpc("registry", "get_endpoint"),
                subjects.event("endpoint", e, "created"),
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
        expired = self.token(nats, unique("ep"), expires_in_s=-5)
        with pytest.raises(RefusedError, match="Authorization"):
            async with raw_nats(nats.url, token=expired):
                pass
        short = self.token(nats, unique("ep"), expires_in_s=1)
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
