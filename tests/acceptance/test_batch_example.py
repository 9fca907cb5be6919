"""The example of batch jobs, as its page tells: the same answers as the model gives directly."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance.system import EXAMPLES, Headgate, wait_for

COMPUTE = "batch-cluster"
ENDPOINT = "batch-digits"
FILES = 100
DATA = "azureml://datastores/workspaceblobstore/paths"


@pytest.fixture
def example(headgate: Headgate, tmp_path: Path) -> Iterator[Path]:
    """A copy of the example with its model and data, and what it needs in the system."""
    folder = tmp_path / "example"
    kept = shutil.ignore_patterns("model", "data", "expected.csv")
    shutil.copytree(EXAMPLES / "batch-digits", folder, ignore=kept)
    subprocess.run([sys.executable, folder / "train.py"], check=True, stdout=subprocess.DEVNULL)
    headgate.cli("compute", "create", "-n", COMPUTE, "--type", "amlcompute", "--max-instances", "1")
    headgate.cli("batch-endpoint", "create", "-f", folder / "endpoint.yml")
    yield folder
    headgate.cli("batch-endpoint", "delete", "-n", ENDPOINT, "--yes")
    headgate.cli("compute", "delete", "-n", COMPUTE, "--yes")


def run_job(headgate: Headgate, folder: Path, deployment: str, out: Path) -> Path:
    """A job of that deployment over all files, streamed to its end; the folder of its output."""
    headgate.cli("batch-deployment", "create", "-f", folder / f"{deployment}.yml")
    job = f"example-{deployment}"
    where = ("-n", ENDPOINT, "-d", deployment, "--input", folder / "data", "--job-name", job)
    headgate.cli("batch-endpoint", "invoke", *where, "--stream")
    headgate.cli("job", "download", "-n", job, "-p", out)
    return out / "named-outputs" / "score"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_jobs_answer_as_the_model_does_in_rows_and_in_files(
    headgate: Headgate, example: Path, tmp_path: Path
) -> None:
    expected = (example / "expected.csv").read_text()
    rows = run_job(headgate, example, "rows", tmp_path / "rows")
    assert (rows / "digits.csv").read_text() == expected  # each image once, in order
    files = sorted(run_job(headgate, example, "files", tmp_path / "files").glob("part-*.csv"))
    assert len(files) == FILES
    told = [
        f"{file.name},{row},{digit}"
        for file in files
        for row, digit in enumerate(file.read_text().splitlines())
    ]
    assert told == expected.splitlines()

    # And one that is not wanted any more, listed with the others.
    where = ("-n", ENDPOINT, "-d", "rows", "--input", example / "data", "--job-name", "unwanted")
    headgate.cli("batch-endpoint", "invoke", *where, "--output-path", f"{DATA}/unwanted")
    headgate.cli("job", "cancel", "-n", "unwanted")
    wait_for(lambda: statuses(headgate).get("unwanted") == "Canceled", "the job is canceled")
    assert statuses(headgate) | {"unwanted": ""} == {
        "example-rows": "Completed",
        "example-files": "Completed",
        "unwanted": "",
    }
    assert headgate.cli_json("job", "show", "-n", "example-rows")["status"] == "Completed"


def statuses(headgate: Headgate) -> dict[str, str]:
    return {job["name"]: job["status"] for job in headgate.cli_json("job", "list")}
