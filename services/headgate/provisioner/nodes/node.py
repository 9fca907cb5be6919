"""The life of one instance: prepared, started, handed from job to job, watched until it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from headgate.provisioner.building import Journal
from headgate.provisioner.capacity import NOTHING, Key, Ledger, Room, Size, fits, shortage
from headgate.provisioner.drivers import Exit, Launch, Running
from headgate.provisioner.drivers.both import Drivers
from headgate.provisioner.nodes.agent import Agent
from headgate.provisioner.nodes.channel import listening
from headgate.provisioner.nodes.crew import Crew
from headgate.provisioner.nodes.log_files import LogFiles
from headgate.provisioner.nodes.reporting import Reporter
from headgate.provisioner.nodes.shift import Shift
from headgate.provisioner.nodes.standing import Standing
from headgate.provisioner.preparing import Prepared, Preparer
from headgate.provisioner.state import Recipe
from headgate.runtime import procs
from headgate.runtime.bus import Bus
from headgate.runtime.clock import Clock, short_id
from headgate.runtime.log import Log
from headgate.runtime.places import Places
from headgate.runtime.store import Store
from headgate_contracts.envelope import Event
from headgate_contracts.errors import ErrorCode, HeadgateError, WireError
from headgate_contracts.nodes import (
    IDLE,
    Node,
    NodeEnded,
    NodeReady,
    NodeSpec,
    NodeStarted,
    NodeState,
)
from headgate_contracts.resources import DeploymentSpec

T = TypeVar("T")
_LABEL_SPEC = "batch"
SETTLE_S = 10.0
_END_GRACE_S = 2.0

_log = Log("provisioner")


@dataclass(frozen=True, slots=True)
class Tools:
    """What every node is handled with."""

    bus: Bus
    clock: Clock
    driver: Drivers
    preparer: Preparer
    store: Store
    places: Places
    reporter: Reporter
    standing: Standing
    size: Callable[[str], Size]
    ledger: Ledger
    say: Callable[[Event], Awaitable[None]]

    def allowed(self, spec: NodeSpec) -> Size:
        """What a node may use, and takes. Raises HeadgateError for what never fits this machine."""
        if not spec.instance_type:
            return Size("", self.ledger.total, NOTHING)
        size = self.size(spec.instance_type)
        if not fits(size.counted, self.ledger.total):
            room = Room(self.ledger.total, sizes={spec.id: size})
            raise HeadgateError.of(shortage(room, spec.id, self.ledger.total, 0, 1))
        return size


class NodeLife:
    """One instance, from job to job. ``seen`` is what others are told of it.

    For each job, and for each time between two of them, it is a node with an id of its own, so that
    what it costs is told apart.
    """

    def __init__(self, spec: NodeSpec, tools: Tools) -> None:
        self.spec = spec
        self.instance = spec.id
        self._tools = tools
        self._crew: Crew | None = None
        self._shift: Shift | None = None
        self._new_shift: Callable[[NodeSpec], Shift] | None = None
        self._stop = asyncio.Event()
        self._released = asyncio.Event()
        self._grace_s = 0.0
        self._began_at: float | None = None
        self._failure: WireError | None = None
        self.seen = _node_of(spec, "preparing", tools.clock.now())
        self._task = asyncio.create_task(self._run())

    def now(self) -> Node:
        """What is known of it now."""
        crew = self._crew
        if crew is None:
            return self.seen
        return self.seen.model_copy(
            update={"processes": crew.processes, "was_ready": crew.was_ready}
        )

    def stop(self, grace_s: float) -> None:
        """End it soon; at once when it is said again without grace."""
        self._grace_s = grace_s
        self._stop.set()

    def release(self, grace_s: float) -> None:
        """Let go of its job, and be idle; end if what runs takes longer than ``grace_s``."""
        if self.seen.state in ("preparing", "starting"):
            self.stop(grace_s)
        elif self.seen.state == "running" and not self._stop.is_set():
            self._grace_s = grace_s
            self._released.set()

    async def take_over(self, spec: NodeSpec) -> bool:
        """Work for this job from now on; False when it is not idle, or of another kind."""
        is_idle = self.seen.state == "idle" and not self._stop.is_set()
        if not is_idle or spec.kind != self.spec.kind or self._new_shift is None:
            return False
        self._shift = self._new_shift(spec)
        await self._become(spec, "running")
        await self._say(NodeReady(**self._about()))
        return True

    async def ended(self) -> None:
        await asyncio.wait([self._task])

    async def abandon(self) -> None:
        """End it now, for the service ends."""
        self.stop(0.0)
        await self.ended()

    # --- the life ------------------------------------------------------------------------------

    async def _run(self) -> None:
        error: WireError | None = None
        try:
            await self._live()
            error = self._failure
        except HeadgateError as failure:
            error = failure.error
        except Exception as failure:
            _log.exception("node_failed", node=self.spec.id)
            text = f"the node could not be run: {failure!r}"
            error = WireError(code=ErrorCode.INTERNAL, message=text)
        self._tools.ledger.release(place_of(self.instance))
        now = self._tools.clock.now()
        self.seen = self.now().model_copy(
            update={"state": "ended", "error": error, "ended_at": now, "processes": 0}
        )
        if error is not None:
            _log.warning("node_ended", node=self.spec.id, error=error.message[:500])
        await self._say(self._end(now, error))
        await asyncio.to_thread(self._tools.standing.forget, self.spec.id)
        await asyncio.to_thread(self._tools.driver.remove, self.instance)

    async def _live(self) -> None:
        spec, tools = self.spec, self._tools
        allowed = tools.allowed(spec)
        if (prepared := await self._prepare()) is None:
            return
        work, seen = tools.driver.work_folder(self.instance, prepared.base)
        crew = self._crew = Crew(
            self.instance,
            spec.settings.max_concurrency_per_instance,
            on_ready=self._note_ready,
            on_failed=self._note_failure,
        )
        launch = Launch(
            instance=self.instance,
            endpoint=spec.deployment.endpoint_name,
            deployment=spec.deployment.name,
            spec=_LABEL_SPEC,
            base=prepared.base,
            code=prepared.code,
            capacity=1,
            token="",
            variables=prepared.variables,
            limits=allowed.limits if spec.instance_type else None,
            batch=_told(spec, seen),
            is_low_priority=spec.is_low_priority,
        )

        def shift(of: NodeSpec) -> Shift:
            bus, store, places = tools.bus, tools.store, tools.places
            agent = Agent(of, work, seen, bus, store, places, tools.reporter, crew)
            return Shift(of, agent, store, work, is_first=of is spec)

        self._new_shift = shift
        self.seen = self.seen.model_copy(update={"state": "starting"})
        async with listening(work, crew.serve):
            running = await tools.driver.start(launch)
            await self._note_start()
            self._shift = shift(spec)
            try:
                await self._work(running, crew)
            finally:
                await self._end_shift()
                await crew.close()

    async def _prepare(self) -> Prepared | None:
        """What it is started from; None when it is told to stop first."""
        spec, tools = self.spec, self._tools
        folder = tools.driver.folder(self.instance)
        journal = Journal(folder / "prepare.txt")
        shipper = LogFiles(tools.store, folder, f"{spec.logs}/logs/sys/node/{spec.id}")
        try:
            return await self._unless_stopped(tools.preparer.prepare_once(_recipe(spec), journal))
        finally:
            with contextlib.suppress(HeadgateError, OSError):
                await shipper.ship()

    async def _work(self, running: Running, crew: Crew) -> None:
        """From job to job, until it is told to stop or ends by itself."""
        driver = self._tools.driver
        ending = asyncio.create_task(driver.ended(running))
        stopping = asyncio.create_task(self._stop.wait())
        releasing = asyncio.create_task(self._released.wait())
        try:
            while not (ending.done() or stopping.done()):
                await asyncio.wait(
                    (ending, stopping, releasing), return_when=asyncio.FIRST_COMPLETED
                )
                if releasing.done():
                    await self._rest()
                    releasing = asyncio.create_task(self._released.wait())
            if not ending.done():
                self.seen = self.now().model_copy(update={"state": "stopping"})
                if self._shift is not None:
                    await self._shift.stop(self._grace_s)
                await crew.close()
                await asyncio.wait((ending,), timeout=_END_GRACE_S)
                await driver.stop(running, drain_s=0.0)
            exit_ = await ending
            if not self._stop.is_set():
                self._failure = _crash(self.spec, exit_)
                if self._shift is not None:
                    await self._shift.settle(SETTLE_S)
        finally:
            for task in (ending, stopping, releasing):
                task.cancel()
            await asyncio.gather(ending, stopping, releasing, return_exceptions=True)

    async def _rest(self) -> None:
        """Let go of the job, and be idle. If that takes too long, end."""
        self._released.clear()
        if self._stop.is_set() or self._shift is None:
            return
        self.seen = self.now().model_copy(update={"state": "stopping"})
        if not await self._unless_stopped(self._shift.stop(self._grace_s)):
            if not self._stop.is_set():
                self.stop(0.0)
            return
        await self._end_shift()
        about = {"id": short_id(), "job": IDLE, "job_name": f"{self.spec.compute} (idle)"}
        await self._become(self.spec.model_copy(update=about), "idle")

    async def _end_shift(self) -> None:
        shift, self._shift = self._shift, None
        if shift is not None:
            await shift.close()

    async def _unless_stopped(self, work: Awaitable[T]) -> T | None:
        """What comes of ``work``; None when the node is told to stop first."""
        task = asyncio.ensure_future(work)
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            for each in (task, stopping):
                each.cancel()
            await asyncio.gather(task, stopping, return_exceptions=True)

    async def _note_start(self) -> None:
        """From now on it costs."""
        spec, now = self.spec, self._tools.clock.now()
        self._began_at = now
        lost = WireError(
            code=ErrorCode.RESOURCE_NOT_READY, message="the node ended with the service that ran it"
        )
        await asyncio.to_thread(self._tools.standing.note, self._end(now, lost), now)
        await self._say(NodeStarted(**self._about(), instance_type=spec.instance_type))

    async def _become(self, spec: NodeSpec, state: NodeState) -> None:
        """The node of another job, or of none: what it has cost by now was the former one's."""
        now = self._tools.clock.now()
        ended = self._end(now, None)
        self.spec, self.seen = spec, _node_of(spec, state, now)
        _log.info("node_changed", instance=self.instance, node=spec.id, job=spec.job)
        await self._say(ended)
        await self._note_start()
        await asyncio.to_thread(self._tools.standing.forget, ended.node)

    def _end(self, now: float, error: WireError | None) -> NodeEnded:
        alive_s = now - self._began_at if self._began_at is not None else 0.0
        size = self.spec.instance_type
        return NodeEnded(**self._about(), alive_s=alive_s, instance_type=size, error=error)

    def _note_ready(self) -> None:
        self.seen = self.seen.model_copy(update={"state": "running"})
        self._announce = asyncio.create_task(self._say(NodeReady(**self._about())))

    def _note_failure(self, error: WireError) -> None:
        """Its processes cannot do their work: the node ends, and says why."""
        if self._failure is None:
            self._failure = error
            self.stop(0.0)

    def _about(self) -> dict[str, str]:
        spec = self.spec
        return {
            "workspace": spec.workspace,
            "job": spec.job,
            "node": spec.id,
            "job_name": spec.job_name,
            "endpoint": spec.deployment.endpoint_name,
            "deployment": spec.deployment.name,
        }

    async def _say(self, event: Event) -> None:
        try:
            await self._tools.say(event)
        except HeadgateError as error:
            _log.warning("event_lost", type=event.TYPE, error=str(error))


def _node_of(spec: NodeSpec, state: NodeState, now: float) -> Node:
    return Node(
        id=spec.id,
        job=spec.job,
        workspace=spec.workspace,
        state=state,
        started_at=now,
        compute=spec.compute,
        kind=spec.kind,
        job_name="" if spec.job == IDLE else spec.job_name,
        endpoint=spec.deployment.endpoint_name,
        deployment=spec.deployment.name,
    )


def place_of(instance: str) -> Key:
    """What an instance's room is booked for: no deployment can be called so."""
    return "", instance


def _told(spec: NodeSpec, seen: str) -> str:
    """What the node's parent process is told, as headgate_worker.batch reads it."""
    return json.dumps(
        {
            "id": spec.id,
            "folder": seen,
            "logging_level": spec.settings.logging_level,
            "keeps_rows": spec.settings.output_action == "append_row",
            "is_low_priority": spec.is_low_priority,
        }
    )


def _recipe(spec: NodeSpec) -> Recipe:
    """What is prepared for a node is what would be for an online deployment of the same."""
    given = spec.deployment
    deployment = DeploymentSpec(
        name=given.name,
        endpoint_name=given.endpoint_name,
        model=given.model,
        code_configuration=given.code_configuration,
        environment=given.environment,
        environment_variables=given.environment_variables,
    )
    return Recipe(
        deployment=deployment, code=spec.code, model=spec.model, environment=spec.environment
    )


def _crash(spec: NodeSpec, exit_: Exit) -> WireError:
    if exit_.out_of_memory is not None:
        limit = exit_.out_of_memory.limit_bytes
        return WireError(
            code=ErrorCode.OUT_OF_MEMORY,
            message=f"the node {spec.id} needed more than its {limit} bytes of memory",
        )
    status = "an unknown status" if exit_.status is None else procs.describe_exit(exit_.status)
    said = exit_.because or f"ended with {status}"
    return WireError(code=ErrorCode.RESOURCE_NOT_READY, message=f"the node {spec.id} {said}")
