"""Jobs from their submission to their output, with real nodes and real processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from batch.house import DATA, WORKSPACE, House, doubled, eventually, house
from databases import fresh_url
from headgate_contracts.batch import RetrySettings
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.jobs import (
    CancelJob,
    GetMiniBatches,
    JobStatus,
    JobStatusChanged,
    MiniBatchesSettled,
    PauseJob,
    ResumeJob,
)
from headgate_contracts.nodes import ListNodes


async def test_every_file_is_once_in_the_output_in_the_order_of_the_input(home: House) -> None:
    await home.deploy(mini_batch_size=3, max_concurrency_per_instance=2)
    job = await home.submit(await home.numbers(20))
    job = await home.until(job.name)
    assert (job.status, job.error) == (JobStatus.COMPLETED, None)
    assert await home.output(job) == doubled(20)
    assert (job.counts.mini_batches, job.counts.succeeded, job.counts.rows) == (7, 20, 20)


async def test_a_picture_of_a_job_groups_neighbours_and_counts_each_once(home: House) -> None:
    await home.deploy(mini_batch_size=1, retry_settings=RetrySettings(max_retries=0))
    uri = await home.upload("some", {"a": "1", "b": "bad", "c": "3", "d": "4", "e": "5"})
    job = await home.until((await home.submit(uri)).name)
    query = GetMiniBatches(workspace=WORKSPACE, name=job.name, groups=3)
    whole = await home.ask(query)
    assert whole.size == 2
    assert [(g.first, g.done, g.failed) for g in whole.groups] == [(0, 1, 1), (2, 2, 0), (4, 1, 0)]
    part = await home.ask(query.model_copy(update={"first": 1, "count": 2}))
    assert (part.size, [(g.first, g.done, g.failed) for g in part.groups]) == (
        1, [(1, 0, 1), (2, 1, 0)],
    )  # fmt: skip
    beyond = await home.ask(query.model_copy(update={"first": 9}))
    assert beyond.groups == ()


async def test_postgresql_serves_as_well(tmp_path: Path) -> None:
    async with house(tmp_path, database=fresh_url("postgresql", tmp_path)) as home:
        await home.deploy(mini_batch_size=1, retry_settings=RetrySettings(max_retries=0))
        uri = await home.upload("some", {"a": "1", "b": "bad", "c": "3"})
        job = await home.until((await home.submit(uri)).name)
        assert (job.status, job.counts.failed) == (JobStatus.COMPLETED, 1)
        assert await home.output(job) == "a,2\nc,6\n"
        await home.deploy(SLOW, mini_batch_size=1, max_concurrency_per_instance=2)
        job = await home.submit(await home.numbers(40))
        await home.until(job.name, JobStatus.RUNNING)
        await home.ask(PauseJob(workspace=WORKSPACE, name=job.name))
        await home.ask(ResumeJob(workspace=WORKSPACE, name=job.name))
        job = await home.until(job.name)
        assert (job.status, job.counts.settled) == (JobStatus.COMPLETED, 40)
        assert (await home.output(job)).splitlines() == [f"{n:05}.txt" for n in range(40)]


# --- what goes wrong (azure.md 3.4) ------------------------------------------------------------


async def test_a_script_that_cannot_be_loaded_fails_its_job_at_once(home: House) -> None:
    await home.deploy("def init():\n    raise ValueError('no such model')\ndef run(m): return m\n")
    job = await home.until((await home.submit(await home.numbers(5))).name, within_s=15)
    assert job.status is JobStatus.FAILED and job.error is not None
    assert job.error.code is ErrorCode.USER_SCRIPT_INIT_FAILED
    assert "no such model" in job.error.message and "score.py, line 2" in job.error.message

    async def logged() -> bool:
        master = await home.log(job, "master_role.txt")
        script = await home.log(job, "process0.stderr.txt")
        return "UserScriptInitFailed" in master and "no such model" in script

    await eventually(logged)


async def test_failed_items_are_counted_and_the_rest_is_in_the_output(home: House) -> None:
    await home.deploy(mini_batch_size=1, retry_settings=RetrySettings(max_retries=0))
    uri = await home.upload("some", {"a": "1", "b": "bad", "c": "3"})
    job = await home.until((await home.submit(uri)).name)
    assert job.status is JobStatus.COMPLETED
    assert await home.output(job) == "a,2\nc,6\n"
    assert (job.counts.succeeded, job.counts.failed, job.counts.failed_mini_batches) == (2, 1, 1)
    (letter,) = await home.dead_letters(job)
    assert (letter.number, letter.files, letter.attempts) == (1, ("b",), 1)
    assert "invalid literal" in letter.error and "score.py" in letter.error
    assert "invalid literal" in await home.log(job, "user/error.txt")


@pytest.mark.parametrize("home", ["", "postgresql"], indirect=True)
async def test_a_job_is_aborted_above_its_error_threshold_and_can_be_resumed(home: House) -> None:
    await home.deploy(mini_batch_size=1, retry_settings=RetrySettings(max_retries=0))
    uri = await home.upload("some", {"a": "bad", **{f"b{n}": "7" for n in range(9)}})
    job = await home.until((await home.submit(uri, overrides={"error_threshold": 0})).name)
    assert job.status is JobStatus.FAILED and job.error is not None
    assert job.error.code is ErrorCode.ERROR_THRESHOLD_EXCEEDED
    await home.upload("some", {"a": "1"})
    await home.ask(ResumeJob(workspace=WORKSPACE, name=job.name))
    job = await home.until(job.name)
    assert (job.status, job.counts.failed, job.counts.succeeded) == (JobStatus.COMPLETED, 0, 10)
    assert (await home.output(job)).startswith("a,2\nb0,14\n")


async def test_a_job_without_one_success_fails(home: House) -> None:
    await home.deploy(mini_batch_size=2, retry_settings=RetrySettings(max_retries=0))
    uri = await home.upload("bad", {"a": "x", "b": "y", "c": "z"})
    job = await home.until((await home.submit(uri)).name)
    assert job.status is JobStatus.FAILED and job.error is not None
    assert job.error.code is ErrorCode.NO_SUCCESS


async def test_what_returns_too_few_elements_has_failed_in_part(home: House) -> None:
    await home.deploy("def init(): pass\ndef run(m): return [len(m)]\n", mini_batch_size=4)
    job = await home.until((await home.submit(await home.numbers(10))).name)
    assert (job.status, job.counts.succeeded, job.counts.failed) == (JobStatus.COMPLETED, 3, 7)
    assert await home.output(job) == "4\n4\n2\n"


async def test_none_is_no_result(home: House) -> None:
    await home.deploy(
        "def init(): pass\ndef run(m): return None\n", retry_settings=RetrySettings(max_retries=0)
    )
    job = await home.until((await home.submit(await home.numbers(1))).name)
    assert job.error is not None and job.error.code is ErrorCode.NO_SUCCESS
    assert "run() returned None" in (await home.dead_letters(job))[0].error


async def test_a_time_out_kills_the_process_and_not_the_job(home: House) -> None:
    script = """
import os, time
def init(): print("loaded by", os.getpid())
def run(mini_batch):
    if any(path.endswith("00001.txt") for path in mini_batch):
        time.sleep(600)
    return [os.path.basename(path) for path in mini_batch]
"""
    settings = RetrySettings(max_retries=0, timeout=1)
    await home.deploy(script, mini_batch_size=1, retry_settings=settings)
    job = await home.until((await home.submit(await home.numbers(4))).name)
    assert (job.status, job.counts.succeeded, job.counts.failed) == (JobStatus.COMPLETED, 3, 1)
    assert await home.output(job) == "00000.txt\n00002.txt\n00003.txt\n"
    assert "1 s of retry_settings.timeout" in (await home.dead_letters(job))[0].error

    async def loaded_twice() -> bool:
        return (await home.log(job, "process0.stdout.txt")).count("loaded by") >= 2

    await eventually(loaded_twice)


async def test_a_process_that_ends_is_replaced_and_its_mini_batch_tried_again(home: House) -> None:
    script = """
import os
def init(): pass
def run(mini_batch):
    mark = os.path.join(os.environ["MARKS"], os.path.basename(mini_batch[0]))
    if mini_batch[0].endswith("2.txt") and not os.path.exists(mark):
        open(mark, "w").close()
        os._exit(9)
    return [os.path.basename(path) for path in mini_batch]
"""
    marks = home.settings.data / "marks"
    marks.mkdir()
    await home.deploy(script, mini_batch_size=1, environment_variables={"MARKS": str(marks)})
    job = await home.until((await home.submit(await home.numbers(15))).name)
    assert (job.status, job.counts.succeeded, job.counts.retries) == (JobStatus.COMPLETED, 15, 2)
    assert (await home.output(job)).splitlines() == [f"{n:05}.txt" for n in range(15)]


async def test_a_script_that_kills_its_process_fails_its_mini_batch_alone(home: House) -> None:
    script = """
import os
def init(): pass
def run(mini_batch):
    if mini_batch[0].endswith("1.txt"):
        os.abort()
    return mini_batch
"""
    await home.deploy(
        script, mini_batch_size=1, retry_settings=RetrySettings(max_retries=1, timeout=30)
    )
    job = await home.until((await home.submit(await home.numbers(3))).name)
    assert (job.status, job.counts.succeeded, job.counts.failed) == (JobStatus.COMPLETED, 2, 1)
    (letter,) = await home.dead_letters(job)
    assert (letter.number, letter.attempts) == (1, 2)


async def test_an_input_without_files_is_an_error(home: House) -> None:
    await home.deploy()
    job = await home.until((await home.submit(f"{DATA}/nothing/here/")).name)
    assert job.error is not None and job.error.code is ErrorCode.NO_INPUT


# --- results -----------------------------------------------------------------------------------


async def test_an_unknown_datastore_is_refused_at_once_and_a_container_is_none(home: House) -> None:
    """Uploads lie in containers of the own store, by names that no datastore has."""
    await home.deploy()
    await home.store.put(f"workspaces/{WORKSPACE}/box/in/a.txt", b"4")
    job = await home.submit("azureml://datastores/box/paths/in/")
    assert await home.output(await home.until(job.name)) == "a.txt,8\n"
    with pytest.raises(HeadgateError) as refused:
        await home.submit("azureml://datastores/bo/paths/in/")
    assert refused.value.error.code is ErrorCode.RESOURCE_NOT_FOUND


async def test_frames_lists_and_generators_become_lines(home: House) -> None:
    script = """
import pandas
def init(): pass
def run(mini_batch):
    kind = open(mini_batch[0]).read()
    if kind == "frame":
        return pandas.DataFrame({"a": [1, 2], "b": ["x", "y,z"]})
    if kind == "generator":
        return (n for n in range(3))
    if kind == "series":
        return pandas.Series([1.5])
    return [["a", 1], "text"]
"""
    kinds = {"1": "frame", "2": "generator", "3": "list", "4": "series"}
    await home.deploy(script, mini_batch_size=1)
    job = await home.until((await home.submit(await home.upload("kinds", kinds))).name)
    assert await home.output(job) == "1,x\n2,\"y,z\"\n0\n1\n2\n['a', 1]\ntext\n1.5\n"
    assert job.counts.rows == 8


async def test_files_that_the_script_writes_are_the_output_of_summary_only(home: House) -> None:
    script = """
import os
def init():
    global folder
    folder = os.environ["AZUREML_BI_OUTPUT_PATH"]
def run(mini_batch):
    for path in mini_batch:
        name = os.path.basename(path)
        os.makedirs(os.path.join(folder, "deep"), exist_ok=True)
        with open(os.path.join(folder, "deep", name), "w") as file:
            file.write("of " + name)
        with open(os.path.join(folder, "all.txt"), "a") as file:
            file.write(name + "\\n")
        if open(path).read() == "bad":
            raise ValueError("bad")
    return mini_batch
"""
    await home.deploy(
        script,
        mini_batch_size=1,
        output_action="summary_only",
        max_concurrency_per_instance=2,
        retry_settings=RetrySettings(max_retries=0),
    )
    uri = await home.upload("in", {"a": "1", "b": "bad", "c": "3"})
    job = await home.until((await home.submit(uri)).name)
    assert job.status is JobStatus.COMPLETED and job.counts.failed == 1
    assert await home.output(job, "deep/a") == "of a"
    assert await home.output(job, "all.txt") == "a\nc\n"
    with pytest.raises(HeadgateError):
        await home.output(job, "deep/b")  # its mini-batch was never committed
    with pytest.raises(HeadgateError):
        await home.output(job)


async def test_long_results_go_through_the_store(home: House) -> None:
    script = "def init(): pass\ndef run(m): return ['x' * 100_000 + p[-9:] for p in m]\n"
    await home.deploy(script, mini_batch_size=2)
    job = await home.until((await home.submit(await home.numbers(5))).name)
    lines = (await home.output(job)).splitlines()
    assert [line.strip("x") for line in lines] == [f"{n:05}.txt" for n in range(5)]

    async def nothing_left() -> bool:
        parts = f"jobs/{WORKSPACE}/{job.id}"
        return not [blob async for blob in home.store.walk(parts)]

    await eventually(nothing_left)


# --- what a job may ask for --------------------------------------------------------------------


async def test_a_job_overrides_its_deployment(home: House) -> None:
    await home.deploy(mini_batch_size=10)
    uri = await home.numbers(6)
    overrides = {"mini_batch_size": 2, "output_file_name": "mine.csv", "instance_count": 2}
    job = await home.submit(uri, overrides=overrides, output=f"{DATA}/out/here", name="my-job_1")
    job = await home.until(job.name)
    assert (job.name, job.counts.mini_batches) == ("my-job_1", 3)
    key = f"workspaces/{WORKSPACE}/workspaceblobstore/out/here/mine.csv"
    assert (await home.store.read(key, bytes_max=1_000)).decode() == doubled(6)
    with pytest.raises(HeadgateError, match="exists"):
        await home.submit(uri, overrides=overrides, output=f"{DATA}/out/here")
    with pytest.raises(HeadgateError, match="already"):
        await home.submit(uri, name="my-job_1")
    with pytest.raises(HeadgateError, match="within"):
        await home.submit(uri, output=f"{DATA}/numbers/below")


async def test_an_output_that_appears_meanwhile_is_never_replaced(home: House) -> None:
    await home.deploy()
    uri, place = await home.numbers(3), f"workspaces/{WORKSPACE}/workspaceblobstore/out"
    job = await home.submit(uri, output=f"{DATA}/out")
    await home.store.put(f"{place}/predictions.csv", b"somebody else's")
    job = await home.until(job.name)
    assert job.error is not None and job.error.code is ErrorCode.OUTPUT_EXISTS
    await home.store.delete(f"{place}/predictions.csv")
    await home.ask(ResumeJob(workspace=WORKSPACE, name=job.name))
    job = await home.until(job.name)
    assert job.status is JobStatus.COMPLETED
    found = await home.store.read(f"{place}/predictions.csv", bytes_max=1_000)
    assert found.decode() == doubled(3)


async def test_the_same_invocation_twice_is_one_job(home: House) -> None:
    await home.deploy()
    uri = await home.numbers(2)
    jobs = await asyncio.gather(*(home.submit(uri, repeat_id="once") for _ in range(5)))
    assert len({job.name for job in jobs}) == 1
    assert (await home.submit(uri, repeat_id="twice")).name != jobs[0].name


async def test_one_file_is_an_input_too(home: House) -> None:
    await home.deploy()
    uri = await home.numbers(5)
    job = await home.until((await home.submit(f"{uri}00003.txt", type="uri_file")).name)
    assert await home.output(job) == "00003.txt,6\n"


ROWS = """
import csv, os
def init(): pass
def run(mini_batch):
    rows = []
    for path in mini_batch:
        with open(path, newline="") as file:
            rows += [f"{os.path.basename(path)}:{row['n']}" for row in csv.DictReader(file)]
    return rows
"""


def tables(rows: int) -> tuple[dict[str, str], list[str]]:
    """Three tables with line breaks in their cells, and what ROWS makes of them."""
    contents = {
        f"{name}.csv": "n,said\n" + "".join(f'{n},"{n}\n{name}"\n' for n in range(rows))
        for name in "abc"
    }
    return contents, [f"{name}.csv:{n}" for name in "abc" for n in range(rows)]


async def test_tables_are_cut_by_rows(home: House) -> None:
    await home.deploy(ROWS, max_concurrency_per_instance=2)
    contents, expected = tables(50)
    uri = await home.upload("tables", contents)
    job = await home.submit(uri, overrides={"mini_batch_rows": 20})
    job = await home.until(job.name)
    assert (job.status, job.error) == (JobStatus.COMPLETED, None)
    assert (await home.output(job)).splitlines() == expected
    assert (job.counts.mini_batches, job.counts.items, job.counts.succeeded) == (8, 150, 150)
    one = await home.submit(f"{uri}b.csv", type="uri_file", overrides={"mini_batch_rows": 49})
    one = await home.until(one.name)
    assert (one.counts.mini_batches, one.counts.items) == (2, 50)
    await home.upload("tables", {"z.bin": "?"})
    job = await home.until((await home.submit(uri, overrides={"mini_batch_rows": 20})).name)
    assert job.status is JobStatus.FAILED and job.error is not None
    assert "z.bin" in job.error.message and job.error.code is ErrorCode.BAD_ARGUMENT


async def test_a_listing_by_rows_goes_on_in_the_middle_of_a_file(home: House) -> None:
    await home.deploy(ROWS)
    contents, expected = tables(4_000)
    job = await home.submit(await home.upload("tables", contents), overrides={"mini_batch_rows": 7})

    async def is_under_way() -> bool:
        return (await home.job(job.name)).counts.mini_batches > 0

    await eventually(is_under_way)
    for _ in range(3):
        await home.stop("batch")
        await home.start("batch")
    job = await home.until(job.name)
    assert job.status is JobStatus.COMPLETED
    assert (await home.output(job)).splitlines() == expected
    assert job.counts.items == 12_000


async def test_folders_of_folders_keep_their_names(home: House) -> None:
    script = "def init(): pass\ndef run(m): return ['/'.join(p.split('/')[-2:]) for p in m]\n"
    await home.deploy(script, mini_batch_size=2)
    names = ("b/1", "a/2", "a-b/3", "c", "a/1")
    job = await home.until(
        (await home.submit(await home.upload("deep", dict.fromkeys(names, "")))).name
    )
    assert [line[-5:].lstrip("/") for line in (await home.output(job)).splitlines()][:3] == [
        "a-b/3",
        "a/1",
        "a/2",
    ]


# --- cancel, pause, events ---------------------------------------------------------------------

SLOW = """
import os, time
def init(): pass
def run(mini_batch):
    time.sleep(0.05)
    return [os.path.basename(path) for path in mini_batch]
"""


@pytest.mark.parametrize("home", ["", "postgresql"], indirect=True)
async def test_a_job_that_is_canceled_ends_and_can_be_resumed(home: House) -> None:
    await home.deploy(SLOW, mini_batch_size=1)
    job = await home.submit(await home.numbers(60))

    async def is_under_way() -> bool:
        return (await home.job(job.name)).counts.settled >= 3

    await eventually(is_under_way)
    await home.ask(CancelJob(workspace=WORKSPACE, name=job.name))
    job = await home.until(job.name)
    assert job.status is JobStatus.CANCELED and job.counts.settled < 60
    await eventually(lambda: gone(home))
    done = job.counts.settled
    home.events.clear()
    await home.ask(ResumeJob(workspace=WORKSPACE, name=job.name))
    job = await home.until(job.name)
    assert job.status is JobStatus.COMPLETED
    assert (await home.output(job)).splitlines() == [f"{n:05}.txt" for n in range(60)]
    told = [MiniBatchesSettled.model_validate_json(data) for what, data in home.events
            if what == "mini_batches_settled"]  # fmt: skip
    assert sum(len(event.mini_batches) for event in told) == 60 - done


async def test_a_paused_job_lets_go_of_its_nodes_and_goes_on_later(home: House) -> None:
    await home.deploy(SLOW, mini_batch_size=1)
    job = await home.submit(await home.numbers(40))
    await home.until(job.name, JobStatus.RUNNING)
    await home.ask(PauseJob(workspace=WORKSPACE, name=job.name))
    await eventually(lambda: gone(home))
    assert (await home.job(job.name)).status is JobStatus.PAUSED
    await home.ask(ResumeJob(workspace=WORKSPACE, name=job.name))
    job = await home.until(job.name)
    assert job.status is JobStatus.COMPLETED and job.counts.settled == 40


async def gone(home: House) -> bool:
    """Whether no node is left."""
    return not (await home.ask(ListNodes())).nodes


async def test_events_tell_every_status_and_every_mini_batch(home: House) -> None:
    await home.deploy(mini_batch_size=2)
    job = await home.until((await home.submit(await home.numbers(9))).name)

    async def all_told() -> bool:
        return any(b'"Completed"' in data for what, data in home.events if what == "status_changed")

    await eventually(all_told)
    assert home.events[0][0] == "submitted"
    statuses = [JobStatusChanged.model_validate_json(data).status for what, data in home.events
                if what == "status_changed"]  # fmt: skip
    assert statuses[-3:] == [JobStatus.RUNNING, JobStatus.FINALIZING, JobStatus.COMPLETED]
    numbers = [
        each.number
        for what, data in home.events
        if what == "mini_batches_settled"
        for each in MiniBatchesSettled.model_validate_json(data).mini_batches
    ]
    assert sorted(numbers) == list(range(job.counts.mini_batches))
