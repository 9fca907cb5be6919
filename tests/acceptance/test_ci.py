"""The pipeline script of ``examples/ci``: good versions get everything, bad ones nothing."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from acceptance.load import Load
from acceptance.system import EXAMPLES, PROGRAM, Headgate, environment, failures

CI = EXAMPLES / "ci"
ENDPOINT = "shop"


@pytest.fixture
def repository(headgate: Headgate, tmp_path: Path) -> Iterator[Path]:
    """A copy of the example, as a pipeline has checked it out, with its endpoint made."""
    folder = tmp_path / "repository"
    shutil.copytree(CI, folder)
    headgate.cli("apply", "-f", folder / "endpoint.yml")
    yield folder
    headgate.cli("online-endpoint", "delete", "-n", ENDPOINT, "--yes")


@pytest.fixture
def pipeline(headgate: Headgate) -> dict[str, str]:
    """What the workflow sets: an address, an authority and a token that is no more than it says."""
    running = headgate.running()
    made = headgate.cli_json("token", "create", "ci", "--role", "operator")
    return {
        "HEADGATE_URL": running["gateway"],
        "HEADGATE_CA": running["ca"],
        "HEADGATE_TOKEN": made["token"],
    }


def roll_out(
    headgate: Headgate, repository: Path, *flags: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    command = ["./rollout.py", "--endpoint", ENDPOINT, "--file", "deployment.yml"]
    command += ["--request", "sample_request.json", "--tests", "2", "--pause-s", "0", *flags]
    path = f"{PROGRAM.parent}:{Path(sys.executable).parent}:/usr/bin:/bin"
    return subprocess.run(
        command,
        cwd=repository,
        env=environment(**(variables or {"HEADGATE_DATA": str(headgate.data)}), PATH=path),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def traffic(headgate: Headgate) -> dict[str, int]:
    shares = headgate.cli_json("online-endpoint", "show", "-n", ENDPOINT)["traffic"]
    return {name: share for name, share in shares.items() if share}


def new_version(repository: Path, old: str, new: str) -> None:
    script = repository / "code" / "score.py"
    text = script.read_text()
    assert old in text
    script.write_text(text.replace(old, new))


@pytest.mark.slow
async def test_good_versions_take_over_and_no_request_is_lost(
    headgate: Headgate, repository: Path, pipeline: dict[str, str]
) -> None:
    first = roll_out(headgate, repository, **pipeline)
    assert first.returncode == 0, first.stderr
    assert traffic(headgate) == {"blue": 100}
    new_version(repository, "VERSION = 1", "VERSION = 2")
    body = (repository / "sample_request.json").read_bytes()
    opened = headgate.cli_json("online-endpoint", "get-credentials", "-n", ENDPOINT)
    target = headgate.target(ENDPOINT, opened["accessToken"])
    load = Load(target, body=lambda _: body, pause_s=0.01)
    async with load.running():
        second = await asyncio.to_thread(roll_out, headgate, repository, **pipeline)
    assert second.returncode == 0, second.stderr
    assert traffic(headgate) == {"green": 100}
    assert failures(load) == []


@pytest.mark.slow
def test_a_version_that_does_not_start_leaves_blue_alone(
    headgate: Headgate, repository: Path
) -> None:
    assert roll_out(headgate, repository).returncode == 0
    new_version(repository, "prices.update(apple", "prises.update(apple")
    ran = roll_out(headgate, repository)
    assert ran.returncode == 1
    assert "prises" in ran.stderr
    assert traffic(headgate) == {"blue": 100}


@pytest.mark.slow
def test_a_version_that_fails_its_test_request_gets_no_traffic(
    headgate: Headgate, repository: Path
) -> None:
    assert roll_out(headgate, repository).returncode == 0
    new_version(repository, '["items"]', '["basket"]')
    ran = roll_out(headgate, repository)
    assert ran.returncode == 1
    assert "424" in ran.stderr
    assert traffic(headgate) == {"blue": 100}


def test_a_file_that_cannot_be_used_ends_with_its_code(
    headgate: Headgate, repository: Path
) -> None:
    text = (repository / "deployment.yml").read_text()
    broken = text.replace("instance_count: 1", "instance_count: x")
    (repository / "deployment.yml").write_text(broken)
    ran = roll_out(headgate, repository)
    assert ran.returncode == 2
    assert "instance_count" in ran.stderr
    assert traffic(headgate) == {}


def test_the_token_of_the_workflow_is_the_one_of_the_tests() -> None:
    text = (CI / ".github" / "workflows" / "rollout.yml").read_text()
    assert "headgate token create ci --role operator" in text


def test_the_workflow_calls_the_script_with_files_that_are_there() -> None:
    workflow = yaml.safe_load((CI / ".github" / "workflows" / "rollout.yml").read_text())
    steps = [step.get("run", "") for step in workflow["jobs"]["rollout"]["steps"]]
    call = next(step for step in steps if step.startswith("./rollout.py"))
    for word in call.split():
        if "." in word and not word.startswith("--"):
            assert (CI / word).is_file(), word
