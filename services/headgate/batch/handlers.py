"""The batch service's answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlmodel.ext.asyncio.session import AsyncSession

from headgate.batch import core, grouping, redriving, settling, state
from headgate.batch.core import Trigger
from headgate.batch.dispatcher import Dispatcher
from headgate.batch.driver import Tools
from headgate.batch.intake import Intake, check_new
from headgate.batch.pool import Pool
from headgate.batch.records import JobRecord, shown, stepped
from headgate.runtime.answers import Request
from headgate.runtime.bus import Handler
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.jobs import (
    CancelJob,
    DeadLettersReply,
    GetJob,
    GetMiniBatches,
    Job,
    JobReply,
    JobsReply,
    JobStatus,
    JobSubmitted,
    ListDeadLetters,
    ListJobs,
    MiniBatchesReply,
    PauseJob,
    RedriveDeadLetters,
    ResumeJob,
    SubmitJob,
)
from headgate_contracts.mini_batches import FilesReply, GetFiles, ReportMiniBatches, ReportsReply


@dataclass(frozen=True, slots=True)
class Handlers:
    """Everything the answers need, and one method per message."""

    tools: Tools
    intake: Intake
    dispatcher: Dispatcher
    pool: Pool

    def table(self) -> Mapping[Request, Handler]:
        """Which message is answered by which method."""
        return {
            SubmitJob: self.submit,
            CancelJob: self.cancel,
            PauseJob: self.pause,
            ResumeJob: self.resume,
            RedriveDeadLetters: self.redrive,
            GetJob: self.get,
            ListJobs: self.list_all,
            ListDeadLetters: self.list_dead_letters,
            GetMiniBatches: self.get_mini_batches,
            GetFiles: self.get_files,
            ReportMiniBatches: self.report,
        }

    # --- commands ------------------------------------------------------------------------------

    async def submit(self, command: SubmitJob) -> JobReply:
        if command.repeat_id:
            async with self.tools.database.reading() as session:
                found = await self._repeated(session, command)
            if found is not None:
                return JobReply(job=self._shown(found))
        await check_new(self.tools.database, command.workspace, command.name)
        job = await self.intake.job(command)
        async with self.tools.database.transaction() as session:
            found = await self._repeated(session, command)
            if found is not None:  # the same came twice at once
                return JobReply(job=self._shown(found))
            if await state.named(session, job.workspace, job.name) is not None:
                raise HeadgateError(
                    ErrorCode.RESOURCE_EXISTS, f"there is a job {job.name!r} already", target="name"
                )
            await state.add_job(session, job)
            self.tools.outbox.add(session, [JobSubmitted(**job.about)], cause=command.id)
        self._announce(job.id)
        return JobReply(job=self._shown(job), created=True)

    async def _repeated(self, session: AsyncSession, command: SubmitJob) -> JobRecord | None:
        if not command.repeat_id:
            return None
        return await state.repeated(session, command.workspace, command.endpoint, command.repeat_id)

    async def cancel(self, command: CancelJob) -> JobReply:
        return await self._change(command, Trigger.CANCEL)

    async def pause(self, command: PauseJob) -> JobReply:
        return await self._change(command, Trigger.PAUSE)

    async def _change(self, command: CancelJob | PauseJob, trigger: Trigger) -> JobReply:
        async with self.tools.database.transaction() as session:
            job = await self._named(session, command.workspace, command.name)
            if trigger is Trigger.CANCEL and (
                job.status.is_final or job.status is JobStatus.CANCEL_REQUESTED
            ):
                return JobReply(job=self._shown(job))
            core.asked_to(job.name, job.status, trigger)
            step = stepped(job, trigger, self.tools.clock.now())
            assert step is not None
            await state.save_job(session, step.job)
            self.tools.outbox.add(session, [step.event], cause=command.id)
        self._announce(job.id)
        return JobReply(job=self._shown(step.job))

    async def resume(self, command: ResumeJob) -> JobReply:
        """Everything that is not committed is run, whatever became of it before."""
        return await self._again(command, ())

    async def redrive(self, command: RedriveDeadLetters) -> JobReply:
        async with self.tools.database.reading() as session:
            job = await self._named(session, command.workspace, command.name)
            await redriving.counted(session, job, command.numbers)
        if job.status is not JobStatus.COMPLETED:
            return await self._again(command, command.numbers)
        await check_new(self.tools.database, command.workspace)
        made = await redriving.successor(self.intake, job, command)
        async with self.tools.database.transaction() as session:
            made = await redriving.begin(session, made, job, command.numbers)
            self.tools.outbox.add(session, [JobSubmitted(**made.about)], cause=command.id)
        self._announce(made.id)
        return JobReply(job=self._shown(made), created=True)

    async def _again(
        self, command: ResumeJob | RedriveDeadLetters, numbers: tuple[int, ...]
    ) -> JobReply:
        async with self.tools.database.transaction() as session:
            job = await self._named(session, command.workspace, command.name)
            is_redrive = isinstance(command, RedriveDeadLetters)
            if not job.has_parts:
                raise HeadgateError(
                    ErrorCode.RESOURCE_CONFLICT,
                    f"the job {job.name!r} is {job.status.value}, and what it was made of is not "
                    "kept any more; submit a new job",
                )
            if not (is_redrive and job.status.wants_nodes):
                core.asked_to(job.name, job.status, Trigger.RESUME)
            count, items = await state.count_dead(session, job.id, numbers)
            await state.revive(session, job.id, numbers)
            counts = job.counts.model_copy(
                update={
                    "settled": job.counts.settled - count,
                    "failed_mini_batches": job.counts.failed_mini_batches - count,
                    "failed": job.counts.failed - items,
                }
            )
            job = replace(job, counts=counts)
            step = stepped(job, Trigger.RESUME, self.tools.clock.now())
            await state.save_job(session, step.job if step else job.changed(epoch=job.epoch + 1))
            if step is not None:
                # What a node had in hand when the job ended was not counted, and is not queued.
                await state.unqueue(session, job.id)
                self.tools.outbox.add(session, [step.event], cause=command.id)
                job = step.job
        self._announce(job.id)
        return JobReply(job=self._shown(job))

    async def report(self, command: ReportMiniBatches) -> ReportsReply:
        """Settle what is news, in one transaction for all."""
        counted = [False] * len(command.reports)
        ended: list[str] = []
        touched: list[settling.Outcome] = []
        async with self.tools.database.transaction() as session:
            for job_id, places in settling.grouped(command.reports).items():
                reports = [command.reports[place] for place in places]
                now = self.tools.clock.now()
                outcome = await settling.settle(session, job_id, reports, now)
                for place, did_count in zip(places, outcome.counted, strict=True):
                    counted[place] = did_count
                if outcome.job is None or not outcome.job.status.wants_nodes:
                    ended.append(job_id)
                self.tools.outbox.add(session, outcome.events, cause=command.id)
                touched.append(outcome)
        self.tools.outbox.wake()
        for outcome in touched:
            if outcome.job is not None:
                self.dispatcher.note_settled(outcome.job.id, outcome.job.counts.settled)
                self.dispatcher.wake(outcome.job.id)
                if not outcome.job.status.wants_nodes:
                    self.pool.hint()
        return ReportsReply(counted=tuple(counted), ended=tuple(ended))

    # --- queries -------------------------------------------------------------------------------

    async def get(self, query: GetJob) -> JobReply:
        async with self.tools.database.reading() as session:
            job = await self._named(session, query.workspace, query.name)
        return JobReply(job=self._shown(job))

    async def list_all(self, query: ListJobs) -> JobsReply:
        async with self.tools.database.reading() as session:
            before = None
            if query.after:
                before = await self._named(session, query.workspace, query.after)
            found = await state.jobs(
                session,
                query.workspace,
                query.endpoint,
                query.deployment,
                before,
                query.limit + 1,
            )
        page = found[: query.limit]
        after = page[-1].name if len(found) > query.limit else ""
        return JobsReply(jobs=tuple(self._shown(job) for job in page), after=after)

    async def list_dead_letters(self, query: ListDeadLetters) -> DeadLettersReply:
        async with self.tools.database.reading() as session:
            job = await self._named(session, query.workspace, query.name)
            found = await state.dead_letters(session, job.id, query.after, query.limit + 1)
        page = tuple(found[: query.limit])
        after = page[-1].number if len(found) > query.limit else None
        return DeadLettersReply(dead_letters=page, after=after)

    async def get_mini_batches(self, query: GetMiniBatches) -> MiniBatchesReply:
        async with self.tools.database.reading() as session:
            job = await self._named(session, query.workspace, query.name)
            until = job.counts.mini_batches
            if query.count:
                until = min(until, query.first + query.count)
            size = core.group_size(until - query.first, query.groups)
            found = await grouping.counted(session, job.id, query.first, until, size)
        return MiniBatchesReply(size=size, groups=core.groups_of(query.first, size, found))

    async def get_files(self, query: GetFiles) -> FilesReply:
        async with self.tools.database.reading() as session:
            files = await state.files_of(session, query.job, query.number)
        if files is None:
            raise HeadgateError(ErrorCode.RESOURCE_NOT_FOUND, "there is no such mini-batch")
        return FilesReply(files=files)

    # --- small things --------------------------------------------------------------------------

    async def _named(self, session: AsyncSession, workspace: str, name: str) -> JobRecord:
        job = await state.named(session, workspace, name)
        if job is None:
            raise HeadgateError(
                ErrorCode.RESOURCE_NOT_FOUND,
                f"there is no job {name[:80]!r} in this workspace",
                target="job",
            )
        return job

    def _shown(self, job: JobRecord) -> Job:
        return shown(job, nodes=self.pool.nodes.get(job.id, 0), per_s=self.dispatcher.per_s(job.id))

    def _announce(self, job_id: str) -> None:
        self.tools.outbox.wake()
        self.dispatcher.wake(job_id)
        self.pool.hint()
