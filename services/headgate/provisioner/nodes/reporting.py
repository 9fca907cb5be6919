"""Tells the batch service what became of mini-batches, in groups, until it has answered."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from headgate.runtime.bus import Bus
from headgate.runtime.log import Log
from headgate_contracts import limits
from headgate_contracts.errors import Blame, HeadgateError
from headgate_contracts.mini_batches import MiniBatchReport, ReportMiniBatches, ReportsReply

# A group costs a transaction, an event and a look at the job, however many reports are in it.
EVERY_S = 0.5
_RETRY_FIRST_S = 0.1
_RETRY_MAX_S = 2.0
_BYTES_MAX = 4 * 1024 * 1024

_log = Log("provisioner")


@dataclass(slots=True)
class _Waiting:
    report: MiniBatchReport
    told: asyncio.Future[bool]


class Reporter:
    """One for all nodes: the first report goes at once, the next ones gather for a moment."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._sent_at = 0.0
        self._waiting: list[_Waiting] = []
        self._woken = asyncio.Event()
        self._hurried = asyncio.Event()

    async def tell(self, report: MiniBatchReport) -> bool:
        """Return once the report is stored, or was not wanted any more: whether it counted."""
        waiting = _Waiting(report, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._woken.set()
        return await waiting.told

    def hurry(self) -> None:
        """Tell what there is now: a node has nothing to do until it is known."""
        self._hurried.set()

    async def run(self) -> None:
        """Tell for ever."""
        retry_s = _RETRY_FIRST_S
        while True:
            if not self._waiting:
                self._woken.clear()
                await self._woken.wait()
            await self._gather()
            group = self._group()
            command = ReportMiniBatches(reports=tuple(each.report for each in group))
            try:
                reply = await self._bus.ask(command, ReportsReply)
                counted = [*reply.counted, *[False] * len(group)]
            except HeadgateError as error:
                if error.error.blame is not Blame.CALLER:
                    _log.warning("reports_wait", count=len(group), error=str(error))
                    await asyncio.sleep(retry_s)
                    retry_s = min(2 * retry_s, _RETRY_MAX_S)
                    continue
                _log.error("reports_refused", count=len(group), error=str(error))
                counted = [False] * len(group)
            retry_s = _RETRY_FIRST_S
            del self._waiting[: len(group)]
            for each, did_count in zip(group, counted, strict=False):
                with contextlib.suppress(asyncio.InvalidStateError):
                    each.told.set_result(did_count)

    async def _gather(self) -> None:
        """Return when it is time for the next group."""
        wait_s = self._sent_at + EVERY_S - self._bus.clock.monotonic()
        if len(self._waiting) < limits.BATCH_REPORTS_MAX:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._hurried.wait()
        self._hurried.clear()
        self._sent_at = self._bus.clock.monotonic()

    def _group(self) -> list[_Waiting]:
        size_bytes, count = 0, 0
        for each in self._waiting[: limits.BATCH_REPORTS_MAX]:
            size_bytes += 2 * len(each.report.rows) + 200 * len(each.report.files) + 5_000
            if count and size_bytes > _BYTES_MAX:
                break
            count += 1
        return self._waiting[:count]
