"""Roll-outs and scale-downs under load: no request fails."""

from __future__ import annotations

import asyncio

from acceptance.load import Load
from acceptance.models import Journaled
from acceptance.system import eventually, failures

CONNECTIONS = 8


async def test_a_roll_out_from_blue_to_green_and_the_end_of_blue_lose_nothing(
    journaled: Journaled,
) -> None:
    """0 -> 10 -> 50 -> 100 % green, then blue is deleted: 0 failed of 5,000."""
    headgate, endpoint = journaled.headgate, journaled.endpoint
    await asyncio.to_thread(journaled.deploy, "blue", instances=2, all_traffic=True)
    await asyncio.to_thread(journaled.deploy, "green", instances=2)
    load = Load(headgate.target(endpoint), connections=CONNECTIONS)
    async with load.running():
        for traffic in ("blue=90 green=10", "blue=50 green=50", "blue=0 green=100"):
            await load.more(500)
            await asyncio.to_thread(headgate.set_traffic, endpoint, traffic)
        await load.more(500)
        delete = ("online-deployment", "delete", "--endpoint-name", endpoint, "--name", "blue")
        await asyncio.to_thread(headgate.cli, *delete, "--yes")
        await load.reach(max(5_000, len(load.shots) + 500))
    assert failures(load) == []
    assert {shot.deployment for shot in load.shots[:400]} == {"blue"}
    assert {shot.deployment for shot in load.shots[-400:]} == {"green"}
    left = headgate.cli_json("online-deployment", "list", "--endpoint-name", endpoint)
    assert [deployment["name"] for deployment in left] == ["green"]


async def test_scaling_from_three_instances_to_one_loses_nothing(journaled: Journaled) -> None:
    """0 failed of 5,000, and one process is left."""
    headgate, endpoint = journaled.headgate, journaled.endpoint
    await asyncio.to_thread(journaled.deploy, "blue", instances=3, all_traffic=True)
    load = Load(headgate.target(endpoint), connections=CONNECTIONS)
    async with load.running():
        await load.reach(1_000)
        update = ("online-deployment", "update", "--endpoint-name", endpoint, "--name", "blue")
        await asyncio.to_thread(headgate.cli, *update, "--set", "instance_count=1")
        await load.reach(max(5_000, len(load.shots) + 500))
    assert failures(load) == []
    pids = {run.pid for run in journaled.journal.read()}
    assert len(pids) == 3
    await eventually(
        lambda: len(pids & headgate.processes().keys()) == 1, "two of three processes are gone"
    )


async def test_a_new_version_of_a_deployment_replaces_the_old_one_without_a_gap(
    journaled: Journaled,
) -> None:
    """An update rolls: old instances serve until new ones are ready."""
    headgate, endpoint = journaled.headgate, journaled.endpoint
    await asyncio.to_thread(journaled.deploy, "blue", instances=2, all_traffic=True)
    load = Load(headgate.target(endpoint), connections=CONNECTIONS, pause_s=0.002)
    async with load.running():
        await load.reach(200)
        update = ("online-deployment", "update", "--endpoint-name", endpoint, "--name", "blue")
        change = ("--set", "environment_variables.VERSION=2")
        await asyncio.to_thread(headgate.cli, *update, *change)
        await load.more(300)
    assert failures(load) == []
    pids = [run.pid for run in journaled.journal.read()]
    assert len(set(pids)) == 4
    assert not set(pids[:100]) & set(pids[-100:])
