"""The demonstration: it runs through, it notices what is wrong, and it removes nobody's files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from acceptance.system import environment, processes_of
from headgate.demo import core
from headgate.demo.core import Answer

SPLIT = {"blue": 90, "green": 10}


def demo(data: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "headgate.demo", "--exit", "--data", str(data), *flags],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )


def answers(blue: int, green: int, *, status: int = 200) -> list[Answer]:
    """So many answers of each deployment; green is always right, blue every second time."""
    from_blue = [Answer(status, "blue", 2.0, right=bool(n % 2)) for n in range(blue)]
    return from_blue + [Answer(status, "green", 4.0, right=True) for _ in range(green)]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_demonstration_runs_through_and_leaves_nothing_running(data_dir: Path) -> None:
    folder = data_dir / "demo"
    ran = demo(folder, "--requests", "1000")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "✗" not in ran.stdout
    assert processes_of(folder) == {}


def test_the_demonstration_leaves_a_folder_alone_that_it_did_not_make(data_dir: Path) -> None:
    (data_dir / "thesis.txt").write_text("years of work")
    ran = demo(data_dir)
    assert ran.returncode == 1
    assert "holds something else" in ran.stdout
    assert (data_dir / "thesis.txt").exists()


def test_shares_accuracy_and_quantiles_are_counted_per_deployment() -> None:
    blue, green = core.served(answers(3_600, 400), SPLIT)
    assert (blue.requests, green.requests) == (3_600, 400)
    assert (blue.accuracy, green.accuracy) == (0.5, 1.0)
    assert (blue.p50_ms, green.p99_ms) == (2.0, 4.0)
    assert core.split_kept([blue, green]).kept


def test_a_split_that_is_not_the_declared_one_is_noticed() -> None:
    assert not core.split_kept(core.served(answers(3_000, 1_000), SPLIT)).kept


def test_an_answer_of_a_deployment_without_traffic_is_noticed() -> None:
    rows = core.served(answers(999, 1), {"blue": 100})
    assert not core.split_kept(rows).kept


def test_failed_requests_are_noticed_and_counted_by_status() -> None:
    check = core.all_answered(
        [*answers(10, 0), *answers(2, 0, status=503), *answers(1, 0, status=0)]
    )
    assert not check.kept
    assert check.found == "2 x 503, 1 x no answer"


@pytest.mark.parametrize(("copies", "kept"), [(300, True), (0, False), (1_000, False)])
def test_mirrored_copies_are_held_against_the_declared_share(copies: int, kept: bool) -> None:
    assert core.mirror_kept(copies, 1_000, 30).kept is kept


@pytest.mark.parametrize(("seconds", "kept"), [(0.2, True), (7.0, False), (None, False)])
def test_a_key_that_goes_on_working_is_noticed(seconds: float | None, kept: bool) -> None:
    assert core.revoked_in_time(seconds, 5.0).kept is kept


def test_a_single_answer_of_the_wrong_deployment_is_noticed() -> None:
    assert core.only_from(answers(0, 50), "green", "p").kept
    assert not core.only_from(answers(1, 50), "green", "p").kept
    assert not core.only_from([], "green", "nothing answered is no proof").kept
