"""What instances collect reaches the store once, whoever is killed, and never anything else."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.provisioner import collection, shipping
from headgate.provisioner.collection import Found, Sent, Target
from headgate.provisioner.shipping import LINES, TARGET, Shipper
from headgate.runtime.clock import SystemClock
from headgate.runtime.store import Store
from headgate_contracts import assets, limits, storage
from headgate_contracts.collection import Collection, DataCollector, RequestLogging
from headgate_contracts.envelope import Event
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.provisioning import CollectionCounts
from headgate_contracts.resources import DeploymentSpec
from headgate_worker import collecting
from headgate_worker.spool import Spool
from provisioner.harness import WORKSPACE, World

PLACE = "azureml://datastores/workspaceblobstore/paths/collected/request"
KEY = f"workspaces/{WORKSPACE}/workspaceblobstore/collected/request"
HOUR = "2026/11/24/22"


def target(**folders: str) -> Target:
    return Target(
        workspace=WORKSPACE,
        endpoint="digits",
        deployment="blue",
        spec="v1",
        folders=folders or {"request": PLACE},
    )


# --- decisions ----------------------------------------------------------------------------------


def spec(**fields: Any) -> DeploymentSpec:
    collector = DataCollector(**fields)
    return DeploymentSpec(name="blue", endpoint_name="digits", data_collector=collector)


def test_the_worker_reads_what_it_is_told() -> None:
    wanted = spec(
        collections={
            "request": Collection(sampling_rate=0.25),
            "Model_Inputs": Collection(),
            "response": Collection(enabled=False),
            "model_outputs": Collection(sampling_rate=0),
        },
        rolling_rate="day",
        request_logging=RequestLogging(capture_headers=("X-Customer",)),
    )
    folders = collection.folders_of(wanted, {"Model_Inputs": "azureml://datastores/x/paths/y/"})
    found = collecting.plan(collection.told(wanted, WORKSPACE, folders))
    default = "azureml://datastores/workspaceblobstore/paths/modelDataCollector/digits/blue/request"
    assert found.collections == {
        "request": collecting.Collection("request", 0.25, default),
        "model_inputs": collecting.Collection(
            "Model_Inputs", 1.0, "azureml://datastores/x/paths/y"
        ),
    }
    assert found.rolling_rate == "day" and found.headers == ("x-customer",)
    assert found.source.endswith(f"/workspaces/{WORKSPACE}/onlineEndpoints/digits/deployments/blue")
    nothing = spec(collections={"request": Collection(enabled=False)})
    assert collection.told(nothing, WORKSPACE, {}) == ""


@pytest.mark.parametrize(
    ("path", "ours"),
    [
        ("request/2026/11/24/22/i1.jsonl", True),
        ("request/2026/i1-part3.jsonl", True),
        ("request/2026/11/24/22/59/0e3a", True),
        ("request/i1.jsonl", False),
        ("other/2026/i1.jsonl", False),
        ("request/2026/.draft", False),
        ("request/2026/../../x", False),
        ("request/2026/11/24/22/59/58/i1.jsonl", False),
    ],
)
def test_only_files_in_a_workers_places_are_carried(path: str, ours: bool) -> None:
    assert collection.is_ours(target(), path) is ours


def test_a_growing_file_is_sent_when_that_is_worth_it() -> None:
    def due(size: int, sent: Sent | None, *, closed: bool = False, now: float = 10.0) -> bool:
        return collection.is_due(Found("request/2026/i", size, closed), sent, now)

    sent = Sent(size_bytes=1000, events=10, at=5.0)
    assert due(1, None)
    assert not due(1000, sent) and not due(1001, sent)
    assert due(1250, sent) and due(1001, sent, now=65.0) and due(1000, sent, closed=True)
    assert not due(1000, sent, now=65.0)


@given(st.integers(1, 10_000))
def test_waits_grow_and_are_bounded(failures: int) -> None:
    assert collection.RETRY_FIRST_S <= collection.retry_s(failures) <= collection.RETRY_MAX_S
    assert collection.retry_s(failures) <= collection.retry_s(failures + 1)


def test_only_a_datastore_is_a_destination() -> None:
    long = "azureml://subscriptions/s/resourcegroups/g/workspaces/w/datastores/Mine/paths/a/b"
    assert collection.datastore_of(long) == "Mine"
    with pytest.raises(HeadgateError, match="collected data goes to a datastore") as caught:
        collection.datastore_of("https://elsewhere/x")
    assert caught.value.error.code is ErrorCode.BAD_ARGUMENT


# --- the shipper, with a registry and a store ---------------------------------------------------


class SetClock(SystemClock):
    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


class Yard:
    """A shipper and what it works on."""

    def __init__(self, world: World, root: Path) -> None:
        self.world = world
        self.root = root
        self.store = Store(world.settings.store_url())
        self.clock = SetClock()
        self.told: list[Event] = []
        self.alive: set[str] = set()

    async def open(self) -> None:
        self.bus = await self.world.connect("provisioner")
        self.restart()

    def restart(self) -> None:
        """A shipper that knows nothing of the one before."""
        self.shipper = Shipper(self.root, self.store, self.bus, self.clock, say=self._say)

    async def _say(self, event: Event) -> None:
        self.told.append(event)

    def begin(self, instance: str, **folders: str) -> Path:
        self.alive.add(instance)
        return self.shipper.open(instance, target(**folders))

    async def round(self) -> None:
        await self.shipper.round(lambda: self.alive)

    async def lines(self) -> dict[str, list[str]]:
        found = {}
        for blob in await self.store.list(f"workspaces/{WORKSPACE}"):
            raw = await self.store.read(blob.key, bytes_max=2**24)
            found[blob.key] = raw.decode().splitlines()
        return found


@pytest.fixture
async def yard(idle_world: World) -> AsyncIterator[Yard]:
    made = Yard(idle_world, idle_world.settings.data / "collected")
    await made.open()
    yield made
    await made.bus.close()


def spool(folder: Path, name: str = "i1") -> Spool:
    return Spool(str(folder), name, bytes_max=2**40)


async def test_a_file_is_in_the_store_while_it_grows_and_once_it_is_closed(yard: Yard) -> None:
    folder = yard.begin("i1")
    one = spool(folder)
    one.write("request", HOUR, [b"a\n"])
    await yard.round()
    key = f"{KEY}/{HOUR}/i1.jsonl"
    assert await yard.lines() == {key: ["a"]}
    one.write("request", HOUR, [b"b\n", b"c\n"])
    await yard.round()
    assert await yard.lines() == {key: ["a", "b", "c"]}
    assert (folder / f"request/{HOUR}/i1.jsonl").exists(), "it is still written to"
    one.write("request", "2026/11/24/23", [b"d\n"])  # closes the one before
    await yard.round()
    assert not (folder / f"request/{HOUR}/i1.jsonl").exists()
    assert (await yard.lines())[f"{KEY}/2026/11/24/23/i1.jsonl"] == ["d"]
    assert yard.shipper.counts("i1") == CollectionCounts(shipped=4)
    one.close()
    yard.alive.clear()
    await yard.round()
    assert not (yard.root / "i1").exists(), "nothing is left of an instance that is gone"
    assert sorted(await yard.lines()) == [key, f"{KEY}/2026/11/24/23/i1.jsonl"]


async def test_nothing_is_lost_or_doubled_by_kills_of_either_side(yard: Yard) -> None:
    """The worker dies within a line; the shipper dies between sending and removing."""
    folder = yard.begin("i1")
    one = spool(folder)
    one.write("request", HOUR, [b"a\n", b"b\n"])
    await yard.round()
    path = folder / f"request/{HOUR}/i1.jsonl"
    one.close()
    with path.open("ab") as file:
        file.write(b"c\nhal")
    yard.restart()
    yard.alive.clear()
    copy = path.read_bytes()
    await yard.round()
    assert yard.told == []
    path.parent.mkdir(parents=True)
    path.write_bytes(copy)  # as if it had not been removed
    (yard.root / "i1" / TARGET).write_text(target().model_dump_json())
    yard.restart()
    await yard.round()
    assert await yard.lines() == {f"{KEY}/{HOUR}/i1.jsonl": ["a", "b", "c"]}
    assert not (yard.root / "i1").exists()


async def test_an_object_of_its_own_is_carried_and_its_line_counts(yard: Yard) -> None:
    folder = yard.begin("i1")
    one = spool(folder)
    one.write_object("request", HOUR, "event-1", b"\x89PNG")
    one.write("request", HOUR, [b"{}\n"])
    await yard.round()
    assert await yard.store.read(f"{KEY}/{HOUR}/event-1", bytes_max=100) == b"\x89PNG"
    assert yard.shipper.counts("i1") == CollectionCounts(shipped=1)
    one.close()


async def test_an_unknown_datastore_is_told_once_and_tried_again(yard: Yard) -> None:
    folder = yard.begin("i1", request=PLACE.replace("workspaceblobstore", "nowhere"))
    one = spool(folder)
    one.write("request", HOUR, [b"a\n"])
    await yard.round()
    await yard.round()
    assert [type(event).WHAT for event in yard.told] == ["collection_failing"]
    said = yard.told[0].model_dump()
    assert said["collection"] == "request" and "'nowhere'" in said["reason"]
    assert (said["endpoint"], said["deployment"], said["instance"]) == ("digits", "blue", "i1")
    assert yard.shipper.counts("i1") == CollectionCounts(failed=1)
    assert await yard.lines() == {}
    yard.clock.ahead_s += collection.RETRY_FIRST_S
    await yard.round()
    assert yard.shipper.counts("i1") == CollectionCounts(failed=2) and len(yard.told) == 1
    assert (folder / f"request/{HOUR}/i1.jsonl").read_bytes() == b"a\n"
    one.close()


async def test_a_store_that_recovers_gets_what_waited(yard: Yard) -> None:
    one = spool(yard.begin("i1"))
    one.write("request", HOUR, [b"a\n"])
    in_the_way = Path(yard.world.settings.store_url().removeprefix("file://")) / KEY
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("a file where the folder should be")
    await yard.round()
    assert yard.shipper.counts("i1") == CollectionCounts(failed=1)
    in_the_way.unlink()
    yard.clock.ahead_s += collection.RETRY_FIRST_S
    await yard.round()
    assert await yard.lines() == {f"{KEY}/{HOUR}/i1.jsonl": ["a"]}
    whats = [type(event).WHAT for event in yard.told]
    assert whats == ["collection_failing", "collection_resumed"]
    one.close()


async def test_another_accounts_datastore_is_refused_with_the_reason(yard: Yard) -> None:
    datastore = storage.DatastoreSpec(name="theirs", account_name="a", container_name="c")
    await yard.world.ask(storage.PutDatastore(workspace=WORKSPACE, spec=datastore))
    one = spool(yard.begin("i1", request="azureml://datastores/theirs/paths/x"))
    one.write("request", HOUR, [b"a\n"])
    await yard.round()
    assert "another storage account" in yard.told[0].model_dump()["reason"]
    one.close()


async def test_a_script_cannot_send_what_is_not_its_own(yard: Yard) -> None:
    """Its process may write into the folder: links and other things there go nowhere."""
    secret = yard.root.parent / "secret"
    secret.mkdir(parents=True)
    (secret / "key").write_text("secret\n")
    folder = yard.begin("i1") / "request"
    (folder / "2026").mkdir(parents=True)
    (folder / "2026" / "linked.jsonl").symlink_to(secret / "key")
    (folder / "2025").symlink_to(secret)
    os.mkfifo(folder / "2026" / "pipe.jsonl")
    (folder / "2026" / "large.jsonl").write_bytes(b"x\n" * limits.COLLECTED_FILE_BYTES_MAX)
    await asyncio.wait_for(yard.round(), 30)
    assert await yard.lines() == {}
    assert shipping._read(folder.parent, "request/2025/key") is None
    yard.alive.clear()
    await yard.round()
    assert await yard.lines() == {}
    assert not (yard.root / "i1").exists() and (secret / "key").exists()


async def test_what_ended_instances_leave_is_bounded(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "COLLECTED_LEFT_BYTES_MAX", 3_000)
    for number in range(4):
        folder = yard.begin(f"i{number}", request=PLACE.replace("workspaceblobstore", "nowhere"))
        one = spool(folder)
        one.write("request", HOUR, [b"x" * 999 + b"\n"])
        one.close()
        os.utime(folder.parent / TARGET, (number, number))
    yard.alive = {"i0"}
    await yard.round()
    assert (yard.root / "i0" / LINES).exists(), "what lives is not ours to drop"
    left = [name for name in ("i1", "i2", "i3") if (yard.root / name).exists()]
    assert left in (["i2", "i3"], ["i3"])


async def test_an_unwritten_or_foreign_folder_is_left_alone(yard: Yard) -> None:
    (yard.root / "half" / LINES).mkdir(parents=True)
    (yard.root / "half" / TARGET).write_text("{")
    await yard.round()
    assert (yard.root / "half").exists()


# --- a deployment -------------------------------------------------------------------------------


async def test_a_deployment_collects_into_the_folder_of_its_data_asset(world: World) -> None:
    data = assets.DataSpec(name="asked", version="1", path=PLACE)
    await world.ask(assets.PutData(workspace=WORKSPACE, spec=data))
    script = (
        "from azureml.ai.monitoring import Collector\n\n"
        "def init():\n    Collector(name='model_inputs', on_error=print)\n\n"
        "def run(data): return data\n"
    )
    wanted = DataCollector(
        collections={
            "request": Collection(data="azureml:asked@latest"),
            "model_inputs": Collection(),
        }
    )
    put = await world.put(code=await world.code(script), data_collector=wanted)
    assert put.spec.data_collector is not None
    assert put.spec.data_collector.collections["request"].data == "azureml:asked:1"
    done = await world.outcome()
    assert done.error is None
    (one,) = await world.ready(1)
    said = json.loads((world.settings.data / "collected" / one.id / TARGET).read_text())
    default = "modelDataCollector/digits/blue/model_inputs"
    assert said["folders"] == {
        "request": PLACE,
        "model_inputs": f"azureml://datastores/workspaceblobstore/paths/{default}",
    }
    assert "is not enabled" not in (await world.logs()).content
    delete = assets.DeleteAsset(workspace=WORKSPACE, kind="data", name="asked", version="1")
    with pytest.raises(HeadgateError, match="is used by the deployment digits/blue"):
        await world.ask(delete)


async def test_a_deployment_that_names_no_such_data_is_refused(world: World) -> None:
    wanted = DataCollector(collections={"request": Collection(data="azureml:nothing:1")})
    with pytest.raises(
        HeadgateError, match=r"data_collector\.collections\.request\.data"
    ) as caught:
        await world.put(code=await world.code("def init(): ..."), data_collector=wanted)
    assert caught.value.error.code is ErrorCode.BAD_ARGUMENT
