"""Shares nodes between jobs, compute by compute, and lets them go when nobody needs them.

Level-triggered: what runs is asked of the provisioner; what should run follows from the jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from headgate.batch import core, state, warm
from headgate.batch.computes import Computes, Place
from headgate.batch.core import Claim, Trigger
from headgate.batch.driver import Tools
from headgate.batch.line import Line
from headgate.batch.records import JobRecord
from headgate.runtime.bus import Bus, Msg
from headgate.runtime.clock import short_id
from headgate.runtime.log import Log
from headgate_contracts import subjects
from headgate_contracts.envelope import Done
from headgate_contracts.errors import Blame, ErrorCode, HeadgateError, WireError
from headgate_contracts.jobs import JobStatus
from headgate_contracts.nodes import (
    ListNodes,
    Node,
    NodeSpec,
    NodesReply,
    ReleaseNode,
    StartNode,
    StopNode,
)
from headgate_contracts.provisioning import CapacityReply, GetCapacity

LOOK_S = 1.0
ROOM_RETRY_S = 5.0
CANCEL_GRACE_S = 10.0
# A node that is to stay has to hear first that its last reports have been stored.
RELEASE_GRACE_S = 10.0
SHRINK_GRACE_S = 60.0
# A node that is to stay is waited for before another of its kind is started: a start takes longer.
LEAVING_S = 5.0
# So many nodes of a job may end one after the other without a single mini-batch in between.
FAILURES_MAX = 5
_BACKOFF_FIRST_S = 1.0
_BACKOFF_MAX_S = 60.0
_GOING = ("idle", "stopping")  # states of nodes whose room is free soon, if somebody waits for it

_log = Log("batch")


@dataclass(slots=True)
class Served:
    """What a job has had of its compute, and how its nodes have fared."""

    node_s: float = 0.0
    failures: int = 0
    settled: int = 0
    not_before: float = 0.0
    stopping: set[str] = field(default_factory=set)


class Pool:
    """All nodes of all jobs."""

    def __init__(self, bus: Bus, tools: Tools, wake: Callable[[str], None]) -> None:
        """``wake`` tells a job's driver that its status has changed."""
        self._bus = bus
        self._tools = tools
        self._wake = wake
        self._woken = tools.moved
        self._served: dict[str, Served] = {}
        self._line = Line(bus, tools.clock)
        self._looked_at: float | None = None
        self._local_max = 0
        self._idle: list[Node] = []  # that no job has taken since the last look
        self._leaving: list[Node] = []  # that are about to be idle, and not yet waited for
        self._released: dict[str, float] = {}  # when those were let go, by their ids
        self._there: Counter[Place] = Counter()  # nodes that have not ended, whatever they do
        self._most: dict[Place, int] = {}  # nodes that computes may have
        self._computes = Computes(bus, tools.clock)
        self.nodes: Mapping[str, int] = {}
        """How many nodes work on each job, by its id."""

    def hint(self) -> None:
        """Look soon: a job was made, or a node has started or ended."""
        self._woken.set()

    async def listen(self) -> None:
        """Hear of nodes as they start and end."""

        async def heard(_: Msg) -> None:
            self.hint()

        await self._bus.subscribe(subjects.events_of("node"), heard)

    async def run(self) -> None:
        """Look for ever."""
        while True:
            self._woken.clear()
            try:
                await self.look()
            except HeadgateError as error:
                _log.warning("pool_waits", error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._woken.wait()
                    await asyncio.sleep(0.02)  # hints come in groups

    async def look(self) -> None:
        """Compare what runs with what should, and order the difference."""
        found = (await self._bus.ask(ListNodes(), NodesReply)).nodes
        async with self._tools.database.reading() as session:
            jobs = {job.id: job for job in await state.active_jobs(session)}
        await self._computes.look({_place(node) for node in found if node.compute})
        self._idle = [node for node in found if node.state == "idle"]
        self._there = Counter(_place(node) for node in found if node.state != "ended")
        by_job: dict[str, list[Node]] = {}
        for node in found:
            if node.state != "idle":
                by_job.setdefault(node.job, []).append(node)
        self._count_served(by_job)
        for job_id, nodes in by_job.items():
            job = jobs.get(job_id)
            if job is not None and job.status.wants_nodes:
                jobs[job_id] = await self._judge(job, nodes)
        given = await self._share(jobs.values())
        lacking: dict[str, int] = {}
        for job_id in {*by_job, *jobs}:
            job, nodes = jobs.get(job_id), by_job.get(job_id, [])
            lacking[job_id] = await self._adjust(job, nodes, given.get(job_id, 0))
        self._note_leaving(found)
        alive = [node for node in found if node.state != "ended"]
        await self._start_all(jobs, lacking, alive)
        await self._end_idle(jobs.values(), given)
        self.nodes = {
            job_id: sum(node.state != "ended" for node in nodes) for job_id, nodes in by_job.items()
        }
        for gone in set(self._served) - set(jobs) - set(by_job):
            del self._served[gone]

    def _count_served(self, by_job: Mapping[str, Sequence[Node]]) -> None:
        now = self._tools.clock.monotonic()
        passed_s = now - self._looked_at if self._looked_at is not None else 0.0
        self._looked_at = now
        for job_id, nodes in by_job.items():
            alive = sum(node.state != "ended" for node in nodes)
            self._of(job_id).node_s += passed_s * alive

    def _of(self, job_id: str) -> Served:
        return self._served.setdefault(job_id, Served())

    # --- what became of nodes ------------------------------------------------------------------

    async def _judge(self, job: JobRecord, nodes: Sequence[Node]) -> JobRecord:
        """What nodes that are ready, or have ended, mean for their job."""
        served = self._of(job.id)
        if job.counts.settled > served.settled:
            served.settled, served.failures = job.counts.settled, 0
        if any(node.was_ready for node in nodes) and job.status is not JobStatus.RUNNING:
            job = await self._step(job, Trigger.NODE_READY)
        for node in nodes:
            if node.state != "ended" or node.id in served.stopping:
                continue
            if node.error is not None:
                job = await self._judge_failure(job, node, node.error)
        return job

    async def _judge_failure(self, job: JobRecord, node: Node, error: WireError) -> JobRecord:
        served = self._of(job.id)
        served.failures += 1
        wait_s = min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2 ** (served.failures - 1))
        served.not_before = self._tools.clock.monotonic() + wait_s
        _log.warning("node_failed", job=job.name, node=node.id, error=error.message[:300])
        is_the_jobs_fault = error.blame is Blame.CALLER and not node.was_ready
        if is_the_jobs_fault and error.code is not ErrorCode.RESOURCE_NOT_READY:
            return await self._step(job, Trigger.FAIL, error)
        if served.failures < FAILURES_MAX:
            return job
        failure = WireError(
            code=ErrorCode.NODES_FAILED,
            message=f"{served.failures} nodes ended one after the other, and no mini-batch was "
            f"settled in between; the last one said: {error.message}",
        )
        return await self._step(job, Trigger.FAIL, failure)

    async def _step(
        self, job: JobRecord, trigger: Trigger, error: WireError | None = None
    ) -> JobRecord:
        after = await self._tools.step(job.id, trigger, error)
        self._wake(job.id)
        return after or job

    # --- who gets how many ---------------------------------------------------------------------

    async def _share(self, jobs: Iterable[JobRecord]) -> dict[str, int]:
        groups: dict[Place, list[JobRecord]] = {}
        for job in jobs:
            if job.status.wants_nodes:
                place = (job.workspace, job.document.compute) if job.document.compute else ("", "")
                groups.setdefault(place, []).append(job)
        given: dict[str, int] = {}
        self._most = {}
        for place, members in groups.items():
            self._welcome(members)
            total = await self._total(place[1], members)
            if place[1]:  # a compute may have grown since its jobs came
                now = self._computes.get(place)
                self._most[place] = max(total, now.max_instances if now else 0)
            given |= core.shares(total, [self._claim(job) for job in members])
        return given

    def _welcome(self, members: Sequence[JobRecord]) -> None:
        """A job that is new has no claim to what the others have had before it came."""
        known = [self._served[job.id].node_s for job in members if job.id in self._served]
        for job in members:
            self._served.setdefault(job.id, Served(node_s=min(known, default=0.0)))

    def _claim(self, job: JobRecord) -> Claim:
        return Claim(
            job.id,
            core.wanted_nodes(job.settings, job.counts),
            job.settings.priority,
            self._of(job.id).node_s,
            job.created_at,
        )

    async def _total(self, compute: str, members: Sequence[JobRecord]) -> int:
        """How many nodes a compute may have; without one, as many as this machine has cores."""
        if compute:
            return max(job.document.instances_max or 1 for job in members)
        if not self._local_max:
            capacity = await self._bus.ask(GetCapacity(), CapacityReply)
            self._local_max = max(1, round(capacity.total.cores))
        return self._local_max

    # --- orders --------------------------------------------------------------------------------

    async def _adjust(self, job: JobRecord | None, nodes: Sequence[Node], share: int) -> int:
        """Let go of what a job has too many, forget what has ended; how many it lacks."""
        for node in nodes:
            if node.state == "ended":
                await self._stop(node, 0.0)
        served = self._of(job.id) if job else Served()
        alive = [n for n in nodes if n.state != "ended" and n.id not in served.stopping]
        if job is None or not job.status.wants_nodes:
            is_over = job is None or job.status is JobStatus.FINALIZING
            for node in nodes:
                if node.state not in ("ended", "stopping"):
                    await self._let_go(node, 0.0 if is_over else CANCEL_GRACE_S)
            if job is not None and job.status is JobStatus.CANCEL_REQUESTED and not nodes:
                await self._step(job, Trigger.NODES_GONE)
            return 0
        surplus = sorted(alive, key=lambda n: (n.was_ready, -n.started_at))[: len(alive) - share]
        for node in surplus if len(alive) > share else ():
            served.stopping.add(node.id)
            await self._let_go(node, _shrink_grace_s(job))
        return share - len(alive)

    async def _start_all(
        self, jobs: Mapping[str, JobRecord], lacking: Mapping[str, int], nodes: Sequence[Node]
    ) -> None:
        """Order what lacks. While a job waits for room that it can have, so do those behind it."""
        self._line.note(nodes)
        is_kept = False
        for job in self._line.ordered(job for job in jobs.values() if lacking[job.id] > 0):
            if is_kept and await self._line.takes_room(job):
                self._line.join(job.id)
                continue
            await self._start_some(job, lacking[job.id])
            if job.id in self._line:
                is_kept = await self._make_room(job, jobs, nodes)

    async def _make_room(
        self, job: JobRecord, jobs: Mapping[str, JobRecord], nodes: Sequence[Node]
    ) -> bool:
        """Let other jobs give way to one that waits; whether room is to be kept for it."""
        ending = await self._line.room_for(job, jobs, nodes)
        if ending is None:
            return False
        self._of(job.id).not_before = 0.0
        if any(n.state in _GOING or n.id in self._of(n.job).stopping for n in nodes):
            return True  # it is seen first what that is good for
        for node in (node for node in nodes if node.id in ending):
            other = jobs[node.job]
            _log.info("node_gives_way", node=node.id, job=other.name, to=job.name)
            self._of(other.id).stopping.add(node.id)
            await self._stop(node, _shrink_grace_s(other))
        return True

    async def _start_some(self, job: JobRecord, count: int) -> None:
        """Order nodes, idle ones if there are. What is about to be idle is waited for."""
        if self._tools.clock.monotonic() < self._of(job.id).not_before:
            return
        kind = warm.kind_of(job)
        for _ in range(count):
            idle = warm.chosen(self._idle, kind)
            soon = warm.chosen(self._leaving, kind) if idle is None else None
            if soon is not None:
                self._leaving.remove(soon)
            elif not await self._start(job, kind, idle):
                return

    def _is_full(self, job: JobRecord) -> bool:
        """Whether the job's compute has all its instances, those that are about to end included."""
        place = job.workspace, job.document.compute
        return place in self._most and self._there[place] >= self._most[place]

    async def _start(self, job: JobRecord, kind: str, idle: Node | None) -> bool:
        """Order a node, of ``idle`` if possible; False when there is no room for it now."""
        if idle is None and self._is_full(job):
            self._line.leave(job.id)  # it is not the machine that it waits for
            return False
        document = job.document
        node = NodeSpec(
            id=short_id(),
            job=job.id,
            job_name=job.name,
            workspace=job.workspace,
            deployment=document.deployment,
            code=document.code,
            model=document.model,
            environment=document.environment,
            settings=document.settings,
            input=document.from_place,
            parts=job.parts,
            logs=job.logs,
            instance_type=document.instance_type,
            is_low_priority=document.is_low_priority,
            compute=document.compute,
            kind=kind,
        )
        try:
            await self._bus.ask(StartNode(node=node, idle=idle.id if idle else ""), Done)
        except HeadgateError as error:
            if error.error.code not in (ErrorCode.OUT_OF_QUOTA, ErrorCode.QUOTA_EXCEEDED):
                raise
            _log.info("node_waits_for_room", job=job.name, why=error.error.message)
            in_the_way = warm.oldest(self._idle)
            if error.error.code is ErrorCode.OUT_OF_QUOTA:
                self._line.join(job.id)
            if in_the_way is not None:
                await self._end(in_the_way)
            wait_s = ROOM_RETRY_S if in_the_way is None else LOOK_S
            self._of(job.id).not_before = self._tools.clock.monotonic() + wait_s
            return False
        self._line.leave(job.id)
        if idle is not None:
            self._idle.remove(idle)
        else:
            self._there[job.workspace, document.compute] += 1
        if job.status is JobStatus.QUEUED:
            await self._step(job, Trigger.NODES_ORDERED)
        return True

    async def _stop(self, node: Node, grace_s: float) -> None:
        await self._bus.ask(StopNode(node=node.id, grace_s=grace_s), Done)

    # --- between two jobs ----------------------------------------------------------------------

    async def _let_go(self, node: Node, grace_s: float) -> None:
        """Its job does not need a node any more: it stays without one, or ends."""
        if warm.stays(node, self._computes.get(_place(node))):
            self._released.setdefault(node.id, self._tools.clock.monotonic())
            grace_s = max(grace_s, RELEASE_GRACE_S)
            await self._bus.ask(ReleaseNode(node=node.id, grace_s=grace_s), Done)
        else:
            await self._stop(node, grace_s)

    def _note_leaving(self, found: Sequence[Node]) -> None:
        """Which nodes are about to be idle, as far as one would wait for that."""
        ids, since = {node.id for node in found}, self._tools.clock.monotonic() - LEAVING_S
        self._released = {name: at for name, at in self._released.items() if name in ids}
        self._leaving = [node for node in found if self._released.get(node.id, 0.0) > since]

    async def _end_idle(self, jobs: Iterable[JobRecord], given: Mapping[str, int]) -> None:
        """End idle nodes whose time is over, or whose place is taken."""
        busy: Counter[Place] = Counter()
        for job in jobs:
            busy[job.workspace, job.document.compute] += given.get(job.id, 0)
        for place in self._computes.known({_place(node) for node in self._idle}):
            idle = [node for node in self._idle if _place(node) == place]
            now = self._tools.clock.now()
            for node in warm.surplus(idle, busy[place], self._computes.get(place), now):
                await self._end(node)

    async def _end(self, idle: Node) -> None:
        self._idle.remove(idle)
        await self._stop(idle, 0.0)


def _shrink_grace_s(job: JobRecord) -> float:
    return min(SHRINK_GRACE_S, float(job.settings.timeout_s))


def _place(node: Node) -> Place:
    return node.workspace, node.compute
