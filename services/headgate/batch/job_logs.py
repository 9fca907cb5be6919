"""The log files that the dispatcher itself writes of a job, where Azure's users look for them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from headgate.batch import core, state
from headgate.batch.records import JobRecord
from headgate.runtime.log import Log
from headgate.runtime.store import Store
from headgate.runtime.tables import Database
from headgate_contracts.errors import HeadgateError
from headgate_contracts.jobs import JobCounts, JobStatus

EVERY_S = 2.0
ERRORS_MAX = 100
_BYTES_MAX = 1024 * 1024

_log = Log("batch")


class JobLogs:
    """``job_progress_overview.txt``, ``sys/master_role.txt`` and ``user/error.txt`` of one job."""

    def __init__(self, store: Store, database: Database) -> None:
        self._store = store
        self._database = database
        self._told: tuple[JobStatus, JobCounts] | None = None
        self._failed = -1
        self._at = 0.0

    async def tell(self, job: JobRecord, *, is_last: bool = False) -> None:
        """Write what is new, not too often; a store that fails holds up no job."""
        now = time.monotonic()
        is_new_status = self._told is None or self._told[0] is not job.status
        if not is_new_status and not is_last and now - self._at < EVERY_S:
            return
        if self._told == (job.status, job.counts) and not is_last:
            return
        self._at = now
        try:
            await self._write(job, is_new_status=is_new_status)
        except HeadgateError as error:
            _log.warning("job_log_not_written", job=job.name, error=str(error))
            return
        self._told = (job.status, job.counts)

    async def _write(self, job: JobRecord, *, is_new_status: bool) -> None:
        prefix = f"{job.logs}/logs"
        text = core.overview(job.name, job.status, job.counts)
        await self._store.put(f"{prefix}/job_progress_overview.txt", text.encode())
        if is_new_status:
            await self._append(f"{prefix}/sys/master_role.txt", _said(job))
        if job.counts.failed_mini_batches != self._failed:
            await self._write_errors(job, f"{prefix}/user/error.txt")
            self._failed = job.counts.failed_mini_batches

    async def _append(self, key: str, line: str) -> None:
        stored = b""
        if await self._store.exists(key):
            stored = await self._store.read(key, bytes_max=_BYTES_MAX)
        await self._store.put(key, (stored + line.encode())[-_BYTES_MAX:])

    async def _write_errors(self, job: JobRecord, key: str) -> None:
        async with self._database.reading() as session:
            found = await state.dead_letters(session, job.id, -1, ERRORS_MAX)
        if not found:
            return
        parts = [
            f"mini-batch {each.number} ({', '.join(each.files)}), {each.attempts} attempts, "
            f"node {each.node}:\n{each.error}\n"
            for each in found
        ]
        more = job.counts.failed_mini_batches - len(found)
        if more > 0:
            parts.append(f"and {more} more; `headgate job dead-letters` lists them all\n")
        await self._store.put(key, "\n".join(parts).encode())


def _said(job: JobRecord) -> str:
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    error = f": {job.error.code.value}: {job.error.message}" if job.error else ""
    return f"{at} job {job.name} is {job.status.value}{error}\n"
