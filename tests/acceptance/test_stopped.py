"""A deployment that is stopped and started, as its clients see it."""

from __future__ import annotations

import asyncio
import json

from acceptance.load import Load
from acceptance.models import Journaled
from acceptance.system import eventually, failures


async def test_a_stopped_deployment_says_so_until_it_is_started(journaled: Journaled) -> None:
    """Requests in hand are finished, nothing is left running, and the split is what it was."""
    headgate, endpoint = journaled.headgate, journaled.endpoint
    await asyncio.to_thread(journaled.deploy, "blue", instances=2, all_traffic=True)
    power = ("-e", endpoint, "-n", "blue")
    load = Load(headgate.target(endpoint), connections=4, pause_s=0.01)
    async with load.running():
        await load.reach(100)
        await asyncio.to_thread(headgate.cli, "online-deployment", "stop", *power)
        await load.more(100)
    ended = failures(load)
    assert {shot.status for shot in ended} == {503}
    codes = {json.loads(shot.body)["error"]["code"] for shot in ended}
    assert codes == {"DeploymentStopped"}
    assert all("retry-after" not in shot.headers for shot in ended)
    assert len(load.shots) - len(ended) == len(journaled.journal.read())
    assert await headgate.instances(endpoint, "blue") == ()

    headgate.kill("run control")
    show = ("online-endpoint", "show", "--name", endpoint)
    await eventually(lambda: headgate.try_cli(*show).returncode == 0, "the gateway answers again")
    assert headgate.cli_json(*show)["traffic"] == {"blue": 100}
    listed = headgate.cli_json("online-deployment", "list", "-e", endpoint)
    assert [each["power_state"] for each in listed] == ["Stopped"]

    await asyncio.to_thread(headgate.cli, "online-deployment", "start", *power)
    again = Load(headgate.target(endpoint), connections=4)
    await again.send(50)
    assert failures(again) == []
