"""What should happen to the instances of one deployment: wanted against observed, as values.

:func:`reconcile` looks at one deployment as it is now and says what to do next. It is asked again
after every change and every few seconds, so each answer is only one step; nothing is remembered
between two questions. The rules:

- A *version* is the hash of everything that needs new instances (:func:`version_of`).
- The version that last succeeded is the *fallback* while another one, the *target*, comes up. The
  target grows by a surge at a time, and the fallback gives way only to instances that are ready:
  the number that are ready never falls below what is wanted because of a roll.
- A target that never succeeded and cannot start has *failed*: it is taken away, and the fallback
  is brought back to full strength. A version that has succeeded is restarted for ever.
- Restarts keep to *slots*: each slot has its own back-off, so one bad instance costs only itself.

The values are in :mod:`headgate.provisioner.values`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from headgate.provisioner import probes
from headgate.provisioner.drivers import OutOfMemory
from headgate.provisioner.values import (
    Action,
    Backoff,
    Decision,
    Ending,
    EndKind,
    Fail,
    Observed,
    Prepare,
    Report,
    Start,
    State,
    Stop,
    Version,
    Wanted,
)
from headgate_contracts.errors import ErrorCode
from headgate_contracts.instance_types import in_gib
from headgate_contracts.resources import Deployment, DeploymentSpec

START_ATTEMPTS_MAX = 3
SURGE_SHARE = 0.2
EXIT_REFUSED_BY_BUS = 4
OUT_OF_MEMORY = (-9, 137)
_VERSION_CHARS = 16
# Fields of a deployment that running instances need not be replaced for.
_NOT_OF_THE_VERSION = {
    "description",
    "tags",
    "properties",
    "instance_count",
    "scale_settings",
    "app_insights_enabled",
}


# Fields that older versions of Headgate do not know: without them a version keeps its hash, so that
# an update of Headgate replaces no instance.
_CAME_LATER = ("batching",)


def version_of(deployment: Deployment) -> str:
    """The version that a deployment should run."""
    return version_from(deployment.spec, deployment.environment_build)


def version_from(spec: DeploymentSpec, environment_build: str = "") -> str:
    """The hash of everything in a deployment that a running instance cannot change."""
    kept = spec.model_dump(mode="json", exclude=_NOT_OF_THE_VERSION)
    for name in _CAME_LATER:
        if kept[name] is None:
            del kept[name]
    text = json.dumps(kept, sort_keys=True, separators=(",", ":")) + environment_build
    return hashlib.sha256(text.encode()).hexdigest()[:_VERSION_CHARS]


def ending_of(
    status: int | None,
    last_words: tuple[str, str] | None,
    described: str,
    instance: str,
    because: str = "",
    out_of_memory: OutOfMemory | None = None,
) -> Ending:
    """Why an instance ended that nobody asked to. ``last_words`` are a code and a message.

    ``because``: what the driver knows besides.
    """
    if out_of_memory is not None and (status is None or status in OUT_OF_MEMORY):
        # The same again next time, as with a script that cannot be loaded.
        text = describe_out_of_memory(instance, out_of_memory)
        return Ending(EndKind.SCRIPT, ErrorCode.OUT_OF_MEMORY, text)
    if last_words is not None:
        known = {code.value for code in ErrorCode}
        code, message = last_words
        said = ErrorCode(code) if code in known else ErrorCode.USER_SCRIPT_INIT_FAILED
        return Ending(EndKind.SCRIPT, said, message)
    if status == EXIT_REFUSED_BY_BUS:
        text = f"instance {instance} was refused by the bus: its credentials are not accepted"
        return Ending(EndKind.CRASH, ErrorCode.INTERNAL, text)
    if because:
        text = f"instance {instance} {because}"
        return Ending(EndKind.CRASH, ErrorCode.RESOURCE_NOT_READY, text)
    text = f"instance {instance} ended with {described}"
    if status in OUT_OF_MEMORY:
        text += ", as it happens when memory runs out"
    return Ending(EndKind.CRASH, ErrorCode.RESOURCE_NOT_READY, text)


def describe_out_of_memory(instance: str, found: OutOfMemory) -> str:
    """The end of an instance at its limit, in the same words whatever runs it."""
    peak = "" if found.peak_bytes is None else f" (at most {in_gib(found.peak_bytes)} were in use)"
    limit = "there is"
    if found.limit_bytes:
        limit = f"its limit of {in_gib(found.limit_bytes)}"
    return (
        f"instance {instance} was ended because it used more memory than "
        f"{limit}{peak}. Choose an instance_type with more memory, a "
        "smaller model, or fewer model processes (WORKER_COUNT)"
    )


def surge_of(count: int) -> int:
    """How many instances of a new version start at a time: a fifth, at least one."""
    return max(1, math.ceil(count * SURGE_SHARE))


def restart_of(ended: Observed, backoff: Backoff) -> tuple[float, int]:
    """When the slot of an ended instance may be started again, and its failures in a row then."""
    ended_at = ended.ended_at if ended.ended_at is not None else ended.started_at
    ran_long = ended_at - ended.started_at >= backoff.reset_s
    failures = 0 if ran_long else ended.failures
    return ended_at + backoff.wait_s(failures), failures + 1


def reconcile(wanted: Wanted, instances: Sequence[Observed], now: float) -> Decision:
    """The next step of one deployment."""
    if wanted.deleting or wanted.stopped:
        return _dismantle(instances, "gone" if wanted.deleting else "succeeded")
    kills = {i.id: ending for i in instances if (ending := _overdue(wanted, i, now))}
    here = [
        replace(i, state=State.STOPPING, ending=kills[i.id]) if i.id in kills else i
        for i in instances
    ]
    actions: list[Action] = [Stop(instance, because) for instance, because in kills.items()]
    if wanted.failed is None and not wanted.proven:
        verdict = _verdict(wanted, here)
        if verdict is not None:
            return Decision((*actions, verdict), _report(wanted, here))
    plan = _plan(wanted, here)
    actions += _stops(wanted, plan, here)
    for version, size in plan:
        actions += _fill(version, size, wanted, here, now)
    return Decision(tuple(actions), _report(wanted, here))


def _dismantle(instances: Sequence[Observed], at_last: Literal["gone", "succeeded"]) -> Decision:
    """End everything, each instance after the requests that it has in hand."""
    running = [i for i in instances if i.state is not State.ENDED]
    stops = tuple(Stop(i.id) for i in running if i.state is not State.STOPPING)
    return Decision(stops, Report("progressing" if running else at_last))


# --- parts of the decision ---------------------------------------------------------------------


def _overdue(wanted: Wanted, i: Observed, now: float) -> Ending | None:
    """What is wrong with an instance that takes too long to come up, or has fallen silent."""
    version = next(
        (v for v in (wanted.target, wanted.fallback) if v is not None and v.spec == i.spec), None
    )
    if version is None or wanted.hearing_since is None:  # deaf, we know nothing of anybody
        return None
    starting_at = max(i.started_at, wanted.hearing_since)
    if i.state is State.STARTING and now - starting_at > version.budget_s:
        said = (
            f"instance {i.id} was not ready within {version.budget_s:g} s "
            "(initial_delay + period x failure_threshold of its probe)"
        )
        if i.trouble:
            said += f"; {i.trouble}"
        elif i.place:
            said += f"; init() of the scoring script has not returned, it is at {i.place}"
            return Ending(EndKind.LATE, ErrorCode.USER_SCRIPT_INIT_FAILED, said)
        return Ending(EndKind.LATE, ErrorCode.RESOURCE_NOT_READY, said)
    rule = version.rules.liveness
    if i.was_ready and i.liveness.failed >= rule.failure_threshold:
        why = probes.problem(i, rule, wanted.hearing_since, now, ready=False)
        said = (
            f"instance {i.id} failed {rule.failure_threshold} liveness probes in a row, one every "
            f"{rule.period_s:g} s: {why or 'it did not answer in time'}"
        )
        return Ending(EndKind.SILENT, ErrorCode.RESOURCE_NOT_READY, said)
    return None


def _verdict(wanted: Wanted, instances: Iterable[Observed]) -> Fail | None:
    """Whether a version that never succeeded has shown that it cannot."""
    for i in instances:
        if i.spec != wanted.target.spec or not _went_wrong(i, wanted.since) or i.ending is None:
            continue
        hopeless = i.ending.kind in (EndKind.SCRIPT, EndKind.LATE)
        if hopeless or i.failures + 1 >= START_ATTEMPTS_MAX:
            return Fail(i.id, i.ending.to_wire())
    return None


def _went_wrong(i: Observed, since: float) -> bool:
    """Whether this is an end that nobody asked for, within the present generation."""
    if i.ending is None or i.ending.kind is EndKind.ASKED:
        return False
    return i.ended_at is None or i.ended_at >= since


def _plan(wanted: Wanted, instances: Sequence[Observed]) -> list[tuple[Version, int]]:
    """How many instances each version should have now."""
    target, fallback = wanted.target, wanted.fallback
    if wanted.failed is not None:
        return [(fallback, wanted.count)] if fallback is not None else []
    if fallback is None:
        return [(target, wanted.count)]
    ready = _ready(instances, target.spec)
    have = _live(instances, fallback.spec)
    slots = len(have) + len(crashed(fallback.spec, wanted.since, instances))
    if not _ready(instances, fallback.spec):  # nothing to be careful for
        return [(target, wanted.count), (fallback, min(len(have), wanted.count - ready))]
    left = min(slots, wanted.count - min(ready, wanted.count))
    # What drains still takes its room: together there is never more than the surge on top.
    draining = sum(i.spec == fallback.spec and i.state is State.STOPPING for i in instances)
    room = surge_of(wanted.count) - draining - max(0, len(have) - left)
    up = max(ready + max(0, room), len(_live(instances, target.spec)))
    return [(target, min(wanted.count, up)), (fallback, left)]


def _fill(
    version: Version, size: int, wanted: Wanted, instances: Sequence[Observed], now: float
) -> list[Action]:
    """Starts for what is missing of one version. Slots in back-off keep their place."""
    missing = size - len(_holders(version.spec, wanted, instances))
    if missing <= 0:
        return []
    if not version.prepared:
        return [Prepare(version.spec)]
    starts: list[Action] = []
    empty = crashed(version.spec, wanted.since, instances)[:missing]
    for ended in empty:
        due_at, failures = restart_of(ended, wanted.backoff)
        if now >= due_at:
            starts.append(Start(version.spec, ended.slot, failures))
    # An instance that is draining still owns its slot's name in logs and figures.
    taken = {i.slot for i in instances if i.spec == version.spec and i.state is not State.ENDED}
    taken |= {ended.slot for ended in empty}
    free = (slot for slot in range(len(taken) + missing) if slot not in taken)
    for _ in range(missing - len(empty)):
        starts.append(Start(version.spec, next(free)))
    return starts


def _stops(
    wanted: Wanted, plan: Sequence[tuple[Version, int]], instances: Sequence[Observed]
) -> list[Action]:
    """Stops for what is too many.

    Instances of versions outside the plan that are ready go only as far as the planned ones
    cover for them, unless nothing at all should run.
    """
    stops: list[Action] = []
    covered = 0
    for version, size in plan:
        ranked = _by_worth(_live(instances, version.spec))
        stops += [Stop(i.id) for i in ranked[max(0, size) :]]
        covered += sum(i.state is State.READY for i in ranked[: max(0, size)])
    planned = {version.spec for version, _ in plan}
    others = _by_worth([i for i in instances if i.state.is_live and i.spec not in planned])
    keep = max(0, wanted.count - covered) if plan else 0
    for rank, i in enumerate(others):
        if i.state is not State.READY or rank >= keep:
            stops.append(Stop(i.id))
    return stops


def _report(wanted: Wanted, instances: Sequence[Observed]) -> Report:
    ready = sum(i.state is State.READY for i in instances)
    if wanted.failed is not None:
        return Report("failed", ready, 100.0, wanted.failed)
    up = _ready(instances, wanted.target.spec)
    if up >= wanted.count:
        return Report("succeeded", ready, 100.0)
    if wanted.proven and not wanted.settled:
        # A change of size that cannot be met fails, while everything that runs goes on.
        for ended in crashed(wanted.target.spec, wanted.since, instances):
            if ended.failures + 1 >= START_ATTEMPTS_MAX and ended.ending is not None:
                return Report("failed", ready, 100.0, ended.ending.to_wire())
    prepared = 30.0 if wanted.target.prepared else 10.0
    return Report("progressing", ready, prepared + (100.0 - prepared) * up / wanted.count)


# --- small questions ---------------------------------------------------------------------------


def _live(instances: Iterable[Observed], spec: str) -> list[Observed]:
    return [i for i in instances if i.spec == spec and i.state.is_live]


def _holders(spec: str, wanted: Wanted, instances: Iterable[Observed]) -> list[Observed]:
    """Those that keep a place: the live, and the killed, whose end decides about their slot."""
    return [
        i
        for i in instances
        if i.spec == spec
        and (i.state.is_live or (i.state is State.STOPPING and _went_wrong(i, wanted.since)))
    ]


def _ready(instances: Iterable[Observed], spec: str) -> int:
    return sum(i.spec == spec and i.state is State.READY for i in instances)


def crashed(spec: str, since: float, instances: Iterable[Observed]) -> list[Observed]:
    """The last instance of each slot that is empty because it ended unasked, by slot."""
    last: dict[int, Observed] = {}
    for i in instances:
        if i.spec != spec:
            continue
        before = last.get(i.slot)
        if before is None or before.started_at < i.started_at:
            last[i.slot] = i
    return [
        last[slot]
        for slot in sorted(last)
        if last[slot].state is State.ENDED and _went_wrong(last[slot], since)
    ]


def _by_worth(instances: Iterable[Observed]) -> list[Observed]:
    """Ready ones first, older ones first: what comes last is stopped first."""
    return sorted(instances, key=lambda i: (i.state is not State.READY, i.started_at, i.id))
