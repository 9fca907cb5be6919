"""Looks at every deployment that is scaled, decides with the core, and does what was decided."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from headgate.autoscaler import core, schedule, state, target
from headgate.autoscaler.collector import Collector, Step
from headgate.autoscaler.load_window import LoadWindow
from headgate.autoscaler.metrics import KEY, Size, Sums, Track
from headgate.autoscaler.values import Decision, Reading, Reason
from headgate.runtime.bus import Bus, Msg, Subscription
from headgate.runtime.clock import Clock
from headgate.runtime.log import Log
from headgate.runtime.outbox import Outbox
from headgate.runtime.tables import Database
from headgate_contracts import subjects
from headgate_contracts.autoscale import (
    AutoscaleSetting,
    Decided,
    ScaleDecision,
    ScaledIn,
    ScaledOut,
    ScalingFailed,
    ScalingHeld,
)
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.instance_types import InstanceTypes
from headgate_contracts.load import LoadReported
from headgate_contracts.power import ScaleDeployment
from headgate_contracts.registry import DeploymentReply, DeploymentsReply, ListDeployments
from headgate_contracts.resources import Deployment
from headgate_contracts.scoring import Heartbeat

STEP_S = 1.0
LIST_S = 5.0
RETRY_S = 0.5
RULES_TICK_S = 2.0
TOLD_AFTER_S = 10.0  # a window that fills, or a report that is late, is not worth telling
_HOLDS = (Reason.COOLDOWN, Reason.FLAPPING, Reason.NO_DATA, Reason.AT_LIMIT)

_log = Log("autoscaler")


@dataclass(slots=True)
class Followed:
    """What must be remembered of one deployment between two looks."""

    policy: target.Policy | None
    window: LoadWindow | None
    memory: target.Memory
    ready: int = 0
    due_at: float = 0.0
    profile: schedule.InForce = schedule.InForce(None, 0.0)
    held: tuple[Reason, float] | None = None  # why nothing changes, and since when
    told: Reason | None = None


@dataclass(slots=True)
class Scaler:
    """``look_again`` after a change of settings; ``deployments`` and ``run`` are its loops."""

    database: Database
    outbox: Outbox
    bus: Bus
    clock: Clock
    sizes: InstanceTypes
    _deployments: dict[KEY, Deployment] = field(default_factory=dict)
    _settings: dict[KEY, AutoscaleSetting] = field(default_factory=dict)
    _cooldowns: dict[KEY, float] = field(default_factory=dict)
    _followed: dict[KEY, Followed] = field(default_factory=dict)
    _tracks: dict[tuple[str, str, int], Track] = field(default_factory=dict)
    _starving: set[KEY] = field(default_factory=set)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _hinted: asyncio.Event = field(default_factory=asyncio.Event)
    _beats: Subscription | None = None
    _collector: Collector = field(init=False)

    def __post_init__(self) -> None:
        self._collector = Collector(self.clock.now())

    async def start(self) -> None:
        """Know what there was, and listen."""
        async with self.database.reading() as session:
            self._cooldowns = await state.cooldowns(session)
        await self.bus.subscribe(subjects.LOAD_ALL, self._on_load)
        await self.bus.subscribe(subjects.events_of("deployment"), self._on_hint)

    def look_again(self) -> None:
        """Settings have changed."""
        self._hinted.set()

    # --- what is heard -------------------------------------------------------------------------

    async def _on_load(self, message: Msg) -> None:
        try:
            report = LoadReported.model_validate_json(message.data)
        except ValidationError as error:
            _log.warning("bad_load_report", subject=message.subject, error=str(error)[:200])
            return
        starving = self._collector.take(report, self.clock.monotonic())
        empty = {key for key in starving if self._is_empty(key)}
        if empty:
            self._starving |= empty
            self._woken.set()

    def _is_empty(self, key: KEY) -> bool:
        found = self._deployments.get(key)
        return found is not None and key in self._followed and found.spec.instance_count == 0

    async def _on_heartbeat(self, message: Msg) -> None:
        with contextlib.suppress(ValidationError):  # routers complain of those
            beat = Heartbeat.model_validate_json(message.data)
            self._collector.beat(beat, self.clock.monotonic())

    async def _on_hint(self, _: Msg) -> None:
        self._hinted.set()

    # --- what is to be scaled ------------------------------------------------------------------

    async def deployments(self) -> None:
        """Know the deployments and settings, for ever."""
        while True:
            self._hinted.clear()
            try:
                await self.refresh()
                wait_s = LIST_S
            except HeadgateError as error:
                _log.warning("registry_unread", error=str(error))
                wait_s = RETRY_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._hinted.wait()

    async def refresh(self) -> None:
        reply = await self.bus.ask(ListDeployments(), DeploymentsReply)
        self._deployments = {
            (each.spec.endpoint_name, each.spec.name): each for each in reply.deployments
        }
        async with self.database.reading() as session:
            settings = await state.all_settings(session)
        self._settings = {
            key: each
            for each in settings
            if each.spec.enabled
            and (key := (each.spec.endpoint, each.spec.deployment)) in self._deployments
            and self._deployments[key].workspace == each.workspace
        }
        self._follow()
        self._measure()
        await self._hear_beats()

    async def _hear_beats(self) -> None:
        """Hear heartbeats while some deployment's size follows something: there are many."""
        if self._followed and self._beats is None:
            self._beats = await self.bus.subscribe(subjects.HEARTBEAT_ALL, self._on_heartbeat)
        elif self._beats is not None and not self._followed:
            beats, self._beats = self._beats, None
            await beats.unsubscribe()

    def _follow(self) -> None:
        """Begin with those that are to be scaled from now on, and forget the others."""
        followed, now = {}, self.clock.monotonic()
        for key, deployment in self._deployments.items():
            spec = deployment.spec
            policy = target.policy_of(spec) if spec.scale_settings.follows_load else None
            if policy is None and key not in self._settings:
                continue
            known = self._followed.get(key)
            if known is None or known.policy != policy:
                window = LoadWindow(policy.stable_s, policy.panic_s) if policy else None
                memory = target.first_memory(spec.instance_count, now)
                known = Followed(policy, window, memory)
            known.profile = schedule.InForce(None, 0.0)
            followed[key] = known
        self._followed = followed

    def _measure(self) -> None:
        wanted: dict[tuple[str, str, int], int] = {}
        for setting in self._settings.values():
            for place, window_s in core.windows(setting.spec).items():
                wanted[place] = max(wanted.get(place, 0), window_s)
        tracks = {}
        for place, window_s in wanted.items():
            track = self._tracks.get(place) or Track(place[2], window_s)
            track.widen(window_s)
            tracks[place] = track
        self._tracks = tracks

    # --- looking and deciding ------------------------------------------------------------------

    async def run(self) -> None:
        """Scale for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STEP_S):
                    await self._woken.wait()
            self._woken.clear()
            await self.step()

    async def step(self) -> None:
        """One look at everything that is due."""
        now, mono = self.clock.now(), self.clock.monotonic()
        step = self._collector.step(mono)
        starving, self._starving = self._starving, set()
        self._feed(step, now, mono)
        for key, followed in list(self._followed.items()):
            if key not in starving and mono < followed.due_at:
                continue
            tick_s = followed.policy.tick_s if followed.policy else RULES_TICK_S
            followed.due_at = mono + tick_s - STEP_S / 2
            try:
                await self._look(key, followed, now, mono)
            except HeadgateError as error:
                _log.warning("scaling_waits", deployment="/".join(key), error=str(error))
                self._hinted.set()

    def _feed(self, step: Step, now: float, mono: float) -> None:
        for key, followed in self._followed.items():
            sums = step.sums.get(key)
            if sums is None:
                continue
            followed.ready = sums.ready
            if step.heard and followed.window is not None and sums.span_s > 0:
                followed.window.feed(
                    mono,
                    sums.span_s,
                    sums.busy_s,
                    sums.arrivals,
                    sums.in_hand,
                    sums.served,
                    sums.service_s,
                )
                if sums.in_hand > _burst(followed.policy, sums.ready):
                    followed.due_at = mono  # no waiting for the tick
        for (endpoint, deployment, _), track in self._tracks.items():
            track.feed(now, _parts(step.sums, endpoint, deployment), heard=step.heard)

    async def _look(self, key: KEY, followed: Followed, now: float, mono: float) -> None:
        deployment = self._deployments[key]
        if core.why_not_now(deployment):
            return
        setting = self._settings.get(key)
        if setting is not None and now >= followed.profile.until:
            followed.profile = schedule.in_force(setting.spec.profiles, now)
        situation = core.Situation(
            now=now,
            count=deployment.spec.instance_count,
            ready=followed.ready,
            policy=followed.policy,
            load=followed.window.read(mono) if followed.window else None,
            memory=followed.memory,
            profile=followed.profile.profile if setting else None,
            readings=self._readings(setting, followed) if setting else (),
            cooldown_until=self._cooldowns.get(key, 0.0),
        )
        decision, followed.memory = core.decide(situation)
        if decision.count != situation.count:
            try:
                await self._scale(key, decision)
            except HeadgateError as error:
                if error.error.code is not ErrorCode.QUOTA_EXCEEDED:
                    raise  # it passes by itself
                refused = _refused(decision, situation.count, error)
                await self._hold(key, followed, refused, mono)
                return
            followed.held = followed.told = None
        elif decision.reason in _HOLDS:
            await self._hold(key, followed, decision, mono)
        else:
            followed.held = followed.told = None

    def _readings(self, setting: AutoscaleSetting, followed: Followed) -> tuple[Reading, ...]:
        profile = followed.profile.profile
        found = []
        for rule in profile.rules if profile else ():
            endpoint, deployment = core.resource_of(rule.trigger.resource, setting.spec)
            track = self._tracks[endpoint, deployment, rule.trigger.time_grain]
            value = track.read(rule.trigger, self._sizes(endpoint))
            if rule.trigger.divide_per_instance and isinstance(value, float | int):
                value = value / max(1, followed.ready)
            found.append(value)
        return tuple(found)

    def _sizes(self, endpoint: str) -> Mapping[str, Size]:
        found = {}
        for (of, name), deployment in self._deployments.items():
            size = self.sizes.get(deployment.spec.instance_type) if of == endpoint else None
            if size is not None:
                found[name] = Size(size.cores, size.memory_bytes)
        return found

    # --- doing ---------------------------------------------------------------------------------

    async def _scale(self, key: KEY, decision: Decision) -> None:
        deployment = self._deployments[key]
        before = deployment.spec.instance_count
        command = ScaleDeployment(
            workspace=deployment.workspace,
            endpoint=key[0],
            name=key[1],
            instance_count=decision.count,
            if_count=before,
            by="autoscaler",
        )
        self._deployments[key] = (await self.bus.ask(command, DeploymentReply)).deployment
        if decision.cooldown_s:
            self._cooldowns[key] = self.clock.now() + decision.cooldown_s
        await self._record(key, decision, before)

    async def _hold(self, key: KEY, followed: Followed, decision: Decision, mono: float) -> None:
        """Tell once why a change is held back, when that is more than a moment."""
        reason = decision.reason
        if followed.held is None or followed.held[0] is not reason:
            followed.held = (reason, mono)
        is_passing = reason is Reason.NO_DATA and mono - followed.held[1] < TOLD_AFTER_S
        if followed.told is reason or is_passing:
            return
        followed.told = reason
        await self._record(key, decision, decision.count)

    async def _record(self, key: KEY, decision: Decision, before: int) -> None:
        deployment, setting = self._deployments[key], self._settings.get(key)
        profile = self._followed[key].profile.profile
        action = "hold"
        if decision.count != before:
            action = "scale_out" if decision.count > before else "scale_in"
        value = ScaleDecision.model_validate(
            {
                "at": self.clock.now(),
                "workspace": deployment.workspace,
                "endpoint": key[0],
                "deployment": key[1],
                "setting": setting.spec.name if setting else "",
                "profile": profile.name if setting and profile else "",
                "action": action,
                "reason": decision.reason.value,
                "message": decision.message,
                "from_count": before,
                "to_count": decision.count,
                "wanted_count": decision.wanted,
                "figures": decision.figures,
            }
        )
        _log.info(
            action,
            deployment="/".join(key),
            reason=value.reason,
            count_before=before,
            count=decision.count,
            message=decision.message,
        )
        async with self.database.transaction() as session:
            await state.add_decision(session, value)
            if decision.cooldown_s:
                await state.save_cooldown(session, key, self._cooldowns[key])
            self.outbox.add(session, (_event(value),))
        self.outbox.wake()


def _refused(decision: Decision, count: int, error: HeadgateError) -> Decision:
    """What becomes of a decision that the registry does not carry out: the count stays."""
    return Decision(count, Reason.REFUSED, str(error), decision.count, decision.figures)


def _burst(policy: target.Policy | None, ready: int) -> float:
    """More requests in hand than this are panic, as soon as that is certain."""
    return policy.panic_threshold * policy.target * max(1, ready) if policy else math.inf


def _event(value: ScaleDecision) -> Decided:
    kinds = {"scale_out": ScaledOut, "scale_in": ScaledIn, "hold": ScalingHeld}
    kind = ScalingFailed if value.reason == Reason.REFUSED.value else kinds[value.action]
    return kind.model_validate(value.model_dump(exclude={"at", "action"}))


def _parts(sums: Mapping[KEY, Sums], endpoint: str, deployment: str) -> dict[str, Sums]:
    """What a track looks at: one deployment, or all of an endpoint and what it refused itself."""
    if deployment:
        found = sums.get((endpoint, deployment))
        return {deployment: found} if found else {}
    return {key[1]: each for key, each in sums.items() if key[0] == endpoint}
