"""Every answered request is in the ledger, once, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from acceptance.load import Load, Target
from acceptance.models import deployment_file, endpoint_file
from acceptance.system import Headgate, eventually
from acceptance.tally import Tally

ENDPOINT = "counted"
PARTS = ("run router", "run control", "nats-server")  # control: metering is in it
SCRIPT = """
    def init(): ...

    def run(raw_data):
        return "served"
"""
NOWHERE = ("", 404)
Group = tuple[str, str, int]
"""Key, deployment, status."""


def ledger(data: Path) -> Counter[Group]:
    """What the metering service has written down."""
    with closing(sqlite3.connect(data / "db" / "metering.sqlite")) as database:
        query = (
            "SELECT caller, deployment, status, sum(requests) FROM metering_usage "
            "WHERE endpoint = ? AND kind = 'scored' AND status <> 499 GROUP BY 1, 2, 3"
        )
        rows = database.execute(query, (ENDPOINT,)).fetchall()
    return Counter({(caller, deployment, status): n for caller, deployment, status, n in rows})


async def kill_at_random(headgate: Headgate, kills: int, every_s: float, seed: int) -> list[str]:
    """Kill parts until it is enough, or cancelled; each of them comes back before it dies again."""
    dice, killed = random.Random(seed), []
    order = [part for part in PARTS for _ in range(-(-kills // len(PARTS)))]
    dice.shuffle(order)
    for part in order:
        await asyncio.sleep(every_s * dice.uniform(0.5, 1.5))
        running = await asyncio.to_thread(headgate.processes)
        if any(part in process.command for process in running.values()):
            killed.append(part)
            await asyncio.to_thread(headgate.kill, part)
    return killed


async def until_all_is_said(headgate: Headgate, target: Target, caller: str) -> None:
    """What dead routers left has been said; then one request more, which comes after all else."""
    usage = headgate.data / "usage"
    await eventually(lambda: len(list(usage.iterdir())) == 1, "journals are said", timeout_s=60)
    load = Load(target, connections=1, headers={"azureml-model-deployment": "nowhere"})
    (shot,) = await load.send(1)
    assert shot.status == 404
    last = (caller, *NOWHERE)
    await eventually(lambda: ledger(headgate.data)[last], "the last request is in the ledger")


async def count_through_kills(
    headgate: Headgate, files: Path, *, requests: int, kills: int, every_s: float
) -> str:
    """Requests with two keys to two deployments; the ledger is compared with what was told."""
    headgate.start("--http")
    headgate.cli("online-endpoint", "create", "-f", endpoint_file(files, ENDPOINT))
    for name in ("blue", "green"):
        file = deployment_file(
            files, ENDPOINT, name, SCRIPT, instance_type="tiny", instance_count=2
        )
        headgate.cli("online-deployment", "create", "-f", file)
    headgate.set_traffic(ENDPOINT, "blue=60 green=40")
    keys = [headgate.keys(ENDPOINT)[name] for name in ("primaryKey", "secondaryKey")]
    targets = {key.split("_")[1]: headgate.target(ENDPOINT, key) for key in keys}
    tallies = {caller: Tally(target, connections=8) for caller, target in targets.items()}
    first = next(iter(targets))
    killing = asyncio.create_task(kill_at_random(headgate, kills, every_s, seed=5))
    await asyncio.gather(*(each.run(requests // 2) for each in tallies.values()))
    killed = await killing
    told = Counter(
        {
            (caller, deployment, status): count
            for caller, tally in tallies.items()
            for (deployment, status), count in tally.told.items()
        }
    )
    broken = sum(tally.broken for tally in tallies.values())

    await until_all_is_said(headgate, targets[first], first)
    assert ledger(headgate.data) >= told, ledger(headgate.data) - told
    excess = ledger(headgate.data) - told
    del excess[first, *NOWHERE]
    report = (
        f"{told.total()} answers, {len(killed)} kills ({dict(Counter(killed))}), "
        f"{broken} connections broken with a request in flight, excess {dict(excess)}"
    )
    # Only a router that died between counting and sending can have counted what nobody saw.
    assert excess.total() <= broken, report
    assert set(excess) <= set(told), report
    for caller in tallies:
        told_to = sum(count for (key, _, _), count in told.items() if key == caller)
        assert told_to >= requests // 2
    return report


@pytest.mark.slow
async def test_the_ledger_holds_every_answer_though_parts_are_killed(
    private_headgate: Headgate, files: Path
) -> None:
    await count_through_kills(private_headgate, files, requests=6_000, kills=3, every_s=1.5)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
async def test_the_ledger_holds_a_million_answers_though_parts_are_killed(
    private_headgate: Headgate, files: Path
) -> None:
    report = await count_through_kills(
        private_headgate, files, requests=1_000_000, kills=45, every_s=6.0
    )
    sys.stderr.write(f"\n{report}\n")
