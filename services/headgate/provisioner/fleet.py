"""The instances of one deployment: starts them, hears them, notices their end, remembers all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from headgate.provisioner import core, probes
from headgate.provisioner.capacity import Ledger, Size
from headgate.provisioner.drivers import Driver, Exit, Launch, Limits, Running
from headgate.provisioner.preparing import Prepared
from headgate.provisioner.shipping import Shipper
from headgate.provisioner.state import Key, Memory, Record
from headgate.provisioner.tokens import Tokens, lane_ids
from headgate.provisioner.values import (
    Backoff,
    Ending,
    EndKind,
    Observed,
    Rules,
    Start,
    State,
    Stop,
)
from headgate.runtime import procs
from headgate.runtime.bus import Bus
from headgate.runtime.clock import Clock, short_id
from headgate.runtime.log import Log
from headgate_contracts import limits, provisioning, subjects
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.scoring import Heartbeat, InstanceState

ENDED_KEPT = 10
_WATCH_RETRY_S = 1.0

_log = Log("provisioner")


@dataclass(frozen=True, slots=True)
class Tools:
    """What the instances of every deployment are handled with."""

    bus: Bus
    clock: Clock
    memory: Memory
    driver: Driver
    tokens: Tokens
    backoff: Backoff
    drain_s: float
    shipper: Shipper
    ledger: Ledger
    size: Callable[[str], Size]
    """What an instance type is on this machine; HeadgateError when there is none of the name."""


class Fleet:
    """``records`` are the facts; whenever one changes, ``changed`` is called."""

    def __init__(
        self,
        tools: Tools,
        key: Key,
        workspace: str,
        records: list[Record],
        changed: Callable[[], None],
    ) -> None:
        self.key = key
        self._workspace = workspace
        self.records = {record.id: record for record in records}
        self._tools = tools
        self._changed = changed
        self._running: dict[str, Running] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._ready_lanes: dict[str, set[str]] = {}
        self._heard_at: dict[str, float] = {}  # not in the records: it changes all the time
        self._tasks: set[asyncio.Task[None]] = set()
        self._saving = asyncio.Lock()

    def observed(self) -> list[Observed]:
        return [record.observed for record in self.records.values()]

    @property
    def running(self) -> list[Record]:
        return [self.records[i] for i in self._running if i in self.records]

    # --- acts ----------------------------------------------------------------------------------

    async def start(
        self,
        start: Start,
        prepared: Prepared,
        allowed: Limits | None = None,
        instance_type: str = "",
    ) -> bool:
        """Start an instance; False when it could not be, which is on its record then."""
        tools, instance = self._tools, short_id()
        launch = Launch(
            instance=instance,
            endpoint=self.key[0],
            deployment=self.key[1],
            spec=start.spec,
            base=prepared.base,
            code=prepared.code,
            capacity=prepared.capacity,
            token=tools.tokens.mint(*self.key, instance, prepared.lanes),
            variables=prepared.variables,
            collect=prepared.collect,
            egress=prepared.egress,
            model_mount_path=prepared.model_mount_path,
            limits=allowed,
        )
        now = tools.clock.monotonic()
        seen = Observed(instance, start.spec, start.slot, State.PENDING, now, start.failures)
        record = Record(*self.key, seen, lanes=prepared.lanes, started_wall=tools.clock.now())
        await tools.memory.remember_instance(record)  # before the process: it must have an owner
        self.records[instance] = record
        try:
            if prepared.target is not None:
                folder = await asyncio.to_thread(tools.shipper.open, instance, prepared.target)
                launch = replace(launch, collect_folder=folder)
            running = await tools.driver.start(launch)
        except (OSError, HeadgateError) as error:
            text = f"instance {instance} could not be started: {error}"
            await self._note_end(
                instance, Ending(EndKind.CRASH, ErrorCode.RESOURCE_NOT_READY, text)
            )
            return False
        self.records[instance] = replace(record, pid=running.pid, start=running.start).seen(
            state=State.STARTING
        )
        self._watch(running)
        _log.info("instance_started", **self._named(instance), pid=running.pid, slot=start.slot)
        event = provisioning.InstanceStarted(
            **self._about(instance),
            pid=running.pid,
            restarts=start.failures,
            instance_type=instance_type,
        )
        await self._save(instance, event)
        return True

    async def adopt(self, running: Running, instance_type: str = "") -> None:
        """Take over a process that an earlier run of this service started."""
        record = replace(self.records[running.instance], pid=running.pid, start=running.start)
        if record.observed.state is State.PENDING:
            record = record.seen(state=State.STARTING)
        self.records[running.instance] = record
        self._watch(running)
        _log.info("instance_adopted", **self._named(running.instance), pid=running.pid)
        event = provisioning.InstanceAdopted(
            **self._about(running.instance), pid=running.pid, instance_type=instance_type
        )
        await self._save(running.instance, event)
        if record.observed.state is State.STOPPING:
            self._end_process(running, record)

    async def bury(self, instance: str) -> None:
        """Note that an instance ended while nobody looked."""
        record = self.records[instance]
        if record.observed.state is State.PENDING:  # it was never started
            del self.records[instance]
            self._heard_at.pop(instance, None)
            await self._tools.memory.forget_instances([instance])
            await asyncio.to_thread(self._tools.driver.remove, instance)
        else:
            await self._note_end(instance, self._ending(record, Exit(None)))

    async def stop(self, stop: Stop) -> None:
        """Drain an instance, or kill it for a cause."""
        record = self.records[stop.instance].seen(state=State.STOPPING, ending=stop.because)
        self.records[stop.instance] = record
        if stop.because is not None:
            said = stop.because.message
            _log.warning("instance_killed", **self._named(stop.instance), because=said)
        running = self._running.get(stop.instance)
        if running is not None:
            self._end_process(running, record)
        await self._save(stop.instance)

    async def stop_all(self) -> None:
        """Drain every instance and wait until all have ended."""
        for record in self.running:
            if record.observed.state is not State.STOPPING:
                await self.stop(Stop(record.id))
        await asyncio.gather(*self._watching.values(), return_exceptions=True)

    async def close(self) -> None:
        """Look no more; the instances go on."""
        tasks = [*self._tasks, *self._watching.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def prune(self, specs: set[str]) -> None:
        """Forget instances that ended long ago, but for the last of each slot of ``specs``."""
        ended = [r for r in self.records.values() if r.observed.state is State.ENDED]
        ended.sort(key=lambda r: r.observed.ended_at or 0.0)
        kept = {r.id for r in ended[-ENDED_KEPT:]}
        last = {(r.observed.spec, r.observed.slot): r for r in ended if r.observed.spec in specs}
        kept |= {r.id for r in last.values()}
        dropped = [r.id for r in ended if r.id not in kept]
        await self._tools.memory.forget_instances(dropped)
        for instance in dropped:
            del self.records[instance]
            await asyncio.to_thread(self._tools.driver.remove, instance)

    # --- facts ---------------------------------------------------------------------------------

    def hear(self, beat: Heartbeat) -> None:
        """A sign of life. An instance is ready when all of its lanes are."""
        instance = beat.instance.partition("-")[0]
        record = self.records.get(instance)
        if not (record and record.observed.state.is_live):
            return
        self._heard_at[instance] = self._tools.clock.monotonic()
        overdue_s, trouble = beat.overdue_ms / 1000, beat.trouble[: limits.ERROR_MESSAGE_CHARS_MAX]
        if (overdue_s, trouble) != (record.observed.overdue_s, record.observed.trouble):
            self.records[instance] = record = record.seen(overdue_s=overdue_s, trouble=trouble)
        self._tools.shipper.hear(instance, beat)
        if beat.state is InstanceState.STARTING and beat.error_message:
            place = beat.error_message[: limits.ERROR_MESSAGE_CHARS_MAX]
            self.records[instance] = record = record.seen(place=place)
        ready = self._ready_lanes.setdefault(instance, set())
        if beat.state is InstanceState.READY:
            ready.add(beat.instance)
        elif beat.state is InstanceState.STARTING:
            ready.discard(beat.instance)
        elif beat.state is InstanceState.DRAINING:
            # It drains without being asked by us: whoever asked wants it gone.
            self._spawn(self.stop(Stop(instance)))
            self._changed()
            return
        says_ready = len(ready) >= record.lanes
        if says_ready != record.observed.says_ready:
            self.records[instance] = record = record.seen(says_ready=says_ready)
        if not says_ready:
            return
        if record.observed.state is State.STARTING:
            self._note_ready(instance)
        elif record.observed.state is State.UNRESPONSIVE:
            self.records[instance] = record.seen(state=State.READY)
            _log.info("instance_responds", **self._named(instance))
            self._changed()

    def probe(self, rules: Rules, hearing_since: float) -> None:
        """Count the probes that are due; those that fail too often change what an instance is."""
        now = self._tools.clock.monotonic()
        for record in self.running:
            observed = replace(record.observed, heard_at=self._heard_at.get(record.id, 0.0))
            seen, failed = probes.look(observed, rules, hearing_since, now)
            self.records[record.id] = replace(record, observed=seen)
            for each in failed:
                _log.warning(
                    "probe_failed", **self._named(record.id), probe=each.kind, why=each.why
                )
                self._spawn(self._save(record.id, self._failure(record.id, each)))
                self._changed()
            if seen.state is State.UNREADY:
                self._spawn(self._withhold(record, limits.WITHHELD_S))
            if seen.state is not record.observed.state:
                _log.warning(f"instance_{seen.state.value}", **self._named(record.id))
                self._changed()
                if record.observed.state is State.UNREADY:
                    self._spawn(self._withhold(record, 0.0))
                    event = provisioning.InstanceRecovered(**self._about(record.id))
                    self._spawn(self._save(record.id, event))

    def _failure(self, instance: str, failed: probes.Failed) -> provisioning.ProbeFailed:
        kind = (
            provisioning.LivenessProbeFailed
            if failed.kind == "liveness"
            else provisioning.ReadinessProbeFailed
        )
        return kind(
            **self._about(instance),
            failures=failed.failures,
            failure_threshold=failed.failure_threshold,
            reason=failed.why,
        )

    async def _withhold(self, record: Record, seconds: float) -> None:
        """Tell routers to leave an instance out that is not ready; said again at every look."""
        await self._say(record, InstanceState.UNREADY, withheld_s=seconds)

    def _note_ready(self, instance: str) -> None:
        tools, record = self._tools, self.records[instance]
        startup_s = tools.clock.monotonic() - record.observed.started_at
        self.records[instance] = replace(
            record.seen(state=State.READY), ready_wall=tools.clock.now()
        )
        self._changed()
        _log.info("instance_ready", **self._named(instance), startup_s=round(startup_s, 3))
        event = provisioning.InstanceReady(**self._about(instance), startup_s=startup_s)
        self._spawn(self._save(instance, event))

    def _watch(self, running: Running) -> None:
        self._running[running.instance] = running
        task = asyncio.create_task(self._await_end(running))
        self._watching[running.instance] = task

    async def _await_end(self, running: Running) -> None:
        while True:
            try:
                ended = await self._tools.driver.ended(running)
                break
            except OSError as error:  # out of descriptors, perhaps
                _log.error("watch_failed", **self._named(running.instance), error=str(error))
                await asyncio.sleep(_WATCH_RETRY_S)
        # First of all: routers hand the requests of this instance to another one.
        await self._say(self.records[running.instance], InstanceState.LOST)
        del self._running[running.instance], self._watching[running.instance]
        ending = self._ending(self.records[running.instance], ended)
        await self._note_end(running.instance, ending)

    def _ending(self, record: Record, ended: Exit) -> Ending:
        if record.observed.ending is not None:
            return record.observed.ending
        if record.observed.state is State.STOPPING and not ended.because:
            stopped = f"instance {record.id} was stopped"
            return Ending(EndKind.ASKED, ErrorCode.OPERATION_CANCELED, stopped)
        words, described = ended.last_words, "an unknown exit status"
        if ended.status is not None:
            described = procs.describe_exit(ended.status)
        said = (words.code, words.message) if words else None
        return core.ending_of(
            ended.status, said, described, record.id, ended.because, ended.out_of_memory
        )

    async def _note_end(self, instance: str, ending: Ending) -> None:
        tools = self._tools
        now = tools.clock.monotonic()
        record = self.records[instance].seen(state=State.ENDED, ended_at=now, ending=ending)
        self.records[instance] = replace(record, ended_wall=tools.clock.now())
        self._ready_lanes.pop(instance, None)
        self._changed()
        _log.info(
            "instance_ended", **self._named(instance), why=ending.kind.value, said=ending.message
        )
        about = self._about(instance)
        if ending.kind is EndKind.ASKED:
            await self._save(instance, provisioning.InstanceStopped(**about))
            return
        due_at, _ = core.restart_of(record.observed, tools.backoff)
        lost = provisioning.InstanceLost(
            **about,
            reason=ending.message[: limits.ERROR_MESSAGE_CHARS_MAX],
            restart_in_s=max(0.0, due_at - now),
        )
        await self._save(instance, lost)

    async def _say(self, record: Record, state: InstanceState, **more: Any) -> None:
        """Something about an instance that it does not say itself."""
        for lane in lane_ids(record.id, record.lanes):
            beat = Heartbeat(
                endpoint=self.key[0],
                deployment=self.key[1],
                instance=lane,
                state=state,
                spec=record.observed.spec,
                pid=record.pid,
                **more,
            ).stamped(id=short_id(), at=self._tools.clock.now())
            # Without the bus nobody can hear it, and routers miss the beats anyway.
            with contextlib.suppress(Exception):
                await self._tools.bus.publish(
                    subjects.heartbeat(*self.key, lane), beat.model_dump_json().encode()
                )

    # --- small things --------------------------------------------------------------------------

    async def _save(self, instance: str, *events: provisioning.InstanceEvent) -> None:
        """Writes what the record says by the time of writing, so the last write is the latest."""
        async with self._saving:
            if instance in self.records:
                await self._tools.memory.remember_instance(self.records[instance], *events)

    def _end_process(self, running: Running, record: Record) -> None:
        drain_s = self._tools.drain_s if record.observed.ending is None else 0.0
        self._spawn(self._tools.driver.stop(running, drain_s=drain_s))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._note_done)

    def _note_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task_failed", deployment="/".join(self.key), error=repr(error))
            self._changed()

    def _about(self, instance: str) -> dict[str, str]:
        named = {"endpoint": self.key[0], "deployment": self.key[1], "instance": instance}
        return {"workspace": self._workspace, **named, "spec": self.records[instance].observed.spec}

    def _named(self, instance: str) -> dict[str, str]:
        return {"deployment": "/".join(self.key), "instance": instance}
