"""What the batch service remembers: rows become values and values rows, here and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, insert, literal
from sqlalchemy import select as columns
from sqlmodel import col, func, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.batch.cutting import MiniBatch
from headgate.batch.records import JobDocument, JobRecord
from headgate.batch.rows import JobRow, MiniBatchRow
from headgate_contracts.errors import WireError
from headgate_contracts.jobs import DeadLetter, JobCounts, JobStatus
from headgate_contracts.mini_batches import FilePart, OutputFile, Task

PENDING, QUEUED, DONE, FAILED = "pending", "queued", "done", "failed"
FILES_SHOWN_MAX = 10
_FRESH: dict[str, Any] = {
    "state": PENDING, "attempt": 1, "losses": 0, "due": 0.0, "succeeded": 0,
    "text": "", "part": "", "outputs": "", "error": "", "node": "",
}  # fmt: skip
_ACTIVE = [status.value for status in JobStatus if not status.is_final]


# --- jobs --------------------------------------------------------------------------------------


def _job(row: JobRow) -> JobRecord:
    return JobRecord(
        id=row.id,
        workspace=row.workspace,
        name=row.name,
        endpoint=row.endpoint,
        deployment=row.deployment,
        status=JobStatus(row.status),
        document=JobDocument.model_validate_json(row.document),
        counts=JobCounts.model_validate_json(row.counts),
        error=WireError.model_validate_json(row.error) if row.error else None,
        repeat_id=row.repeat_id,
        listed_key=row.listed_key,
        next_number=row.next_number,
        epoch=row.epoch,
        has_parts=row.has_parts,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        revision=row.revision,
    )


def _changing(job: JobRecord) -> dict[str, Any]:
    """The columns that change in the life of a job."""
    return {
        "status": job.status.value,
        "counts": job.counts.model_dump_json(),
        "error": job.error.model_dump_json() if job.error else "",
        "listed_key": job.listed_key,
        "next_number": job.next_number,
        "epoch": job.epoch,
        "has_parts": job.has_parts,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "revision": job.revision,
    }


async def add_job(session: AsyncSession, job: JobRecord) -> None:
    session.add(
        JobRow(
            id=job.id,
            workspace=job.workspace,
            name=job.name,
            endpoint=job.endpoint,
            deployment=job.deployment,
            repeat_id=job.repeat_id,
            document=job.document.model_dump_json(),
            created_at=job.created_at,
            **_changing(job),
        )
    )


async def save_job(session: AsyncSession, job: JobRecord) -> None:
    await session.exec(update(JobRow).where(col(JobRow.id) == job.id).values(**_changing(job)))


async def job(session: AsyncSession, job_id: str) -> JobRecord | None:
    row = await session.get(JobRow, job_id)
    return _job(row) if row else None


async def named(session: AsyncSession, workspace: str, name: str) -> JobRecord | None:
    query = select(JobRow).where(JobRow.workspace == workspace, JobRow.name == name)
    row = (await session.exec(query)).first()
    return _job(row) if row else None


async def repeated(
    session: AsyncSession, workspace: str, endpoint: str, repeat_id: str
) -> JobRecord | None:
    """The job that was made by an invocation with this id."""
    query = select(JobRow).where(
        JobRow.workspace == workspace, JobRow.endpoint == endpoint, JobRow.repeat_id == repeat_id
    )
    row = (await session.exec(query)).first()
    return _job(row) if row else None


async def active_jobs(session: AsyncSession) -> list[JobRecord]:
    """Jobs that have not ended, oldest first."""
    query = select(JobRow).where(col(JobRow.status).in_(_ACTIVE)).order_by(col(JobRow.created_at))
    return [_job(row) for row in (await session.exec(query)).all()]


async def count_active(session: AsyncSession, workspace: str) -> int:
    query = select(func.count()).select_from(JobRow)
    query = query.where(JobRow.workspace == workspace, col(JobRow.status).in_(_ACTIVE))
    return (await session.exec(query)).one()


async def jobs(
    session: AsyncSession,
    workspace: str,
    endpoint: str,
    deployment: str,
    before: JobRecord | None,
    limit: int,
) -> list[JobRecord]:
    """Newest first."""
    query = select(JobRow).where(JobRow.workspace == workspace)
    if endpoint:
        query = query.where(JobRow.endpoint == endpoint)
    if deployment:
        query = query.where(JobRow.deployment == deployment)
    if before is not None:
        at, same = col(JobRow.created_at), col(JobRow.id)
        query = query.where(
            (at < before.created_at) | ((at == before.created_at) & (same < before.id))
        )
    query = query.order_by(col(JobRow.created_at).desc(), col(JobRow.id).desc()).limit(limit)
    return [_job(row) for row in (await session.exec(query)).all()]


async def with_old_parts(session: AsyncSession, ended_before: float) -> list[JobRecord]:
    """Ended jobs whose results still wait, though nobody will go on with them."""
    query = select(JobRow).where(
        col(JobRow.has_parts).is_(True),
        col(JobRow.ended_at).is_not(None),
        (col(JobRow.status) == JobStatus.COMPLETED.value) | (col(JobRow.ended_at) < ended_before),
    )
    return [_job(row) for row in (await session.exec(query.limit(20))).all()]


# --- mini-batches: made and published ----------------------------------------------------------


def _files_text(files: Sequence[FilePart]) -> str:
    said = [
        [f.path, f.size_bytes] if f.end is None else [f.path, f.size_bytes, f.start, f.end, f.head]
        for f in files
    ]
    return json.dumps(said, separators=(",", ":"), ensure_ascii=False)


def _files(text: str) -> tuple[FilePart, ...]:
    names = ("path", "size_bytes", "start", "end", "head")
    return tuple(FilePart(**dict(zip(names, item, strict=False))) for item in json.loads(text))


async def add_mini_batches(
    session: AsyncSession, job_id: str, first: int, made: Sequence[MiniBatch]
) -> None:
    await session.exec(
        insert(MiniBatchRow),
        params=[
            {
                **_FRESH,
                "job": job_id,
                "number": first + offset,
                "items": each.items,
                "files": _files_text(each.files),
            }
            for offset, each in enumerate(made)
        ],
    )


@dataclass(frozen=True, slots=True)
class Due:
    """A mini-batch that may be published."""

    task: Task
    losses: int


async def due(session: AsyncSession, job_id: str, now: float, limit: int, inline: int) -> list[Due]:
    """Mini-batches that wait, by number. Of more than ``inline`` files their names are left out."""
    row = col(MiniBatchRow.number)
    query = (
        columns(
            row,
            col(MiniBatchRow.attempt),
            col(MiniBatchRow.losses),
            col(MiniBatchRow.items),
            col(MiniBatchRow.files),
        )
        .where(
            col(MiniBatchRow.job) == job_id,
            col(MiniBatchRow.state) == PENDING,
            col(MiniBatchRow.due) <= now,
        )
        .order_by(row)
        .limit(limit)
    )
    found = (await (await session.connection()).execute(query)).all()
    return [
        Due(
            Task(
                job=job_id,
                number=number,
                attempt=attempt,
                items=items,
                files=files if len(files := _files(text)) <= inline else None,
            ),
            losses,
        )
        for number, attempt, losses, items, text in found
    ]


async def next_due(session: AsyncSession, job_id: str) -> float | None:
    """When the next waiting mini-batch may be published; None when none waits."""
    query = select(func.min(MiniBatchRow.due)).where(
        MiniBatchRow.job == job_id, MiniBatchRow.state == PENDING
    )
    return (await session.exec(query)).one()


async def count_queued(session: AsyncSession, job_id: str) -> int:
    query = select(func.count()).select_from(MiniBatchRow)
    query = query.where(MiniBatchRow.job == job_id, MiniBatchRow.state == QUEUED)
    return (await session.exec(query)).one()


async def set_state(
    session: AsyncSession, job_id: str, numbers: Sequence[int], state: str, due: float = 0.0
) -> None:
    await session.exec(
        update(MiniBatchRow)
        .where(col(MiniBatchRow.job) == job_id, col(MiniBatchRow.number).in_(numbers))
        .values(state=state, due=due)
    )


async def unqueue(session: AsyncSession, job_id: str) -> None:
    """What was published waits again: nobody will run it."""
    await session.exec(
        update(MiniBatchRow)
        .where(col(MiniBatchRow.job) == job_id, col(MiniBatchRow.state) == QUEUED)
        .values(state=PENDING, due=0.0)
    )


async def count_dead(session: AsyncSession, job_id: str, numbers: Sequence[int]) -> tuple[int, int]:
    """How many mini-batches were given up, of these numbers or of all, and their items."""
    query = select(func.count(), func.coalesce(func.sum(MiniBatchRow.items), 0))
    count, items = (await session.exec(query.where(*_dead(job_id, numbers)))).one()
    return int(count), int(items)


async def revive(session: AsyncSession, job_id: str, numbers: Sequence[int]) -> None:
    """Given-up mini-batches wait again."""
    change = update(MiniBatchRow).where(*_dead(job_id, numbers))
    await session.exec(change.values(state=PENDING, attempt=1, losses=0, due=0.0))


async def copy_dead(session: AsyncSession, job_id: str, numbers: Sequence[int], to: str) -> None:
    """Another job begins with them, in their order, as if it had cut its input so."""
    number = func.row_number().over(order_by=col(MiniBatchRow.number)) - 1
    row = {**_FRESH, "job": to, "number": number, "items": col(MiniBatchRow.items)}
    row["files"] = col(MiniBatchRow.files)
    values = [literal(v) if isinstance(v, str | int | float) else v for v in row.values()]
    found = columns(*values).where(*_dead(job_id, numbers))
    await session.exec(insert(MiniBatchRow).from_select(list(row), found))


def _dead(job_id: str, numbers: Sequence[int]) -> list[ColumnElement[bool]]:
    where = [col(MiniBatchRow.job) == job_id, col(MiniBatchRow.state) == FAILED]
    return [*where, col(MiniBatchRow.number).in_(numbers)] if numbers else where


# --- mini-batches: settled ---------------------------------------------------------------------


async def unsettled(
    session: AsyncSession, job_id: str, numbers: Iterable[int]
) -> dict[int, tuple[int, int, int]]:
    """Items, attempt and losses of those mini-batches that are not settled."""
    query = select(
        MiniBatchRow.number, MiniBatchRow.items, MiniBatchRow.attempt, MiniBatchRow.losses
    ).where(
        MiniBatchRow.job == job_id,
        col(MiniBatchRow.number).in_(list(numbers)),
        col(MiniBatchRow.state).in_([PENDING, QUEUED]),
    )
    found = (await session.exec(query)).all()
    return {number: (items, attempt, losses) for number, items, attempt, losses in found}


async def write(
    session: AsyncSession, job_id: str, changes: Mapping[int, Mapping[str, Any]]
) -> None:
    """New values of mini-batches, by number; those with the same columns go together."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for number, change in changes.items():
        row = {"job": job_id, "number": number, **change}
        groups.setdefault(tuple(sorted(change)), []).append(row)
    for rows in groups.values():
        await session.exec(update(MiniBatchRow), params=rows)


async def files_of(session: AsyncSession, job_id: str, number: int) -> tuple[FilePart, ...] | None:
    query = select(MiniBatchRow.files)
    query = query.where(MiniBatchRow.job == job_id, MiniBatchRow.number == number)
    text = (await session.exec(query)).first()
    return None if text is None else _files(text)


async def items_of(session: AsyncSession, job_id: str, number: int) -> int | None:
    """How many items a mini-batch has; None when there is no such one."""
    row = await session.get(MiniBatchRow, (job_id, number))
    return None if row is None else row.items


async def dead_letters(
    session: AsyncSession, job_id: str, after: int, limit: int
) -> list[DeadLetter]:
    query = select(MiniBatchRow).where(
        MiniBatchRow.job == job_id, MiniBatchRow.state == FAILED, MiniBatchRow.number > after
    )
    rows = (await session.exec(query.order_by(col(MiniBatchRow.number)).limit(limit))).all()
    return [
        DeadLetter(
            number=row.number,
            files=tuple(part.path for part in _files(row.files)[:FILES_SHOWN_MAX]),
            items=row.items,
            attempts=row.attempt,
            error=row.error,
            node=row.node,
        )
        for row in rows
    ]


# --- results -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """What one committed mini-batch gave back: ``text``, or the object ``part``."""

    number: int
    text: str
    part: str
    outputs: tuple[OutputFile, ...]


async def results(session: AsyncSession, job_id: str, after: int, limit: int) -> list[Result]:
    """Results of committed mini-batches, in the order of the input."""
    query = select(
        MiniBatchRow.number, MiniBatchRow.text, MiniBatchRow.part, MiniBatchRow.outputs
    ).where(MiniBatchRow.job == job_id, MiniBatchRow.state == DONE, MiniBatchRow.number > after)
    found = (await session.exec(query.order_by(col(MiniBatchRow.number)).limit(limit))).all()
    return [Result(number, text, part, _outputs(said)) for number, text, part, said in found]


def _outputs(text: str) -> tuple[OutputFile, ...]:
    return tuple(OutputFile.model_validate(item) for item in json.loads(text)) if text else ()


async def forget_results(session: AsyncSession, job_id: str) -> None:
    """The output is written: what it was made of is not needed any more."""
    await session.exec(
        update(MiniBatchRow)
        .where(col(MiniBatchRow.job) == job_id)
        .values(text="", part="", outputs="")
    )
