"""Jobs under faults: what is killed with SIGKILL is a process of its own, as in production.

The long proof of the same is ``python -m loadtests.batch_faults``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from loadtests import batch_system
from loadtests.batch_user import eventually

from databases import fresh_url
from headgate_contracts.jobs import Job, JobStatus

MANY = 100
NOTING = """
import os, time
def init(): pass
def run(mini_batch):
    while "00070.txt" <= os.path.basename(mini_batch[0]) and not os.path.exists(os.environ["GATE"]):
        time.sleep(0.01)
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(os.path.basename(mini_batch[0]) + "\\n")
    return [f"{os.path.basename(path)},{2 * int(open(path).read())}" for path in mini_batch]
"""


@pytest.mark.parametrize("kind", ["", "postgresql"])
async def test_after_a_kill_at_sixty_percent_only_the_rest_is_run(
    tmp_path: Path, kind: str
) -> None:
    notes, gate = tmp_path / "notes", tmp_path / "gate"
    database = fresh_url(kind, tmp_path) if kind else ""
    async with batch_system.running(tmp_path / "data", database=database) as system:
        await system.deploy(
            NOTING,
            mini_batch_size=1,
            max_concurrency_per_instance=2,
            environment_variables={"NOTES": str(notes), "GATE": str(gate)},
        )
        job = await system.submit(await system.numbers(MANY))

        async def is_that_far() -> Job | None:
            found = await system.job(job.name)
            return found if found.counts.settled >= 0.6 * MANY else None

        before = await eventually(is_that_far)
        assert before is not None and before.counts.settled < MANY
        await system.kill("batch")
        gate.touch()
        done = await system.until(job.name)
        output = await system.output(done)
    assert (done.status, done.counts.failed) == (JobStatus.COMPLETED, 0)
    assert output == "".join(f"{n:05}.txt,{2 * n}\n" for n in range(MANY))
    assert sorted(notes.read_text().split()) == [f"{n:05}.txt" for n in range(MANY)]
