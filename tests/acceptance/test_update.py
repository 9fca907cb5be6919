"""A deployment is changed in place under load: one that works, and one that does not."""

from __future__ import annotations

import asyncio

from acceptance.load import Load
from acceptance.models import JOURNAL, Journaled, deployment_file
from acceptance.system import failures

CONNECTIONS = 8
BROKEN = JOURNAL.replace("global journal", 'raise RuntimeError("no licence for version 2")')
UPDATE = ("online-deployment", "update", "--endpoint-name")


async def test_four_instances_become_version_two_and_no_request_of_5000_fails(
    journaled: Journaled,
) -> None:
    """A fifth at a time, at least one; new ones are ready before old ones drain."""
    headgate, endpoint = journaled.headgate, journaled.endpoint
    await asyncio.to_thread(journaled.deploy, "blue", instances=4, all_traffic=True)
    old = {i.id for i in await headgate.instances(endpoint, "blue")}
    least = most = 4
    load = Load(headgate.target(endpoint), connections=CONNECTIONS)
    async with load.running():
        await load.reach(500)
        change = (*UPDATE, endpoint, "--name", "blue", "--set", "environment_variables.V=2")
        updating = asyncio.create_task(asyncio.to_thread(headgate.cli, *change))
        while not updating.done():
            found = await headgate.instances(endpoint, "blue")
            least = min(least, sum(i.state == "ready" for i in found))
            most = max(most, sum(i.state in ("ready", "starting") for i in found))
        await updating
        await load.reach(max(5_000, len(load.shots) + 500))
    assert failures(load) == []
    assert least == 4, "never fewer than before"
    assert most <= 5, "one more at a time"
    new = {i.id for i in await headgate.instances(endpoint, "blue") if i.state == "ready"}
    assert len(new) == 4 and not old & new
    pids = [run.pid for run in journaled.journal.read()]
    assert len(set(pids)) == 8
    assert len(set(pids[-400:])) == 4


async def test_a_version_that_fails_in_init_never_stops_the_one_that_works(
    journaled: Journaled,
) -> None:
    headgate, endpoint = journaled.headgate, journaled.endpoint
    await asyncio.to_thread(journaled.deploy, "blue", instances=4, all_traffic=True)
    old = {i.id for i in await headgate.instances(endpoint, "blue")}
    broken = deployment_file(journaled.folder / "v2", endpoint, "blue", BROKEN, instance_count=4)
    load = Load(headgate.target(endpoint), connections=CONNECTIONS)
    async with load.running():
        await load.reach(300)
        ran = await asyncio.to_thread(headgate.try_cli, *UPDATE, endpoint, "-f", broken)
        await load.more(500)
        show = ("online-deployment", "show", "-e", endpoint, "-n", "blue")
        shown = await asyncio.to_thread(headgate.cli_json, *show)
    assert failures(load) == []
    assert ran.returncode != 0
    for said in (ran.stderr, shown["error"]["message"]):
        assert "RuntimeError: no licence for version 2" in said
        assert "score.py, line" in said
    assert shown["error"]["code"] == "UserScriptInitFailed"
    assert (shown["provisioning_state"], shown["ready_instances"]) == ("Failed", 4)
    left = await headgate.instances(endpoint, "blue")
    assert {i.id for i in left if i.state == "ready"} == old
    assert len({run.pid for run in journaled.journal.read()}) == 4
