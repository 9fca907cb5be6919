"""Who gets which share of the requests: split, header, mirror; and who may ask at all: keys."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import pytest

from acceptance.load import Load, Shot
from acceptance.models import JOURNAL, Journal, deployment_file, endpoint_file
from acceptance.system import Headgate, eventually, failures
from headgate.demo.core import band
from headgate_contracts import limits
from headgate_contracts.routing import DeploymentTraffic, GetTraffic, TrafficReply

HEADER = "azureml-model-deployment"
SLOW = """
import time

def init():
    pass

def run(raw_data):
    time.sleep(1)
    return "late"
"""


class Pair:
    """An endpoint with the deployments ``blue`` and ``green``, which note what they execute."""

    def __init__(self, headgate: Headgate, folder: Path) -> None:
        self.headgate = headgate
        self.name = "pair"
        self.journals = {name: Journal(folder / f"{name}.txt") for name in ("blue", "green")}
        headgate.cli("online-endpoint", "create", "-f", endpoint_file(folder, self.name))
        for name, journal in self.journals.items():
            variables = {"JOURNAL": str(journal.path)}
            path = deployment_file(folder, self.name, name, JOURNAL, variables=variables)
            headgate.cli("online-deployment", "create", "-f", path)
        self.target = headgate.target(self.name)

    def load(self, **options: object) -> Load:
        return Load(self.target, connections=8, **options)  # type: ignore[arg-type]

    def executed(self) -> Counter[str]:
        return Counter({name: len(journal.read()) for name, journal in self.journals.items()})

    async def set(self, traffic: str, mirror: str, *, until: Callable[[list[Shot]], bool]) -> None:
        """Change the traffic, then send requests until the routers show that they know."""
        update = ("online-endpoint", "update", "--name", self.name, "--traffic", traffic)
        await asyncio.to_thread(self.headgate.cli, *update, "--mirror-traffic", mirror)
        async with asyncio.timeout(10):
            while not until(await self.load().send(16)):
                await asyncio.sleep(0.05)

    async def counted(self, deployment: str) -> DeploymentTraffic:
        """What the router says of one deployment."""
        bus = await self.headgate.bus()
        try:
            replies = await bus.ask_all(GetTraffic(endpoint=self.name), TrafficReply)
        finally:
            await bus.close()
        assert len(replies) == 1
        return replies[0].deployments.get(deployment, DeploymentTraffic())


def served_by(shots: list[Shot]) -> Counter[str]:
    return Counter(shot.deployment for shot in shots)


def only(deployment: str) -> Callable[[list[Shot]], bool]:
    return lambda shots: not failures(shots) and set(served_by(shots)) == {deployment}


@pytest.fixture(scope="module")
def pair(headgate: Headgate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(headgate, tmp_path_factory.mktemp("pair"))
    yield made
    headgate.cli("online-endpoint", "delete", "--name", made.name, "--yes")


async def test_an_endpoint_without_traffic_answers_404_but_the_header_reaches_a_model(
    pair: Pair,
) -> None:
    assert {shot.status for shot in await pair.load().send(16)} == {404}
    assert served_by(await pair.load(headers={HEADER: "green"}).send(16)) == {"green": 16}


async def test_10_000_requests_at_90_10_keep_the_split(pair: Pair) -> None:
    """An honest split misses these bounds once in a million runs."""
    await pair.set("blue=90 green=10", "green=0", until=lambda shots: "green" in served_by(shots))
    shots = await pair.load().send(10_000)
    assert failures(shots) == []
    assert 856 <= served_by(shots)["green"] <= 1_150
    assert len(shots) == 10_000


async def test_the_header_reaches_a_deployment_without_traffic_every_time(pair: Pair) -> None:
    await pair.set("blue=100 green=0", "green=0", until=only("blue"))
    shots = await pair.load(headers={HEADER: "green"}).send(1_000)
    assert failures(shots) == []
    assert served_by(shots) == {"green": 1_000}


@pytest.mark.parametrize("name", ["nobody", "gre*", ">", "g" * 10_000, "Blue Green"])
async def test_a_header_that_names_no_deployment_is_404(pair: Pair, name: str) -> None:
    (shot,) = await pair.load(headers={HEADER: name}).send(1)
    assert shot.status in ({404} if len(name) < 1_000 else {400, 404, 431})


async def test_mirrored_requests_are_counted_and_never_answer_a_client(pair: Pair) -> None:
    """30 % of the requests are executed a second time; clients hear the primary alone."""
    before = pair.executed()
    await pair.set(
        "blue=100 green=0", "green=30", until=lambda _: pair.executed()["green"] > before["green"]
    )
    requests = 3_000
    first, counted_first = pair.executed(), await pair.counted("green")
    shots = await pair.load(body=lambda id: b'{"id": "m-%s"}' % id.encode()).send(requests)
    assert failures(shots) == []
    assert served_by(shots) == {"blue": requests}

    low, high = band(requests, 0.30)
    copies = sum((await pair.counted("green")).mirrored.values())
    copies -= sum(counted_first.mirrored.values())
    assert low <= copies <= high
    answered = {200: copies}
    await eventually(
        lambda: pair.executed()["green"] - first["green"] == copies, f"{answered} executed"
    )
    assert pair.executed()["blue"] - first["blue"] == requests
    await pair.set("blue=100 green=0", "green=0", until=only("blue"))


async def test_a_slow_mirror_does_not_slow_the_primary(pair: Pair, files: Path) -> None:
    """The mirror needs a second for each copy; its queue overflows, and nobody waits for it."""
    path = deployment_file(files, pair.name, "slow", SLOW)
    await asyncio.to_thread(pair.headgate.cli, "online-deployment", "create", "-f", path)
    await pair.set("blue=100 green=0", "slow=50", until=only("blue"))
    shots = await pair.load().send(500)
    await pair.set("blue=100 green=0", "slow=0", until=only("blue"))
    assert failures(shots) == []
    assert served_by(shots) == {"blue": 500}
    assert median(shot.seconds for shot in shots) < 0.5


async def test_a_regenerated_key_is_refused_within_seconds(pair: Pair) -> None:
    """Clients with the other key notice nothing."""
    await pair.set("blue=100 green=0", "green=0", until=only("blue"))
    endpoint = ("--name", pair.name)
    old = await asyncio.to_thread(pair.headgate.keys, pair.name)
    with_old = Load(pair.headgate.target(pair.name, old["primaryKey"]), connections=1)
    with_other = Load(pair.headgate.target(pair.name, old["secondaryKey"]), connections=2)
    async with with_other.running():
        renew = ("online-endpoint", "regenerate-keys", *endpoint, "--key-type", "primary")
        await asyncio.to_thread(pair.headgate.cli, *renew)
        renewed = time.monotonic()
        while (await with_old.send(1))[0].status == 200:
            assert time.monotonic() - renewed < limits.KEY_REVOCATION_S_MAX
    assert with_old.shots[-1].status == 401
    assert failures(with_other) == []

    new = await asyncio.to_thread(pair.headgate.keys, pair.name)
    assert new["primaryKey"] != old["primaryKey"]
    assert new["secondaryKey"] == old["secondaryKey"]
    pair.target = pair.headgate.target(pair.name, new["primaryKey"])
    assert failures(await pair.load().send(8)) == []
