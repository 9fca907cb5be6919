"""Drives one job from its submission to its end: lists, publishes, writes the output.

Level-triggered: each look reads the job anew and does what its status asks for, so after any
restart it goes on where the database says.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from headgate.batch import core, finalising, state
from headgate.batch.core import Trigger
from headgate.batch.cutting import MiniBatch
from headgate.batch.finalising import LostResultError, Output
from headgate.batch.job_logs import JobLogs
from headgate.batch.listing import list_input
from headgate.batch.queueing import WorkQueue
from headgate.batch.records import JobRecord, stepped
from headgate.batch.row_cutting import key_of
from headgate.runtime.clock import Clock
from headgate.runtime.log import Log
from headgate.runtime.outbox import Outbox
from headgate.runtime.places import Places
from headgate.runtime.store import Store
from headgate.runtime.tables import Database
from headgate_contracts import limits
from headgate_contracts.errors import Blame, ErrorCode, HeadgateError, WireError
from headgate_contracts.jobs import JobStatus

LOOK_S = 5.0
PACE_S = 0.05  # between two looks, so that what is published goes out in groups
RETRY_S = 1.0
STALLED_S = 30.0
# Enough for some seconds of short mini-batches: nodes work on while this service restarts.
WINDOW_MIN = 256
WINDOW_PER_PROCESS = 256
WINDOW_MAX = 2_048

_log = Log("batch")


@dataclass(frozen=True, slots=True)
class Tools:
    """What every job is driven with. ``moved`` is set whenever the status of one has changed."""

    database: Database
    outbox: Outbox
    queue: WorkQueue
    places: Places
    store: Store
    clock: Clock
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def step(
        self, job_id: str, trigger: Trigger, error: WireError | None = None
    ) -> JobRecord | None:
        """Move a job on, if that has a meaning for it now; the job after it."""
        async with self.database.transaction() as session:
            job = await state.job(session, job_id)
            step = stepped(job, trigger, self.clock.now(), error) if job else None
            if step is None:
                return job
            await state.save_job(session, step.job)
            self.outbox.add(session, [step.event])
        self.outbox.wake()
        self.moved.set()
        _log.info("job_status", job=step.job.name, status=step.job.status.value)
        return step.job


class JobDriver:
    """One job. ``wake`` says that something about it has changed."""

    def __init__(self, job_id: str, tools: Tools) -> None:
        self._id = job_id
        self._tools = tools
        self._woken = asyncio.Event()
        self._listing: asyncio.Task[None] | None = None
        self._opened = False
        self._adopted = False
        self._logs = JobLogs(tools.store, tools.database)
        self._moved_at = tools.clock.monotonic()

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        """Drive until the job has ended."""
        try:
            while True:
                self._woken.clear()
                try:
                    wait_s = await self._look()
                except HeadgateError as error:
                    _log.warning("job_waits", job=self._id, error=str(error))
                    wait_s = RETRY_S
                if wait_s is None and self._woken.is_set():
                    continue  # it was resumed meanwhile
                if wait_s is None:
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._woken.wait()
                        await asyncio.sleep(PACE_S)
        finally:
            await self._stop_listing()

    async def _look(self) -> float | None:
        """Do what there is to do; how long to wait for something new, None when all is over."""
        async with self._tools.database.reading() as session:
            job = await state.job(session, self._id)
        if job is None:
            return None
        await self._logs.tell(job)
        if job.status.wants_nodes:
            return await self._work(job)
        await self._stop_listing()
        if job.status is JobStatus.FINALIZING:
            await self._finalise(job)
            return 0.0
        await self._empty(job)
        if job.status.is_final:
            await self._logs.tell(job, is_last=True)
            if job.status is JobStatus.COMPLETED:
                await clean_up(self._tools, job)
            return None
        return LOOK_S

    # --- while it runs -------------------------------------------------------------------------

    async def _work(self, job: JobRecord) -> float:
        if not self._opened:
            await self._tools.queue.open(job.id)
            self._opened = True
        if not self._adopted:
            # Whatever an earlier run has published may not have reached the queue.
            await self._unqueue(job, is_new_epoch=False)
            self._adopted = True
        if not job.counts.is_listed:
            self._keep_listing(job)
        elif core.is_settled(job.counts):
            await self._tools.step(job.id, Trigger.ALL_SETTLED)
            return 0.0
        return await self._publish(job)

    async def _publish(self, job: JobRecord) -> float:
        """Fill the window; how long to wait then."""
        tools, now = self._tools, self._tools.clock.now()
        async with tools.database.transaction() as session:
            found_job = await state.job(session, job.id)
            if found_job is None or not found_job.status.wants_nodes:
                return 0.0
            job = found_job  # it may have been resumed since: messages are told apart by its epoch
            queued = await state.count_queued(session, job.id)
            room = _window(job) - queued
            found = await state.due(session, job.id, now, room, limits.BATCH_FILES_INLINE_MAX)
            numbers = [each.task.number for each in found]
            if numbers:
                await state.set_state(session, job.id, numbers, state.QUEUED)
            next_due = await state.next_due(session, job.id) if room > len(found) else None
        refused = await tools.queue.publish(job.id, job.epoch, found)
        if refused:
            async with tools.database.transaction() as session:
                due = tools.clock.now() + RETRY_S
                await state.set_state(session, job.id, refused, state.PENDING, due)
        if found:
            self._moved_at = tools.clock.monotonic()
        elif queued and tools.clock.monotonic() - self._moved_at > STALLED_S:
            await self._look_for_lost(job)
        if next_due is not None:
            return min(LOOK_S, max(0.0, next_due - tools.clock.now()))
        return LOOK_S

    async def _look_for_lost(self, job: JobRecord) -> None:
        """Mini-batches that are published and nowhere: a bus that has lost its disk."""
        self._moved_at = self._tools.clock.monotonic()
        if await self._tools.queue.is_empty(job.id):
            _log.warning("tasks_lost", job=job.name)
            self._opened = False
            await self._unqueue(job, is_new_epoch=True)

    async def _unqueue(self, job: JobRecord, *, is_new_epoch: bool) -> None:
        async with self._tools.database.transaction() as session:
            await state.unqueue(session, job.id)
            found = await state.job(session, job.id)
            if is_new_epoch and found is not None:
                await state.save_job(session, found.changed(epoch=found.epoch + 1))

    # --- listing -------------------------------------------------------------------------------

    def _keep_listing(self, job: JobRecord) -> None:
        if self._listing is None or self._listing.done():
            self._listing = asyncio.create_task(self._list(job.id))

    async def _stop_listing(self) -> None:
        if self._listing is not None:
            self._listing.cancel()
            await asyncio.gather(self._listing, return_exceptions=True)
            self._listing = None

    async def _list(self, job_id: str) -> None:
        async with self._tools.database.reading() as session:
            job = await state.job(session, job_id)
        if job is None or job.counts.is_listed:  # whoever started us saw it as it was before
            return
        try:
            await list_input(job, self._tools.places, self._store)
        except HeadgateError as error:
            if error.error.blame is Blame.CALLER:
                await self._tools.step(job.id, Trigger.FAIL, error.error)
            else:
                _log.warning("listing_waits", job=job.name, error=str(error))
                await asyncio.sleep(RETRY_S)
        except Exception as error:
            _log.exception("listing_failed", job=job.name)
            text = f"the input cannot be listed: {error!r}"
            failure = WireError(code=ErrorCode.INTERNAL, message=text)
            await self._tools.step(job.id, Trigger.FAIL, failure)
        self.wake()

    async def _store(self, made: Sequence[MiniBatch], is_last: bool) -> bool:
        """Store mini-batches and how far the listing is, in one."""
        async with self._tools.database.transaction() as session:
            job = await state.job(session, self._id)
            if job is None or job.counts.is_listed or not job.status.wants_nodes:
                return False
            counts = job.counts.model_copy(
                update={
                    "mini_batches": job.counts.mini_batches + len(made),
                    "items": job.counts.items + sum(each.items for each in made),
                    "is_listed": is_last,
                }
            )
            changes = {"counts": counts, "next_number": job.next_number + len(made)}
            if made:
                await state.add_mini_batches(session, job.id, job.next_number, made)
                changes["listed_key"] = key_of(made[-1].files[-1])
            await state.save_job(session, job.changed(**changes))
        if is_last and not counts.mini_batches:
            await self._tools.step(job.id, Trigger.FAIL, _no_files(job))
        self.wake()
        return True

    # --- the end -------------------------------------------------------------------------------

    async def _finalise(self, job: JobRecord) -> None:
        tools = self._tools
        error = core.verdict(job.counts)
        try:
            if error is None:
                to = await tools.places.store_of(job.document.to_place)
                await Output(job, tools.database, to, tools.store).write()
        except LostResultError as lost:
            error = await self._give_up(job, lost)
        except HeadgateError as failure:
            if failure.error.blame is not Blame.CALLER:
                raise
            error = failure.error
        trigger = Trigger.OUTPUT_WRITTEN if error is None else Trigger.FAIL
        await tools.step(job.id, trigger, error)

    async def _give_up(self, job: JobRecord, lost: LostResultError) -> WireError:
        """A result that is gone is run again when the job is resumed."""
        message = f"{lost}; `headgate job resume` runs it again"
        async with self._tools.database.transaction() as session:
            found = await state.job(session, job.id)
            items = await state.items_of(session, job.id, lost.number)
            if found is not None and items is not None:
                counts = found.counts
                counts = counts.model_copy(
                    update={
                        "failed_mini_batches": counts.failed_mini_batches + 1,
                        "succeeded": counts.succeeded - items,
                        "failed": counts.failed + items,
                    }
                )
                change = {"state": state.FAILED, "error": str(lost), "part": "", "outputs": ""}
                await state.write(session, job.id, {lost.number: change})
                await state.save_job(session, found.changed(counts=counts))
        return WireError(code=ErrorCode.UNAVAILABLE, message=message)

    async def _empty(self, job: JobRecord) -> None:
        """Nobody shall begin anything more."""
        await self._tools.queue.clear(job.id, close=job.status.is_final)
        self._opened = self._opened and not job.status.is_final
        await self._unqueue(job, is_new_epoch=False)


async def clean_up(tools: Tools, job: JobRecord) -> None:
    """Remove what an ended job does not need any more."""
    await finalising.forget(job, tools.store)
    async with tools.database.transaction() as session:
        await state.forget_results(session, job.id)
        found = await state.job(session, job.id)
        if found is not None:
            await state.save_job(session, replace(found, has_parts=False))


def _window(job: JobRecord) -> int:
    """How many mini-batches may be published and not settled."""
    settings = job.settings
    processes = settings.instance_count * settings.max_concurrency_per_instance
    return min(WINDOW_MAX, max(WINDOW_MIN, WINDOW_PER_PROCESS * processes))


def _no_files(job: JobRecord) -> WireError:
    return WireError(
        code=ErrorCode.NO_INPUT,
        message=f"there are no files at {job.document.input.uri}",
        target="inputs.uri",
    )
