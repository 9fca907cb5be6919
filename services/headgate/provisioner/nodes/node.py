"""The life of one node: prepared, started, watched until it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from headgate.provisioner.building import Journal
from headgate.provisioner.capacity import NOTHING, Key, Ledger, Room, Size, fits, shortage
from headgate.provisioner.drivers import Exit, Launch
from headgate.provisioner.drivers.both import Drivers
from headgate.provisioner.nodes.agent import Agent
from headgate.provisioner.nodes.channel import listening
from headgate.provisioner.nodes.log_files import LogFiles
from headgate.provisioner.nodes.reporting import Reporter
from headgate.provisioner.nodes.standing import Standing
from headgate.provisioner.preparing import Preparer
from headgate.provisioner.state import Recipe
from headgate.runtime import procs
from headgate.runtime.bus import Bus
from headgate.runtime.clock import Clock
from headgate.runtime.log import Log
from headgate.runtime.places import Places
from headgate.runtime.store import Store
from headgate_contracts.envelope import Event
from headgate_contracts.errors import ErrorCode, HeadgateError, WireError
from headgate_contracts.nodes import Node, NodeEnded, NodeReady, NodeSpec, NodeStarted
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
    """One node. ``seen`` is what others are told of it."""

    def __init__(self, spec: NodeSpec, tools: Tools) -> None:
        self.spec = spec
        self._tools = tools
        self._agent: Agent | None = None
        self._task = asyncio.create_task(self._run())
        self._ended = asyncio.Event()
        self._stop = asyncio.Event()
        self._grace_s = 0.0
        self._began_at: float | None = None
        self._failure: WireError | None = None
        self.seen = Node(
            id=spec.id,
            job=spec.job,
            workspace=spec.workspace,
            state="preparing",
            started_at=tools.clock.now(),
        )

    def now(self) -> Node:
        """What is known of it now."""
        agent = self._agent
        if agent is None:
            return self.seen
        return self.seen.model_copy(
            update={"processes": agent.processes, "was_ready": agent.was_ready}
        )

    def stop(self, grace_s: float) -> None:
        """End it soon; at once when it is said again without grace."""
        self._grace_s = grace_s
        self._stop.set()

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
        self._tools.ledger.release(place_of(self.spec))
        now = self._tools.clock.now()
        self.seen = self.now().model_copy(
            update={"state": "ended", "error": error, "ended_at": now, "processes": 0}
        )
        if error is not None:
            _log.warning("node_ended", node=self.spec.id, error=error.message[:500])
        alive_s = now - self._began_at if self._began_at is not None else 0.0
        await self._say(self._end(alive_s, error))
        await asyncio.to_thread(self._tools.standing.forget, self.spec.id)
        await asyncio.to_thread(self._tools.driver.remove, self.spec.id)

    async def _live(self) -> None:
        spec, tools = self.spec, self._tools
        allowed = tools.allowed(spec)
        folder = tools.driver.folder(spec.id)
        journal = Journal(folder / "prepare.txt")
        shipper_of_first = LogFiles(tools.store, folder, f"{spec.logs}/logs/sys/node/{spec.id}")
        try:
            prepared = await self._unless_stopped(
                tools.preparer.prepare_once(_recipe(spec), journal)
            )
        finally:
            with contextlib.suppress(HeadgateError, OSError):
                await shipper_of_first.ship()
        if prepared is None:
            return
        work, seen = tools.driver.work_folder(spec.id, prepared.base)
        agent = self._agent = Agent(
            spec,
            work,
            seen,
            tools.bus,
            tools.store,
            tools.places,
            tools.reporter,
            on_ready=self._note_ready,
            on_failed=self._note_failure,
        )
        launch = Launch(
            instance=spec.id,
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
        )
        shipper = LogFiles(tools.store, work / "logs", f"{spec.logs}/logs")
        self.seen = self.seen.model_copy(update={"state": "starting"})
        async with listening(work, agent.serve):
            running = await tools.driver.start(launch)
            await self._note_start()
            loops = [asyncio.create_task(loop) for loop in (agent.run(), shipper.run())]
            ending = asyncio.create_task(tools.driver.ended(running))
            stopping = asyncio.create_task(self._stop.wait())
            try:
                await asyncio.wait((ending, stopping), return_when=asyncio.FIRST_COMPLETED)
                if not ending.done():
                    self.seen = self.now().model_copy(update={"state": "stopping"})
                    await agent.stop(self._grace_s)
                    await asyncio.wait((ending,), timeout=_END_GRACE_S)
                    await tools.driver.stop(running, drain_s=0.0)
                exit_ = await ending
                if not self._stop.is_set():
                    self._failure = _crash(spec, exit_)
                    await agent.settle(SETTLE_S)
            finally:
                for task in (*loops, ending, stopping):
                    task.cancel()
                await asyncio.gather(*loops, ending, stopping, return_exceptions=True)
                await agent.close()
                await shipper.ship()

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
        await asyncio.to_thread(self._tools.standing.note, self._end(0.0, lost), now)
        await self._say(NodeStarted(**self._about(), instance_type=spec.instance_type))

    def _end(self, alive_s: float, error: WireError | None) -> NodeEnded:
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


def place_of(spec: NodeSpec) -> Key:
    """What a node's room is booked for: no deployment can be called so."""
    return "", spec.id


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
