"""The jobs that wait for room of the machine, in the order in which they came."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from headgate.batch import rooming
from headgate.batch.records import JobRecord
from headgate.batch.rooming import Held, Waiting
from headgate.runtime.bus import Bus
from headgate.runtime.clock import Clock
from headgate_contracts.errors import Blame, HeadgateError
from headgate_contracts.nodes import Node
from headgate_contracts.provisioning import Amounts, CapacityReply, GetCapacity


class Line:
    """Who waits. What there is for them is asked of the provisioner."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._since: dict[str, float] = {}  # by job
        self._ready_since: dict[str, float] = {}  # by node
        self._sizes: dict[str, Amounts] = {}  # by instance type, for one look

    def note(self, found: Sequence[Node]) -> None:
        """Nodes as they are now: from when on they have worked."""
        now = self._clock.monotonic()
        self._sizes = {}
        self._ready_since = {
            node.id: self._ready_since.get(node.id, now) for node in found if node.was_ready
        }

    def join(self, job: str) -> None:
        self._since.setdefault(job, self._clock.monotonic())

    def leave(self, job: str) -> None:
        self._since.pop(job, None)

    def __contains__(self, job: str) -> bool:
        return job in self._since

    def ordered(self, hungry: Iterable[JobRecord]) -> list[JobRecord]:
        """Those that want nodes, as they get them; nobody else waits any more."""
        jobs = list(hungry)
        self._since = {job.id: self._since[job.id] for job in jobs if job.id in self._since}
        return sorted(jobs, key=self._place)

    def _place(self, job: JobRecord) -> tuple[float, float, float, str]:
        since = self._since.get(job.id, math.inf)
        return -job.settings.priority, since, job.created_at, job.id

    async def takes_room(self, job: JobRecord) -> bool:
        """Whether a node of the job's does; only those whose sizes are promises do."""
        return (await self._size(job.document.instance_type)) != rooming.NOTHING

    async def room_for(
        self, job: JobRecord, jobs: Mapping[str, JobRecord], nodes: Sequence[Node]
    ) -> list[str] | None:
        """Which of these nodes are to end for a job that waits.

        None: there would be no room for it even so, and what is free is not to be kept.
        """
        capacity = await self._capacity(job.document.instance_type)
        if capacity is None or capacity.each is None:
            return None
        held = [
            Held(
                node.id,
                other.id,
                other.settings.priority,
                await self._size(other.document.instance_type),
                self._worked_s(node),
            )
            for node in nodes
            if node.job != job.id and (other := jobs.get(node.job)) is not None
        ]
        count = sum(node.job == job.id for node in nodes)
        waiting = Waiting(job.settings.priority, capacity.each, count)
        free = capacity.total - capacity.taken
        if not rooming.can_be_helped(waiting, held, free):
            return None
        return rooming.giving_way(waiting, held, free)

    def _worked_s(self, node: Node) -> float | None:
        since = self._ready_since.get(node.id)
        return None if since is None else self._clock.monotonic() - since

    async def _size(self, instance_type: str) -> Amounts:
        if instance_type not in self._sizes:
            capacity = await self._capacity(instance_type)
            self._sizes[instance_type] = (capacity and capacity.each) or rooming.NOTHING
        return self._sizes[instance_type]

    async def _capacity(self, instance_type: str) -> CapacityReply | None:
        """What there is, and what a node of this type takes of it; None: there is no such type."""
        if not instance_type:
            return None
        try:
            return await self._bus.ask(GetCapacity(instance_type=instance_type), CapacityReply)
        except HeadgateError as error:
            if error.error.blame is not Blame.CALLER:
                raise
            return None
