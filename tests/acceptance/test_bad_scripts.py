"""Scoring scripts that cannot work: the deployment says whose fault it is, and nothing spins."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from acceptance.models import deployment_file, endpoint_file
from acceptance.system import EventTail, Headgate, wait_for

ENDPOINT = "hopeless"
FAILED_WITHIN_S = 40.0
SPIN_S = 5.0  # half of the first back-off
QUICK_PROBE = {"initial_delay": 1, "period": 1, "timeout": 1, "failure_threshold": 3}


@dataclass(frozen=True, slots=True)
class Case:
    """A scoring script, and what is to be said of it."""

    name: str
    script: str
    code: str
    message: tuple[str, ...]  # every one of these is in the deployment's error
    logs: tuple[str, ...]  # and these in its logs


CASES = (
    Case(
        "syntax-error",
        "def init():\n    pass\n\ndef run(raw_data)\n    return 1\n",
        "UserScriptImportError",
        ("score.py", "line 4", "SyntaxError"),
        ("SyntaxError", "def run(raw_data)"),
    ),
    Case(
        "import-error",
        "import no_such_package_anywhere\n\ndef init():\n    pass\n\n"
        "def run(raw_data):\n    return 1\n",
        "UserScriptImportError",
        ("score.py", "line 1", "no_such_package_anywhere"),
        ("Traceback", "ModuleNotFoundError", "import no_such_package_anywhere"),
    ),
    Case(
        "raising-init",
        "def init():\n    open('/no/such/model.bin')\n\ndef run(raw_data):\n    return 1\n",
        "UserScriptInitFailed",
        ("score.py", "line 2", "/no/such/model.bin"),
        ("Traceback", "open('/no/such/model.bin')", "FileNotFoundError"),
    ),
    Case(
        "hanging-init",
        "import time\n\ndef init():\n    print('waiting', flush=True)\n    time.sleep(3600)\n\n"
        "def run(raw_data):\n    return 1\n",
        "UserScriptInitFailed",
        ("not ready within", "score.py, line 5, in init: time.sleep(3600)"),
        ("waiting", "in init"),
    ),
    Case(
        "missing-run",
        "def init():\n    pass\n",
        "UserScriptFunctionNotFound",
        ("score.py", "run"),
        ("run",),
    ),
)


@pytest.fixture(scope="module")
def deployed(headgate: Headgate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """All bad deployments at once, as failing takes each its time."""
    folder = tmp_path_factory.mktemp("bad")
    headgate.cli("online-endpoint", "create", "-f", endpoint_file(folder, ENDPOINT))
    for case in CASES:
        path = deployment_file(
            folder, ENDPOINT, case.name, case.script, readiness_probe=QUICK_PROBE
        )
        headgate.cli("online-deployment", "create", "-f", path, "--no-wait")
    yield
    headgate.cli("online-endpoint", "delete", "--name", ENDPOINT, "--yes")


def named(case: Case) -> tuple[str, ...]:
    return ("--endpoint-name", ENDPOINT, "--name", case.name)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_fails_with_the_right_code_and_the_scripts_own_line(
    headgate: Headgate, deployed: None, case: Case
) -> None:
    def state() -> dict[str, object] | None:
        shown = headgate.cli_json("online-deployment", "show", *named(case))
        return shown if shown["provisioning_state"] == "Failed" else None

    shown = wait_for(state, f"{case.name} is Failed", timeout_s=FAILED_WITHIN_S)
    said = json.dumps(shown, ensure_ascii=False)
    assert case.code in said
    for part in case.message:
        assert part in said


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_its_logs_survive(headgate: Headgate, deployed: None, case: Case) -> None:
    def logs() -> str:
        return headgate.cli("online-deployment", "get-logs", *named(case))

    wait_for(lambda: all(part in logs() for part in case.logs), f"{case.logs} in the logs")


def test_create_waits_and_tells_the_reason_itself(headgate: Headgate, files: Path) -> None:
    """Who creates a deployment and waits need not ask again why it failed."""
    name = "hopeless-too"
    headgate.cli("online-endpoint", "create", "-f", endpoint_file(files, name))
    case = CASES[2]
    path = deployment_file(files, name, "blue", case.script)
    done = headgate.try_cli("online-deployment", "create", "-f", path)
    headgate.cli("online-endpoint", "delete", "--name", name, "--yes")
    assert done.returncode == 1
    for part in (case.code, *case.message):
        assert part in done.stderr


def test_nothing_spins(headgate: Headgate, deployed: None) -> None:
    """If a failed instance is started again, then after 10 s, 20, 40 ...: never at once."""
    with EventTail(headgate, "--since", "1h", "--filter", f"instance.{ENDPOINT}.>") as tail:
        wait_for(lambda: len(started(tail)) == len(CASES), "every script was started")
    for name, times in started(tail).items():
        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert all(pause > SPIN_S for pause in pauses), (name, pauses)


def started(tail: EventTail) -> dict[str, list[float]]:
    """When the instances of each deployment were started."""
    times: dict[str, list[float]] = defaultdict(list)
    for event in list(tail.events):
        if event["subject"].endswith(".started"):
            at = datetime.fromisoformat(event["time"]).timestamp()
            times[event["data"]["deployment"]].append(at)
    return times
