"""Runs requests in batches: what has come while the model was busy goes through it together."""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Optional

from headgate_worker import failure, output
from headgate_worker.batching import Limits, Room, counted
from headgate_worker.execution import Deliver, SyncExecutor, ms_since
from headgate_worker.request import Answer, Request
from headgate_worker.scoring import Call, Scorer


class _Member(NamedTuple):
    """A request that is to be run; ``key`` says with which others, None: alone."""

    call: Call
    item: Any = None
    rows: int = 1
    key: Optional[tuple[int, Hashable]] = None


class BatchExecutor(SyncExecutor):
    """One batch at a time, cut from one inbox in the order of arrival."""

    def __init__(
        self, scorer: Scorer, deliver: Deliver, flush: Callable[[], None], limits: Limits
    ) -> None:
        super().__init__(scorer, deliver, flush)
        self._limits = limits
        self._room = Room(limits.max_rows)
        self._held: deque[_Member] = deque()  # at most one: it did not fit the last batch
        self._batch: Sequence[_Member] = ()
        self._figures = {"batches": 0, "batched_requests": 0, "batched_rows": 0}

    @property
    def room(self) -> int:  # type: ignore[override]  # it follows the requests' sizes
        return self._room.requests

    def figures(self) -> dict[str, int]:
        return self._figures

    def submit(self, request: Request) -> None:
        request.came_s = time.monotonic()
        super().submit(request)

    def overdue_ms(self, now_ms: float) -> float:
        deadlines = [member.call.request.deadline_ms for member in self._batch]
        return max(0.0, now_ms - min(deadlines, default=now_ms))

    def withdraw(self) -> list[Request]:
        left = super().withdraw()
        with suppress(IndexError):
            left.append(self._held.popleft().call.request)
        return left

    def serve(self) -> None:
        self._alarm.install()
        while batch := self._gather():
            self._batch = batch
            self._score_batch(batch)
            self._flush()
            self._batch = ()

    # -- cutting ------------------------------------------------------------------------------

    def _gather(self) -> list[_Member]:
        """The next batch; empty when there will be none."""
        batch = self._left_over()
        rows = batch[0].rows if batch else 0
        until_s = 0.0
        while not batch or (batch[0].key is not None and rows < self._limits.max_rows):
            request = self._take(until_s if batch else None)
            if request is None:
                break
            member = self._member(request)
            if member is None:
                continue
            if batch and (member.key != batch[0].key or rows + member.rows > self._limits.max_rows):
                self._held.append(member)
                break
            if not batch and self._limits.max_wait_s:
                until_s = self._patience_s(request)
            batch.append(member)
            rows += member.rows
        return batch

    def _left_over(self) -> list[_Member]:
        """What did not fit the last batch, if it is still wanted."""
        with suppress(IndexError):
            member = self._held.popleft()
            if not _unwanted(member.call.request):
                return [member]
            self._deliver(member.call.request, None)
        return []

    def _take(self, until_s: Optional[float]) -> Optional[Request]:
        """The next request, waited for at most that long; None if there is none, or at the end."""
        try:
            request = self.inbox.get(until_s)
        except queue.Empty:
            return None
        if request is None and until_s is not None:
            self.inbox.put(None)  # the end comes after this batch
        return request

    def _patience_s(self, request: Request) -> float:
        """Until when others are waited for: counted from its arrival, and never to its deadline."""
        now_s = time.monotonic()
        left_s = request.deadline_ms / 1e3 - now_s
        return min(request.came_s + self._limits.max_wait_s, now_s + left_s / 2)

    def _member(self, request: Request) -> Optional[_Member]:
        """The request as part of a batch; None when it is answered already."""
        if _unwanted(request):
            self._deliver(request, None)
            return None
        call = self._scorer.begin(request)
        if isinstance(call, Answer):
            self._deliver(request, call)
            return None
        if call.batched is None:
            return _Member(call)
        before = output.REQUEST.set(call.ids.request)
        try:
            with self._alarm:
                item = call.batched.item(call.inputs)
                rows = counted(call.batched.rows(item))
                key = (id(call.batched), call.batched.key(item))
        except BaseException as error:
            self._deliver(request, self._scorer.broken(call, error, 0.0))
            return None
        finally:
            output.REQUEST.reset(before)
        self._room.note(rows)
        return _Member(call, item, rows, key)

    # -- running ------------------------------------------------------------------------------

    def _score_batch(self, batch: Sequence[_Member]) -> None:
        if batch[0].key is None:
            answer = self._answer(batch[0].call)
            if answer is not None:
                self._deliver(batch[0].call.request, answer)
            return
        started = time.perf_counter()
        try:
            answers = self._together(batch)
        except BaseException as error:
            if len(batch) == 1:
                call, run_ms = batch[0].call, ms_since(started)
                self._deliver(call.request, self._scorer.broken(call, error, run_ms))
            else:
                self._one_by_one(batch, error)
            return
        run_ms = ms_since(started)
        for member, said in zip(batch, answers):
            self._settle(member.call, said, run_ms)

    def _together(self, batch: Sequence[_Member]) -> Sequence[Any]:
        """One call for all of them. Lines that it logs bear an id only if it is for one request."""
        figures = self._figures
        figures["batches"] += 1
        figures["batched_requests"] += len(batch)
        figures["batched_rows"] += sum(member.rows for member in batch)
        first = batch[0].call
        assert first.batched is not None
        before = output.REQUEST.set(first.ids.request if len(batch) == 1 else "-")
        try:
            with self._scorer.shared_context(), self._alarm:
                return first.batched.many([member.item for member in batch])
        finally:
            output.end_request()
            output.REQUEST.reset(before)

    def _one_by_one(self, batch: Sequence[_Member], error: BaseException) -> None:
        """A batch has failed as a whole: each request fails or succeeds by itself, once."""
        said = failure.describe(error, self._scorer.script.root)
        output.log("WARNING", f"a batch of {len(batch)} failed; now one by one: {said}", 2)
        for number, member in enumerate(batch):
            self._batch = batch[number:]
            if _unwanted(member.call.request):
                self._deliver(member.call.request, None)
            else:
                self._score_batch((member,))

    def _settle(self, call: Call, answer: Any, run_ms: float) -> None:
        before = output.REQUEST.set(call.ids.request)
        try:
            if isinstance(answer, BaseException):
                done = self._scorer.broken(call, answer, run_ms)
            else:
                done = self._scorer.complete(call, answer, run_ms)
        finally:
            output.REQUEST.reset(before)
        self._deliver(call.request, done)


def _unwanted(request: Request) -> bool:
    """Nobody waits for its answer any more."""
    return request.left or request.deadline_ms <= time.monotonic() * 1e3
