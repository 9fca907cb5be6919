"""Feeds the keepers: what the registry wants, what heartbeats say, what runs on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path

from pydantic import ValidationError

from headgate.provisioner.capacity import instances_max
from headgate.provisioner.drivers import Running
from headgate.provisioner.fleet import Tools
from headgate.provisioner.keeper import Keeper
from headgate.provisioner.preparing import Preparer
from headgate.provisioner.state import Desire, Key, Record
from headgate.provisioner.values import State
from headgate.runtime import tracing
from headgate.runtime.bus import Msg
from headgate.runtime.log import Log
from headgate_contracts import subjects
from headgate_contracts.errors import HeadgateError
from headgate_contracts.provisioning import Amounts, CapacityReply
from headgate_contracts.registry import DeploymentsReply, ListDeployments
from headgate_contracts.resources import Deployment
from headgate_contracts.scoring import Heartbeat, InstanceState

HOUSEKEEPING_S = 5.0
LOOK_TICKS = 5
LEFTOVER_GRACE_S = 5.0

_log = Log("provisioner")


class Reconciler:
    """All deployments of this machine."""

    def __init__(self, tools: Tools, preparer: Preparer, *, tick_s: float) -> None:
        self._tools = tools
        self._preparer = preparer
        self._tick_s = tick_s
        self._keepers: dict[Key, Keeper] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._hinted = asyncio.Event()
        self._provoked = ""  # the span that the last hint came from, if that was traced
        self._hearing_since: float | None = None
        self._registry_answers = True
        self.guests: Callable[[], set[str]] = set
        """Ids of processes that run here and are somebody else's: nodes of batch jobs."""

    def keepers(self) -> Sequence[Keeper]:
        return list(self._keepers.values())

    def keeper(self, key: Key) -> Keeper | None:
        return self._keepers.get(key)

    def folder(self, instance: str) -> Path:
        return self._tools.driver.folder(instance)

    def alive(self) -> set[str]:
        """Instances that have not ended, as far as we know."""
        return {
            record.id
            for keeper in self.keepers()
            for record in keeper.fleet.records.values()
            if record.observed.state is not State.ENDED
        }

    def capacity(self, instance_type: str) -> CapacityReply:
        """What there is for instances, and what of it is taken."""
        ledger = self._tools.ledger
        most, each = None, None
        if instance_type:
            size = self._tools.size(instance_type)
            most, each = instances_max(ledger.total, size), Amounts(**asdict(size.counted))
        return CapacityReply(
            total=Amounts(**asdict(ledger.total)),
            taken=Amounts(**asdict(ledger.taken)),
            instances_max=most,
            each=each,
        )

    # --- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take over what an earlier run left behind, then begin to listen."""
        running = {found.instance: found for found in await self._tools.driver.found()}
        records = await self._tools.memory.records()
        recipes = await self._tools.memory.recipes()
        now = self._tools.clock.monotonic()
        for desire in await self._tools.memory.desires():
            own = [_within(record, now) for record in records if record.key == desire.key]
            types = {
                version: recipe.deployment.instance_type
                for (key, version), recipe in recipes.items()
                if key == desire.key
            }
            keeper = self._keep(replace(desire, since=min(desire.since, now)), own, types)
            await keeper.take_over(running)
            keeper.claim()
        await self._end_strangers(self._unowned(running.values()))
        in_use = {(k.key, r.observed.spec) for k in self.keepers() for r in k.fleet.running}
        await self._preparer.sweep(in_use)
        bus = self._tools.bus
        await bus.subscribe(subjects.HEARTBEAT_ALL, self._hear)
        await bus.subscribe(subjects.events_of("deployment"), self._hint)
        bus.on_disconnect(self._go_deaf)
        bus.on_reconnect(self._listen_again)
        await bus.sync()
        self._hearing_since = now

    async def reconcile(self) -> None:
        """Look at the registry on every hint and every few seconds, for ever."""
        for key in self._keepers:
            self._run(key)
        for tick in itertools.count():
            # A hint that was lost is made up for by a look now and then.
            if self._hinted.is_set() or not self._registry_answers or tick % LOOK_TICKS == 0:
                self._hinted.clear()
                with self._traced():
                    await self._look()
            for keeper in self.keepers():
                keeper.tick(self._hearing_since)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._tick_s):
                    await self._hinted.wait()

    async def housekeeping(self) -> None:
        """Keep tokens fresh, and no process without an owner."""
        strangers: set[str] = set()
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            records = [record for keeper in self.keepers() for record in keeper.fleet.running]
            await self._tools.tokens.renew(self._tools.driver, records)
            unowned = self._unowned(await self._tools.driver.found())
            # Only if seen twice: what has just ended may be on its way out of /proc.
            await self._end_strangers([r for r in unowned if r.instance in strangers])
            strangers = {r.instance for r in unowned}

    async def stop(self, *, stop_instances: bool) -> None:
        """Let go of everything; with ``stop_instances`` also end it, requests finished first."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if stop_instances:
            await asyncio.gather(*(keeper.fleet.stop_all() for keeper in self.keepers()))
            await self._end_strangers(await self._tools.driver.found())
        for keeper in self.keepers():
            await keeper.close()
        await self._tools.driver.close(all_ended=stop_instances)

    # --- the registry --------------------------------------------------------------------------

    async def _look(self) -> None:
        """Compare the registry's deployments with our keepers; keep all when it is away."""
        try:
            reply = await self._tools.bus.ask(ListDeployments(), DeploymentsReply)
        except HeadgateError as error:
            if self._registry_answers:
                _log.warning("registry_away", error=str(error))
            self._registry_answers = False
            return
        self._registry_answers = True
        listed = {_key(deployment): deployment for deployment in reply.deployments}
        for key, deployment in listed.items():
            await self._want(key, deployment)
        for key in set(self._keepers) - set(listed):
            await self._keepers[key].vanish()

    async def _want(self, key: Key, deployment: Deployment) -> None:
        keeper = self._keepers.get(key)
        if keeper is not None:
            await keeper.want(deployment)
            return
        desire = Desire(deployment, since=self._tools.clock.monotonic())
        await self._tools.memory.remember_desire(desire)
        self._keep(desire, [], {})
        self._run(key)

    def _keep(self, desire: Desire, records: list[Record], types: Mapping[str, str]) -> Keeper:
        keeper = Keeper(self._tools, self._preparer, desire, records, types)
        self._keepers[desire.key] = keeper
        return keeper

    def _run(self, key: Key) -> None:
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._keep_until_gone(key))

    async def _keep_until_gone(self, key: Key) -> None:
        keeper = self._keepers[key]
        keeper.tick(self._hearing_since)
        await keeper.run()
        await keeper.close()
        await self._tools.memory.forget(key)
        del self._keepers[key], self._tasks[key]
        self._tools.ledger.release(key)
        for instance in keeper.fleet.records:
            await asyncio.to_thread(self._tools.driver.remove, instance)
        await self._preparer.forget(key)
        _log.info("deployment_gone", deployment="/".join(key))

    # --- the bus -------------------------------------------------------------------------------

    async def _hear(self, message: Msg) -> None:
        key = tuple(message.subject.split(".")[3:5])
        keeper = self._keepers.get((key[0], key[1])) if len(key) == 2 else None
        if keeper is None:
            return
        with contextlib.suppress(ValidationError):
            beat = Heartbeat.model_validate_json(message.data)
            if beat.state not in (InstanceState.LOST, InstanceState.UNREADY):  # our own words
                keeper.hear(beat)

    async def _hint(self, message: Msg) -> None:
        self._provoked = (message.headers or {}).get(tracing.EVENT_TRACEPARENT, "")
        self._hinted.set()

    def _traced(self) -> AbstractContextManager[object]:
        """A span, when what we look for was provoked within a trace."""
        provoked, self._provoked = tracing.parse(self._provoked), ""
        tracer = self._tools.bus.tracer
        if tracer is None or provoked is None or not provoked.is_sampled:
            return contextlib.nullcontext()
        return tracer.span("reconcile", "consumer", provoked)

    def _go_deaf(self) -> None:
        self._hearing_since = None

    async def _listen_again(self) -> None:
        self._hearing_since = self._tools.clock.monotonic()
        self._hinted.set()  # events may have passed by meanwhile

    # --- processes -----------------------------------------------------------------------------

    def _unowned(self, found: Iterable[Running]) -> list[Running]:
        owned = self.alive() | self.guests()
        return [running for running in found if running.instance not in owned]

    async def _end_strangers(self, strangers: Sequence[Running]) -> None:
        """End processes of ours that nobody owns: started in the moment of a crash."""
        for running in strangers:
            _log.warning("stranger_ended", instance=running.instance, pid=running.pid)
        await asyncio.gather(*(self._end(running) for running in strangers))

    async def _end(self, running: Running) -> None:
        await self._tools.driver.stop(running, drain_s=LEFTOVER_GRACE_S)
        await self._tools.driver.ended(running)
        await asyncio.to_thread(self._tools.driver.remove, running.instance)


def _within(record: Record, now: float) -> Record:
    """The record with no time in the future: when the machine restarts, its clock begins anew."""
    ended_at = record.observed.ended_at
    return record.seen(
        started_at=min(record.observed.started_at, now),
        ended_at=None if ended_at is None else min(ended_at, now),
    )


def _key(deployment: Deployment) -> Key:
    return (deployment.spec.endpoint_name, deployment.spec.name)
