"""What was given up is tried again: by the job itself, or by a new one where that is completed."""

from __future__ import annotations

import json

import pytest

from batch.house import WORKSPACE, House, eventually
from headgate.batch import core
from headgate_contracts import limits
from headgate_contracts.assets import DataSpec, PutData
from headgate_contracts.batch import RetrySettings
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.jobs import JobStatus, RedriveDeadLetters

ONCE = RetrySettings(max_retries=0)


@pytest.mark.parametrize("home", ["", "postgresql"], indirect=True)
async def test_a_new_job_runs_over_what_a_completed_one_gave_up(home: House) -> None:
    await home.deploy(mini_batch_size=2, retry_settings=ONCE)
    numbers = {f"{n:02}": str(n) for n in range(12)}
    uri = await home.upload("some", {**numbers, "04": "bad", "09": "bad"})
    first = await home.until((await home.submit(uri)).name)
    assert (first.status, first.counts.failed) == (JobStatus.COMPLETED, 4)
    output = await home.output(first)

    await home.upload("some", {**numbers, "99": "a file that came later"})
    made = (await home.ask(RedriveDeadLetters(workspace=WORKSPACE, name=first.name))).job
    assert made.name.startswith(f"{first.name}-") and made.counts.mini_batches == 2
    made = await home.until(made.name)
    assert (made.status, made.counts.succeeded, made.counts.failed) == (JobStatus.COMPLETED, 4, 0)
    assert await home.output(made) == "04,8\n05,10\n08,16\n09,18\n"
    assert await home.output(first) == output
    assert [letter.number for letter in await home.dead_letters(first)] == [2, 4]


async def test_a_new_job_is_of_the_one_before_and_reads_what_that_has_read(home: House) -> None:
    for name in ("blue", "green"):  # which is the default from now on
        await home.deploy(name=name, mini_batch_size=1, retry_settings=ONCE)

    async def latest(version: str, files: dict[str, str]) -> None:
        spec = DataSpec(name="rows", version=version, path=await home.upload(version, files))
        await home.ask(PutData(workspace=WORKSPACE, spec=spec))

    await latest("1", {"a": "bad", "b": "2", "c": "bad"})
    about = {"deployment": "blue", "name": "n" * 64, "experiment_name": "trials"}
    first = await home.until((await home.submit("azureml:rows@latest", **about)).name)
    await latest("2", {"z": "9"})
    await home.upload("1", {"a": "1"})
    command = RedriveDeadLetters(workspace=WORKSPACE, name=first.name, numbers=(0, 0))
    made = (await home.ask(command.model_copy(update={"by": "somebody"}))).job
    assert (made.deployment, made.experiment_name) == ("blue", "trials")
    assert (made.created_by, made.input) == ("somebody", first.input)
    made = await home.until(made.name)
    assert (made.status, await home.output(made)) == (JobStatus.COMPLETED, "a,2\n")
    made = (await home.ask(command.model_copy(update={"numbers": (2,)}))).job
    made = await home.until(made.name)  # it fails as before, and its numbers are its own
    assert [letter.number for letter in await home.dead_letters(made)] == [0]
    submitted = [json.loads(data)["job"] for what, data in home.events if what == "submitted"]
    assert len(submitted) == 3 and submitted[::2] == [first.name, made.name]


async def test_some_of_what_a_completed_job_gave_up_of_rows(home: House) -> None:
    await home.deploy(
        "def init(): pass\n"
        "def run(m):\n"
        "    rows = open(m[0]).read().split()[1:]\n"
        "    return [int(row) for row in rows]\n",
        retry_settings=ONCE,
    )
    table = ["n", *map(str, range(6))]
    uri = await home.upload("tables", {"t.csv": "\n".join([*table[:3], "x", *table[4:6], "y"])})
    first = await home.until((await home.submit(uri, overrides={"mini_batch_rows": 2})).name)
    letters = await home.dead_letters(first)
    assert [letter.number for letter in letters] == [1, 2]
    await home.upload("tables", {"t.csv": "\n".join(table)})
    command = RedriveDeadLetters(workspace=WORKSPACE, name=first.name, numbers=(2,))
    made = await home.until((await home.ask(command)).job.name)
    assert (made.status, made.counts.items, await home.output(made)) == (
        *(JobStatus.COMPLETED, 2),
        "4\n5\n",
    )


async def test_a_failed_job_takes_up_what_it_gave_up(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "BACKOFF_S", (0.0,))
    await home.deploy(mini_batch_size=1, retry_settings=RetrySettings(max_retries=1))
    uri = await home.upload("some", {"a": "bad", "b": "bad"})
    job = await home.until((await home.submit(uri)).name)
    assert (job.status, job.counts.retries) == (JobStatus.FAILED, 2)
    command = RedriveDeadLetters(workspace=WORKSPACE, name=job.name, numbers=(1,))
    await home.ask(command)
    job = await home.until(job.name)
    assert (job.status, job.counts.retries) == (JobStatus.FAILED, 3)  # as often as the first time
    await home.upload("some", {"a": "1", "b": "2"})
    assert (await home.ask(command)).job.name == job.name
    job = await home.until(job.name)
    counts = job.counts
    assert (counts.settled, counts.failed, counts.failed_mini_batches) == (2, 1, 1)
    assert job.status is JobStatus.COMPLETED
    assert await home.output(job) == "b,4\n"


async def test_a_job_at_work_takes_up_what_it_gave_up(home: House) -> None:
    slow = """
import time
def init(): pass
def run(m):
    time.sleep(0.3)
    return [int(open(m[0]).read())]
"""
    await home.deploy(slow, mini_batch_size=1, retry_settings=ONCE)
    uri = await home.upload("some", {"a": "bad", **{f"b{n}": "7" for n in range(5)}})
    job = await home.submit(uri)

    async def gave_up() -> bool:
        return (await home.job(job.name)).counts.failed == 1

    await eventually(gave_up)
    await home.upload("some", {"a": "1"})
    await home.ask(RedriveDeadLetters(workspace=WORKSPACE, name=job.name))
    job = await home.until(job.name)
    assert (job.status, job.counts.failed, job.counts.succeeded) == (JobStatus.COMPLETED, 0, 6)
    assert (await home.output(job)).startswith("1\n7\n")


async def test_what_was_not_given_up_is_refused(home: House) -> None:
    await home.deploy(mini_batch_size=1, retry_settings=ONCE)
    uri = await home.upload("some", {"a": "bad", "b": "2"})
    job = await home.until((await home.submit(uri)).name)
    for numbers in ((1,), (0, 1), (77,)):
        with pytest.raises(HeadgateError, match=r"has given up no mini-batch of") as refused:
            await home.ask(RedriveDeadLetters(workspace=WORKSPACE, name=job.name, numbers=numbers))
        assert refused.value.error.code is ErrorCode.RESOURCE_NOT_FOUND
    fine = await home.until((await home.submit(await home.upload("fine", {"a": "1"}))).name)
    with pytest.raises(HeadgateError, match="has given up no mini-batch; "):
        await home.ask(RedriveDeadLetters(workspace=WORKSPACE, name=fine.name))


async def test_a_new_job_counts_as_one_of_the_workspace(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.deploy(mini_batch_size=1, retry_settings=ONCE)
    uri = await home.upload("some", {"a": "bad", "b": "2"})
    first = await home.until((await home.submit(uri)).name)
    monkeypatch.setattr(limits, "JOBS_ACTIVE_MAX", 0)
    again = RedriveDeadLetters(workspace=WORKSPACE, name=first.name)
    for asked in (home.ask(again), home.submit(uri)):
        with pytest.raises(HeadgateError) as refused:
            await asked
        assert refused.value.error.code is ErrorCode.QUOTA_EXCEEDED
