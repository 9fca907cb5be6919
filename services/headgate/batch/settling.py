"""What reports of nodes change: one transaction for a group, each mini-batch settled once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.batch import core, state
from headgate.batch.core import Commit, GiveUp, Known, Retry, Trigger
from headgate.batch.records import JobRecord, stepped
from headgate_contracts.envelope import Event
from headgate_contracts.jobs import MiniBatchesSettled, MiniBatchRetried, SettledMiniBatch
from headgate_contracts.mini_batches import MiniBatchReport

Columns = dict[str, Any]


@dataclass(slots=True)
class Outcome:
    """What a group of reports of one job has led to."""

    job: JobRecord | None
    counted: list[bool] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    retry_at: float | None = None
    gave_up: bool = False


async def settle(
    session: AsyncSession, job_id: str, reports: Sequence[MiniBatchReport], now: float
) -> Outcome:
    """Store what the reports say that is news, and the job with its new counts."""
    job = await state.job(session, job_id)
    if job is None or job.status.is_final or not job.has_parts:
        return Outcome(None, [False] * len(reports))
    known = await state.unsettled(session, job_id, {report.number for report in reports})
    outcome = Outcome(job)
    changes: dict[int, Columns] = {}
    settled: list[SettledMiniBatch] = []
    counts = job.counts
    for report in reports:
        if report.number not in known or report.number in changes:
            outcome.counted.append(False)
            continue
        items, attempt, losses = known[report.number]
        if report.outcome != "done" and report.attempt != attempt:
            outcome.counted.append(False)  # of an attempt that has been judged already
            continue
        outcome.counted.append(True)
        judged = core.judged(report, Known(items, attempt, losses), job.settings)
        if isinstance(judged, Retry):
            counts = counts.model_copy(update={"retries": counts.retries + 1})
            due = now + judged.in_s
            outcome.retry_at = min(due, outcome.retry_at or due)
            outcome.events.append(_retried(job, report, judged))
        else:
            counts = core.added(counts, judged)
            outcome.gave_up |= isinstance(judged, GiveUp)
            settled.append(_settled(report, judged, items))
        changes[report.number] = _columns(report, judged, now)
    await state.write(session, job_id, changes)
    outcome.job = job.changed(counts=counts) if changes else job
    if settled:
        said = MiniBatchesSettled(**job.about, mini_batches=tuple(settled), counts=counts)
        outcome.events.insert(0, said)
    if changes:
        _advance(outcome, now)
        await state.save_job(session, outcome.job)
    return outcome


def _advance(outcome: Outcome, now: float) -> None:
    """What the counts mean for the status: running at the latest now, aborted, all settled."""
    assert outcome.job is not None
    wanted: list[tuple[Trigger, Any]] = [(Trigger.NODE_READY, None)]
    error = core.over_threshold(outcome.job.counts, outcome.job.settings)
    if error is not None:
        wanted.append((Trigger.FAIL, error))
    elif core.is_settled(outcome.job.counts):
        wanted.append((Trigger.ALL_SETTLED, None))
    for trigger, error in wanted:
        step = stepped(outcome.job, trigger, now, error)
        if step is not None:
            outcome.job = step.job
            outcome.events.append(step.event)


def _retried(job: JobRecord, report: MiniBatchReport, retry: Retry) -> MiniBatchRetried:
    return MiniBatchRetried(
        **job.about,
        number=report.number,
        attempt=report.attempt,
        reason=f"{report.outcome}: {report.error}"[:1_000],
        in_s=retry.in_s,
    )


def _settled(report: MiniBatchReport, done: Commit | GiveUp, items: int) -> SettledMiniBatch:
    return SettledMiniBatch(
        number=report.number,
        failed=isinstance(done, GiveUp),
        items=items,
        succeeded=done.succeeded if isinstance(done, Commit) else 0,
        attempt=report.attempt,
        run_ms=report.run_ms,
    )


def _columns(report: MiniBatchReport, judged: Commit | Retry | GiveUp, now: float) -> Columns:
    """The new values of the mini-batch."""
    about: Columns = {"node": report.node, "error": report.error}
    if isinstance(judged, Retry):
        return about | {
            "state": state.PENDING,
            "attempt": judged.attempt,
            "losses": judged.losses,
            "due": now + judged.in_s if judged.in_s else 0.0,
        }
    if isinstance(judged, GiveUp):
        return about | {"state": state.FAILED, "error": judged.error}
    outputs = json.dumps([each.model_dump() for each in report.files]) if report.files else ""
    return about | {
        "state": state.DONE,
        "succeeded": judged.succeeded,
        "text": report.rows,
        "part": report.part,
        "outputs": outputs,
    }


def grouped(reports: Sequence[MiniBatchReport]) -> dict[str, list[int]]:
    """Where in the sequence the reports of each job are."""
    found: dict[str, list[int]] = {}
    for place, report in enumerate(reports):
        found.setdefault(report.job, []).append(place)
    return found
