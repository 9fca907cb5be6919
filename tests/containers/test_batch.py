"""Nodes of batch jobs as containers."""

from __future__ import annotations

from pathlib import Path

import docker

from batch.house import WORKSPACE, House, eventually, house
from containers.engine import IMAGE
from headgate_contracts.jobs import CancelJob, Job, JobStatus
from headgate_contracts.nodes import ListNodes

SCRIPT = """
import os

def init():
    global folder
    folder = os.environ["AZUREML_BI_OUTPUT_PATH"]

def run(mini_batch):
    found = []
    for path in mini_batch:
        name = os.path.basename(path)
        if name == "00003.txt" and not os.path.exists("/tmp/tried"):
            open("/tmp/tried", "w").close()
            os._exit(9)
        with open(os.path.join(folder, "names.txt"), "a") as file:
            file.write(name + "\\n")
        inside = os.path.exists("/.dockerenv") and os.getuid() != 0
        found.append(f"{name},{2 * int(open(path).read())},{inside},{'x' * 2_000}")
    return found
"""


async def test_a_job_runs_in_containers(engine: docker.DockerClient, tmp_path: Path) -> None:
    async with house(tmp_path, driver="docker", docker_image=IMAGE) as home:
        await home.deploy(SCRIPT, mini_batch_size=10, max_concurrency_per_instance=2)
        job = await home.until((await home.submit(await home.numbers(40))).name)
        assert (job.status, job.counts.retries, job.error) == (JobStatus.COMPLETED, 1, None)
        tail = "x" * 2_000
        rows = (await home.output(job)).splitlines()
        assert rows == [f"{n:05}.txt,{2 * n},True,{tail}" for n in range(40)]
        names = (await home.output(job, "names.txt")).splitlines()
        assert names == [f"{n:05}.txt" for n in range(40)]
        await eventually(lambda: _has_journal(home, job))

        async def all_gone() -> bool:
            return not containers_of(engine) and not (await home.ask(ListNodes())).nodes

        await eventually(all_gone)


async def test_a_script_that_cannot_be_loaded_in_a_container_fails_its_job(
    engine: docker.DockerClient, tmp_path: Path
) -> None:
    async with house(tmp_path, driver="docker", docker_image=IMAGE) as home:
        await home.deploy("import nothing_of_that_name\ndef run(m): return m\n")
        job = await home.until((await home.submit(await home.numbers(2))).name)
        assert job.status is JobStatus.FAILED and job.error is not None
        assert "nothing_of_that_name" in job.error.message


async def test_a_container_of_low_priority_has_the_smallest_share_of_the_processors(
    engine: docker.DockerClient, tmp_path: Path
) -> None:
    slow = "import time\ndef init(): pass\ndef run(m): time.sleep(0.2); return m\n"
    async with house(tmp_path, driver="docker", docker_image=IMAGE) as home:
        await home.deploy(slow, mini_batch_size=1)
        uri = await home.numbers(200)
        for priority, shares in ((-1, 2), (0, 0)):  # 0: the engine's default
            job = await home.submit(uri, overrides={"priority": priority})
            await home.until(job.name, JobStatus.RUNNING)
            (running,) = containers_of(engine)
            assert engine.api.inspect_container(running)["HostConfig"]["CpuShares"] == shares
            await home.ask(CancelJob(workspace=WORKSPACE, name=job.name))
            await home.until(job.name, JobStatus.CANCELED)


async def _has_journal(home: House, job: Job) -> bool:
    logs = [await home.log(job, f"process{number}.txt") for number in range(2)]
    return "".join(logs).count("total 10 succeeded 10") == 4


def containers_of(engine: docker.DockerClient) -> list[str]:
    """Those that run for the endpoint of batch jobs."""
    found = engine.containers.list(filters={"label": "io.headgate.endpoint=numbers"})
    return [str(each.id) for each in found]
