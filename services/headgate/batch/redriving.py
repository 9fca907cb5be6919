"""Mini-batches that were given up, tried again.

A job that has not written its output takes them up itself. The output of a completed job stays as
it is: a new job of the deployment as it is now runs over them alone, and writes one of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.batch import state
from headgate.batch.intake import Intake
from headgate.batch.records import JobRecord
from headgate.runtime.clock import short_id
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.jobs import JobCounts, RedriveDeadLetters, SubmitJob

_NAME_CHARS = 50  # of the name before, so that the new one is not too long


async def counted(session: AsyncSession, job: JobRecord, numbers: Sequence[int]) -> tuple[int, int]:
    """How many mini-batches are meant, and their items. Raises HeadgateError when one is none."""
    count, items = await state.count_dead(session, job.id, numbers)
    if count == 0 or count < len(set(numbers)):
        raise HeadgateError(
            ErrorCode.RESOURCE_NOT_FOUND,
            f"the job {job.name!r} has given up no mini-batch"
            f"{'' if not numbers else f' of one of the numbers {sorted(set(numbers))[:20]}'}; "
            f"`headgate job dead-letters -n {job.name}` lists what there is",
            target="numbers",
        )
    return count, items


async def successor(intake: Intake, job: JobRecord, command: RedriveDeadLetters) -> JobRecord:
    """The job that runs what ``job`` has given up; its mini-batches are copied, not listed."""
    made = await intake.job(
        SubmitJob(
            workspace=job.workspace,
            endpoint=job.endpoint,
            deployment=job.deployment,
            name=f"{job.name[:_NAME_CHARS]}-{short_id()}",
            inputs={"input": job.document.input},
            experiment_name=job.document.experiment_name,
            by=command.by,
        )
    )
    before = job.document  # whatever its input means by now, these are the files
    place = {"input": before.input, "from_place": before.from_place, "file_name": before.file_name}
    return made.changed(document=made.document.model_copy(update=place))


async def begin(
    session: AsyncSession, made: JobRecord, job: JobRecord, numbers: Sequence[int]
) -> JobRecord:
    """Store the new job with its mini-batches."""
    count, items = await counted(session, job, numbers)
    counts = JobCounts(mini_batches=count, items=items, is_listed=True)
    made = made.changed(counts=counts, next_number=count)
    await state.add_job(session, made)
    await state.copy_dead(session, job.id, numbers, made.id)
    return made
