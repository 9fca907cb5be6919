"""The packages of a deployment's environment become newer ones, under load."""

from __future__ import annotations

import asyncio
from pathlib import Path

from acceptance.load import Load
from acceptance.models import JOURNAL, Journaled, deployment_file
from acceptance.system import failures
from provisioner.packages import index

CONNECTIONS = 4
REFRESH = ("environment", "refresh", "--name", "words")
SCRIPT = JOURNAL.replace("import json, os, time", "import json, os, time, hg_words")
BROKEN = "raise ImportError('a release that should not have been')\n"


async def test_a_refresh_rolls_what_has_changed_and_no_request_fails(
    journaled: Journaled, tmp_path: Path
) -> None:
    headgate, endpoint = journaled.headgate, journaled.endpoint
    with index(tmp_path / "index") as shelf:
        shelf.publish("hg_words", "1.0", "")
        conda = tmp_path / "conda.yml"
        conda.write_text(shelf.conda_file("hg-words"))
        environment = tmp_path / "environment.yml"
        environment.write_text(
            f"name: words\nversion: 1\nimage: unused\nconda_file: {conda.name}\n"
        )
        await asyncio.to_thread(headgate.cli, "environment", "create", "-f", environment)
        variables = {"JOURNAL": str(journaled.journal.path)}
        file = deployment_file(
            journaled.folder,
            endpoint,
            "blue",
            SCRIPT,
            variables=variables,
            environment="azureml:words:1",
            instance_count=2,
        )
        create = ("online-deployment", "create", "-f", file, "--all-traffic")
        await asyncio.to_thread(headgate.cli, *create)
        old = {i.id for i in await headgate.instances(endpoint, "blue")}
        load = Load(headgate.target(endpoint), connections=CONNECTIONS, pause_s=0.005)
        async with load.running():
            await load.reach(100)
            shelf.publish("hg_words", "1.1", "")
            (seen,) = await asyncio.to_thread(headgate.cli_json, *REFRESH, "--dry-run")
            assert seen["state"] == "changed"
            assert seen["changes"] == ["hg-words==1.0 -> hg-words==1.1"]
            assert {i.id for i in await headgate.instances(endpoint, "blue")} == old

            (done,) = await asyncio.to_thread(headgate.cli_json, *REFRESH)
            rolled = {"endpoint": endpoint, "deployment": "blue", "state": "succeeded"}
            assert done["deployments"] == [rolled]
            await load.more(200)
            after = {i.id for i in await headgate.instances(endpoint, "blue") if i.state == "ready"}
            assert len(after) == 2 and not after & old

            shelf.publish("hg_words", "1.2", BROKEN)
            ran = await asyncio.to_thread(headgate.try_cli, *REFRESH)
            assert ran.returncode == 1
            assert f"deployment {endpoint}/blue" in ran.stderr
            assert "a release that should not have been" in ran.stderr
            await load.more(200)
        assert failures(load) == []
        assert {
            i.id for i in await headgate.instances(endpoint, "blue") if i.state == "ready"
        } == after
        (same,) = await asyncio.to_thread(headgate.cli_json, *REFRESH, "--dry-run")
        assert same["state"] == "same", "what has failed is not tried again and again"
        assert (
            await asyncio.to_thread(headgate.cli_json, "environment", "refresh", "-n", "no") == []
        )
