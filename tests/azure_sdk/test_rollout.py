"""Azure's safe roll-out, step by step, with the real client and under load."""

from __future__ import annotations

import asyncio

import pytest

from acceptance.load import Load
from acceptance.models import JOURNAL, Journal
from acceptance.system import eventually, failures
from azure_sdk.user import User


@pytest.mark.slow
async def test_the_safe_rollout_loses_no_request(user: User) -> None:
    """blue; green at 0 %, asked by name; mirrored 10 %; 90/10; 0/100; blue deleted."""
    endpoint = await asyncio.to_thread(user.make_endpoint)
    journals = {name: Journal(user.folder / f"{name}.txt") for name in ("blue", "green")}

    def deploy(name: str) -> None:
        variables = {"JOURNAL": str(journals[name].path)}
        user.deploy(endpoint, name, JOURNAL, environment_variables=variables)

    await asyncio.to_thread(deploy, "blue")
    await asyncio.to_thread(user.set_traffic, endpoint, blue=100)
    load = Load(user.headgate.target(endpoint), connections=4, pause_s=0.002)
    async with load.running():
        await load.reach(100)
        await asyncio.to_thread(deploy, "green")
        asked = await asyncio.to_thread(user.score_named, endpoint, "green", {"id": "by-name"})
        assert asked["id"] == "by-name"
        assert [run.id for run in journals["green"].read()] == ["by-name"]

        await asyncio.to_thread(user.mirror, endpoint, green=10)
        await eventually(lambda: len(journals["green"].read()) > 10, "green gets copies")
        assert {shot.deployment for shot in load.shots} == {"blue"}

        await asyncio.to_thread(user.mirror, endpoint, green=0)
        await asyncio.to_thread(user.set_traffic, endpoint, blue=90, green=10)
        await load.more(300)
        assert {shot.deployment for shot in load.shots[-200:]} == {"blue", "green"}
        await asyncio.to_thread(user.set_traffic, endpoint, blue=0, green=100)
        await load.more(200)
        poller = await asyncio.to_thread(
            user.client.online_deployments.begin_delete, "blue", endpoint
        )
        await asyncio.to_thread(poller.result)
        await load.more(200)
    assert failures(load) == [] and load.refused == 0
    assert {shot.deployment for shot in load.shots[-150:]} == {"green"}
    left = await asyncio.to_thread(lambda: list(user.client.online_deployments.list(endpoint)))
    assert [deployment.name for deployment in left] == ["green"]
    assert user.client.online_endpoints.get(endpoint).traffic == {"green": 100}
