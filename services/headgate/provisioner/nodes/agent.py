"""What a node does with the mini-batches of a job, from the queue to the report.

Inputs are staged ahead while processes compute. A time-out kills the process that has the
mini-batch and nothing else; its successor loads the script anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headgate.provisioner.nodes.crew import Crew, Process, Staged
from headgate.provisioner.nodes.queue import RETRY_S, Held, Queue
from headgate.provisioner.nodes.reporting import Reporter
from headgate.provisioner.nodes.staging import Stage, keep_files, keep_rows
from headgate.runtime.bus import Bus
from headgate.runtime.clock import short_id
from headgate.runtime.log import Log
from headgate.runtime.places import Places
from headgate.runtime.store import Store
from headgate_contracts import limits
from headgate_contracts.errors import Blame, HeadgateError
from headgate_contracts.mini_batches import (
    FilePart,
    FilesReply,
    GetFiles,
    MiniBatchReport,
    Task,
)
from headgate_contracts.nodes import NodeSpec

AHEAD_S = 1.0
AHEAD_MAX = 16  # mini-batches of each process
END_TOLD_S = 5.0

_log = Log("provisioner")


class Agent:
    """The work of one node for one job."""

    def __init__(
        self,
        spec: NodeSpec,
        folder: Path,
        seen: str,
        bus: Bus,
        store: Store,
        places: Places,
        reporter: Reporter,
        crew: Crew,
    ) -> None:
        """``folder`` is shared with the processes of ``crew``, who see it as ``seen``."""
        self._spec = spec
        self._folder = folder
        self._seen = seen
        self._bus = bus
        self._store = store
        self._reporter = reporter
        self._crew = crew
        self._queue = Queue(bus, spec.job)
        self._stage = Stage(folder, f"inputs-{spec.id}", places, spec.input)
        self._ahead = 0  # taken from the queue, and not yet with a process
        self._run_s = 1.0  # how long a mini-batch takes, by a moving average
        self._moved = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: set[Staged] = set()  # with a process, or to be reported
        self._busy = 0  # processes with a mini-batch
        self._stopping = False

    async def run(self) -> None:
        """Take mini-batches until told to stop."""
        await asyncio.gather(self._pull(), self._queue.keep_holding())

    async def stop(self, grace_s: float) -> bool:
        """Take no more, and let those that run end; whether all of them have."""
        self._stopping = True
        self._moved.set()
        while not self._crew.staged.empty():
            await self._give_back(self._crew.staged.get_nowait())
        return await self.settle(grace_s)

    async def settle(self, timeout_s: float) -> bool:
        """Wait until all that was begun is reported, but no longer than that; whether it is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._running:
                    self._moved.clear()
                    await self._moved.wait()
        return not self._running

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._queue.close()
        await self._stage.close()

    # --- from the queue to a process -----------------------------------------------------------

    @property
    def _depth(self) -> int:
        """How many mini-batches are taken ahead: work for a second, and no more than is needed."""
        return self._crew.count * min(AHEAD_MAX, max(1, round(AHEAD_S / self._run_s)))

    async def _pull(self) -> None:
        """Keep as many mini-batches staged as processes will want next."""
        while not self._stopping:
            self._moved.clear()
            room = self._depth - self._ahead
            if room <= self._depth // 2:  # taken in groups, which cost what one does
                await self._moved.wait()
                continue
            if taken := await self._queue.take(room):
                self._ahead += len(taken)
                self._spawn(self._prepare(taken))

    async def _prepare(self, taken: Sequence[Held]) -> None:
        """Stage some mini-batches and hand them to the processes."""
        staged = [
            Staged(held, f"{held.task.number:08d}-{held.task.attempt}-{short_id()}", self._give)
            for held in taken
        ]
        files, wrong = {}, {}
        for each in staged:
            try:
                files[each.key] = await self._files(each.held.task)
            except HeadgateError as error:
                wrong[each.key] = str(error)
        try:
            wrong |= await self._stage.stage(files)
        except HeadgateError as error:  # of the place as a whole
            wrong |= dict.fromkeys(files, str(error))
        for each in staged:
            if self._stopping:
                await self._give_back(each)
            elif each.key in wrong:
                self._note_taken()
                said = {"error": f"the input cannot be read: {wrong[each.key]}"}
                self._spawn(self._tell(each, "raised", said))
            else:
                each.paths = [self._stage.seen(each.key, part) for part in files[each.key]]
                self._crew.staged.put_nowait(each)

    async def _files(self, task: Task) -> Sequence[FilePart]:
        """The files of a mini-batch. A batch service that is away costs no attempt."""
        if task.files is not None:
            return task.files
        query = GetFiles(job=task.job, number=task.number)
        while True:
            try:
                return (await self._bus.ask(query, FilesReply)).files
            except HeadgateError as error:
                if error.error.blame is Blame.CALLER or self._stopping:
                    raise
            await asyncio.sleep(RETRY_S)

    def _note_taken(self) -> None:
        self._ahead -= 1
        self._moved.set()

    async def _give_back(self, staged: Staged) -> None:
        self._queue.held.discard(staged.held)
        await staged.held.give_back()
        self._stage.forget(staged.key)

    async def _give(self, process: Process, staged: Staged) -> None:
        """One mini-batch to one process, and what it says of it within the time allowed."""
        self._running.add(staged)
        self._note_taken()  # the next one is staged while this one runs
        timeout_s = self._spec.settings.timeout_s
        process.peer.send(
            {
                "key": staged.key,
                "items": staged.held.task.items,
                "files": [f"{self._seen}/{path}" for path in staged.paths],
            }
        )
        self._busy += 1
        try:
            async with asyncio.timeout(timeout_s):
                said, body = await process.peer.receive()
        except TimeoutError:
            self._crew.kill(process)
            error = f"run() took longer than the {timeout_s} s of retry_settings.timeout"
            self._spawn(self._tell(staged, "timed_out", {"error": error}))
            raise ConnectionError("killed") from None
        except ConnectionError:
            self._spawn(self._note_broken(staged, process.ended))
            raise
        finally:
            self._busy -= 1
        outcome = "done" if said.get("op") == "done" else "raised"
        self._run_s += 0.2 * (float(said.get("run_ms", 0.0)) / 1000 - self._run_s)
        self._run_s = max(self._run_s, 0.001)
        # The process goes on with the next one while this result is kept and reported.
        self._spawn(self._tell(staged, outcome, {**said, "body": body}))

    async def _note_broken(self, staged: Staged, ended: asyncio.Event) -> None:
        """Its process has gone. That counts as an attempt, unless the whole node has."""
        waits = [asyncio.ensure_future(event.wait()) for event in (ended, self._crew.parent_gone)]
        try:
            await asyncio.wait(waits, timeout=END_TOLD_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        if self._stopping:
            self._running.discard(staged)
            self._moved.set()
            await self._give_back(staged)
        elif ended.is_set():
            error = "the process ended while run() was at work"
            await self._tell(staged, "crashed", {"error": error})
        else:
            await self._tell(staged, "lost", {"error": "the node ended while run() was at work"})

    async def _tell(self, staged: Staged, outcome: str, said: dict[str, Any]) -> None:
        """Keep the result, report it, and only then take the mini-batch out of the queue."""
        task = staged.held.task
        self._stage.forget(staged.key, is_over=outcome in ("done", "raised"))
        about: dict[str, Any] = {
            "job": task.job,
            "number": task.number,
            "attempt": task.attempt,
            "node": self._spec.id,
            "outcome": outcome,
            "error": str(said.get("error", ""))[: limits.ERROR_MESSAGE_CHARS_MAX],
            "run_ms": float(said.get("run_ms", 0.0)),
        }
        if outcome == "done":
            try:
                about |= await self._kept(staged, said)
            except (HeadgateError, OSError, ValueError) as error:
                about |= {"outcome": "raised", "error": f"the result cannot be kept: {error}"}
        if not self._busy and self._crew.staged.empty():
            self._reporter.hurry()
        await self._reporter.tell(MiniBatchReport.model_validate(about))
        await staged.held.done()
        self._queue.held.discard(staged.held)
        self._running.discard(staged)
        self._moved.set()

    async def _kept(self, staged: Staged, said: dict[str, Any]) -> dict[str, Any]:
        """What the report says of a result, once it is where it stays."""
        kept: dict[str, Any] = {"returned": int(said.get("returned", 0))}
        done, key = self._folder / "done", f"{self._spec.parts}/{staged.key}"
        if said.get("rows_file"):
            kept["part"] = f"{key}.rows"
            await keep_rows(self._store, kept["part"], done, str(said["rows_file"]))
        else:
            kept["rows"] = said["body"].decode("utf-8", "replace")
        names = [str(name) for name in said.get("files") or ()]
        if len(names) > limits.BATCH_OUTPUT_FILES_MAX:
            raise ValueError(f"run() wrote more than {limits.BATCH_OUTPUT_FILES_MAX} files")
        if names:
            kept["files"] = await keep_files(self._store, key, done / staged.key, names)
        return kept

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(self._safely(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _safely(self, work: Any) -> None:
        try:
            await work
        except Exception:
            # What it held comes again once the queue has heard nothing of it for a while.
            _log.exception("mini_batch_dropped", node=self._spec.id)
