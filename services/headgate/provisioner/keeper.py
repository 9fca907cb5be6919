"""Keeps one deployment as it is wanted: asks the core what to do next, does it, and tells.

Each deployment has its own keeper with its own task, so that a slow build or a long drain of one
never holds up another.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from headgate.provisioner import capacity, core, fitting, logs
from headgate.provisioner.capacity import Room, Size
from headgate.provisioner.drivers import Running
from headgate.provisioner.fleet import Fleet, Tools
from headgate.provisioner.preparing import Prepared, Preparer
from headgate.provisioner.state import Desire, Key, Record
from headgate.provisioner.values import (
    Fail,
    Prepare,
    Report,
    Rule,
    Rules,
    Start,
    State,
    Stop,
    Version,
    Wanted,
)
from headgate.runtime.log import Log
from headgate_contracts.envelope import Done
from headgate_contracts.errors import Blame, ErrorDetail, HeadgateError, WireError
from headgate_contracts.registry import ReportDeployment
from headgate_contracts.resources import Deployment, DeploymentSpec, Probe, ProvisioningState
from headgate_contracts.scoring import Heartbeat

TICKS_AT_REST = 5  # whatever happens wakes a keeper; its look at every tick is for the rest
RETRY_FIRST_S = 0.5
RETRY_MAX_S = 30.0
FAILURE_LOG_LINES = 30
LAST_LINES = "LastLogLines"
FAILURE_LOG_CHARS = 3_000

_log = Log("provisioner")


class Keeper:
    """One deployment. ``step`` is its life; everything else only changes facts and wakes it."""

    def __init__(
        self,
        tools: Tools,
        preparer: Preparer,
        desire: Desire,
        records: list[Record],
        types: Mapping[str, str],
    ) -> None:
        """``types`` are the instance types of its versions, as far as they are on record."""
        self.desire = desire
        self.fleet = Fleet(tools, desire.key, desire.deployment.workspace, records, self.wake)
        self.gone = False
        self._types = dict(types)
        self._at_rest = False  # nothing to do, and nothing that only time would change
        self._ticks = 0
        self.hearing_since: float | None = None
        self._tools = tools
        self._preparer = preparer
        self._prepared: dict[str, Prepared] = {}
        self._preparing: dict[str, asyncio.Task[None]] = {}
        self._woken = asyncio.Event()
        self._report: Report | None = None
        self._told: ReportDeployment | None = None
        self._telling: asyncio.Task[None] | None = None

    @property
    def key(self) -> Key:
        return self.desire.key

    # --- facts ---------------------------------------------------------------------------------

    async def want(self, deployment: Deployment) -> None:
        """Take in what the registry says now."""
        old = self.desire.deployment
        if deployment == old:
            return
        changes: dict[str, Any] = {"deployment": deployment}
        if deployment.generation != old.generation:
            changes["since"] = self._tools.clock.monotonic()
        if deployment.created_at != old.created_at:  # another one of the same name
            changes |= {"serving": "", "settled": 0, "failed": 0, "error": None}
        await self._remember(replace(self.desire, **changes))
        self.wake()

    async def vanish(self) -> None:
        """The registry does not know this deployment any more."""
        state = ProvisioningState.DELETING
        await self.want(self.desire.deployment.model_copy(update={"provisioning_state": state}))

    async def take_over(self, running: dict[str, Running]) -> None:
        """Match what was on record when this service stopped with what runs now."""
        for record in list(self.fleet.records.values()):
            if record.observed.state is State.ENDED:
                continue
            if record.id in running:
                wanted = self.desire.deployment
                is_wanted = record.observed.spec == core.version_of(wanted)
                size = wanted.spec.instance_type if is_wanted else ""
                await self.fleet.adopt(running[record.id], size)
            else:
                await self.fleet.bury(record.id)

    def hear(self, beat: Heartbeat) -> None:
        self.fleet.hear(beat)

    def tick(self, hearing_since: float | None) -> None:
        """Time has passed. ``hearing_since``: since when beats are heard, None while deaf."""
        self.hearing_since = hearing_since
        if hearing_since is not None:
            self.fleet.probe(_rules(self.desire.deployment.spec), hearing_since)
        self._ticks += 1
        if not self._at_rest or self._ticks % TICKS_AT_REST == 0:
            self.wake()

    def wake(self) -> None:
        self._woken.set()

    # --- life ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Step whenever something happened, until the deployment is gone."""
        retry_s = RETRY_FIRST_S
        while not self.gone:
            self._woken.clear()
            try:
                await self.step()
                retry_s = RETRY_FIRST_S
                await self._woken.wait()
                continue
            except HeadgateError as error:
                _log.warning("step_failed", deployment="/".join(self.key), error=str(error))
            except Exception:
                _log.exception("step_failed", deployment="/".join(self.key))
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, RETRY_MAX_S)

    async def close(self) -> None:
        """Stop working; the instances go on."""
        tasks = [*self._preparing.values(), *([self._telling] if self._telling else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.fleet.close()

    async def step(self) -> None:
        """One look at the deployment, and what follows from it."""
        now = self._tools.clock.monotonic()
        wanted = self._wanted()
        observed, room = self.fleet.observed(), self._room()
        fitted = fitting.fitted(core.reconcile(wanted, observed, now), wanted, observed, room)
        self._tools.ledger.claim(self.key, fitted.holding)
        decision = fitted.decision
        for action in decision.actions:
            match action:
                case Prepare():
                    self._prepare(action.spec)
                case Start():
                    await self._start(action)
                case Stop():
                    await self.fleet.stop(action)
                case Fail():
                    await self._fail(action)
        if decision.report.outcome in ("succeeded", "failed"):
            await self._settle(decision.report)
        self._tell_soon(decision.report)
        needed = {v.spec for v in (wanted.target, wanted.fallback) if v}
        for spec in set(self._preparing) - needed:
            self._preparing[spec].cancel()
        running = {record.observed.spec for record in self.fleet.running}
        self._types = {k: v for k, v in self._types.items() if k in needed | running}
        await self.fleet.prune(needed)
        told = self._word() == self._told and _agrees(self.desire.deployment, decision.report)
        self._at_rest = not decision.actions and told and decision.report.outcome == "succeeded"

    def claim(self) -> None:
        """Note what runs as taken, before anybody asks for room."""
        observed = self.fleet.observed()
        held = capacity.holding(self._room(), observed, (), (), ())
        self._tools.ledger.claim(self.key, held)

    def _room(self) -> Room:
        sizes: dict[str, Size] = {}
        for spec, name in self._types.items():
            # A type that is gone from the catalogue is told of when the version is prepared.
            with contextlib.suppress(HeadgateError):
                sizes[spec] = self._tools.size(name)
        return self._tools.ledger.room_for(self.key, sizes)

    def _wanted(self) -> Wanted:
        desire = self.desire
        spec = desire.deployment.spec
        target = core.version_of(desire.deployment)
        self._types[target] = spec.instance_type
        proven = desire.serving == target
        fallback = desire.serving if desire.serving and not proven else ""
        return Wanted(
            count=spec.instance_count,
            target=self._version(target, spec),
            proven=proven,
            settled=desire.settled == desire.deployment.generation,
            fallback=self._version(fallback, spec) if fallback else None,
            failed=desire.error if desire.failed == desire.deployment.generation else None,
            deleting=desire.deployment.provisioning_state is ProvisioningState.DELETING,
            stopped=desire.deployment.is_stopped,
            since=desire.since,
            hearing_since=self.hearing_since,
            backoff=self._tools.backoff,
        )

    def _version(self, name: str, spec: DeploymentSpec) -> Version:
        return Version(
            spec=name,
            prepared=name in self._prepared,
            budget_s=(spec.startup_probe or spec.readiness_probe).budget_s,
            rules=_rules(spec),
        )

    # --- actions -------------------------------------------------------------------------------

    def _prepare(self, spec: str) -> None:
        if spec not in self._preparing:
            self._preparing[spec] = asyncio.create_task(self._prepare_now(spec))

    async def _prepare_now(self, spec: str) -> None:
        """Prepare a version. What is not the user's fault is tried again until it works."""
        deployment, retry_s = self.desire.deployment, RETRY_FIRST_S
        try:
            while spec not in self._prepared:
                try:
                    self._tools.size(self._types.get(spec, deployment.spec.instance_type))
                    self._prepared[spec] = await self._preparer.prepare(spec, deployment)
                except HeadgateError as error:
                    if error.error.blame is Blame.CALLER:
                        await self._give_up(spec, error.error)
                        return
                    _log.warning("prepare_waits", spec=spec, error=str(error))
                    await asyncio.sleep(retry_s)
                    retry_s = min(2 * retry_s, RETRY_MAX_S)
        finally:
            del self._preparing[spec]
            self.wake()

    async def _give_up(self, spec: str, error: WireError) -> None:
        if core.version_of(self.desire.deployment) == spec:
            await self._remember_failure(error)
        else:
            _log.error("fallback_lost", deployment="/".join(self.key), error=error.message)

    async def _start(self, start: Start) -> None:
        size = self._types[start.spec]
        allowed = self._tools.size(size).limits
        if not await self.fleet.start(start, self._prepared[start.spec], allowed, size):
            self._prepared.pop(start.spec)  # something of it may have been removed

    async def _fail(self, fail: Fail) -> None:
        """The last lines of the log come with every failure: most often a traceback."""
        error = fail.error
        folder = self._tools.driver.folder(fail.instance)
        tail = await asyncio.to_thread(logs.tail, folder, FAILURE_LOG_LINES)
        if tail:
            lines = ErrorDetail(
                code=LAST_LINES, message=tail[-FAILURE_LOG_CHARS:], target="inference-server"
            )
            error = error.model_copy(update={"details": (*error.details, lines)})
        await self._remember_failure(error)

    async def _remember_failure(self, error: WireError) -> None:
        generation = self.desire.deployment.generation
        _log.warning("deployment_failed", deployment="/".join(self.key), code=error.code.value)
        await self._remember(
            replace(self.desire, failed=generation, settled=generation, error=error)
        )
        self.wake()

    def _tell_soon(self, report: Report) -> None:
        """In a task of its own: a registry that does not answer must not delay a restart."""
        self._report = report
        if self._word() == self._told and _agrees(self.desire.deployment, report):
            return
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        """Tell the latest word. What cannot be told now is told at the next step."""
        while True:
            word = self._word()
            try:
                await self._tools.bus.ask(word, Done)
            except HeadgateError as error:
                _log.debug("report_waits", deployment="/".join(self.key), error=str(error))
                return
            self._told = word
            if word.outcome == "gone":
                self.gone = True
                self.wake()
            if word == self._word():
                return

    def _word(self) -> ReportDeployment:
        report, deployment = self._report or Report("progressing"), self.desire.deployment
        return ReportDeployment(
            workspace=deployment.workspace,
            endpoint=self.key[0],
            name=self.key[1],
            generation=deployment.generation,
            outcome=report.outcome,
            ready_instances=report.ready_instances,
            percent_complete=report.percent_complete,
            error=report.error,
        )

    async def _settle(self, report: Report) -> None:
        desire = self.desire
        target = core.version_of(desire.deployment)
        settled = replace(desire, settled=desire.deployment.generation)
        runs = desire.deployment.spec.instance_count > 0 and not desire.deployment.is_stopped
        if report.outcome == "succeeded" and runs:
            settled = replace(settled, serving=target)
        if settled != desire:
            await self._remember(settled)
            kept = (target, settled.serving)
            await self._tools.memory.forget_recipes(self.key, but=kept)

    async def _remember(self, desire: Desire) -> None:
        self.desire = desire
        await self._tools.memory.remember_desire(desire)


def _rules(spec: DeploymentSpec) -> Rules:
    return Rules(_rule(spec.liveness_probe), _rule(spec.readiness_probe))


def _rule(probe: Probe) -> Rule:
    return Rule(
        initial_delay_s=probe.initial_delay,
        period_s=probe.period,
        timeout_s=probe.timeout,
        success_threshold=probe.success_threshold,
        failure_threshold=probe.failure_threshold,
    )


def _agrees(deployment: Deployment, report: Report) -> bool:
    """Whether the registry's row, as last listed, says what the report says."""
    if deployment.ready_instances != report.ready_instances:
        return False
    if report.outcome == "succeeded":
        return deployment.provisioning_state is ProvisioningState.SUCCEEDED
    if report.outcome == "failed":
        return deployment.provisioning_state is ProvisioningState.FAILED
    return True
