"""Decisions within the room that there is: what does not fit is not started, and said.

Pure. :func:`fitted` takes a decision of the core and leaves out the starts that have no room. A
roll-out that has none for its surge gives up old instances instead, as few as make room for a new
one, and never the last that is ready: then the deployment is ``OutOfQuota``, and goes on as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from headgate.provisioner import capacity, core
from headgate.provisioner.capacity import Admitted, Holding, Room
from headgate.provisioner.values import (
    Action,
    Decision,
    Observed,
    Prepare,
    Report,
    Start,
    State,
    Stop,
    Wanted,
)

_NO_SLOT = -1  # of an instance that cannot be started yet: its version is not prepared


@dataclass(frozen=True, slots=True)
class Fitted:
    """A decision that fits, and what the deployment takes from now on."""

    decision: Decision
    holding: Holding


def fitted(decision: Decision, wanted: Wanted, instances: Sequence[Observed], room: Room) -> Fitted:
    """The decision without what has no room."""
    stopped = {action.instance for action in decision.actions if isinstance(action, Stop)}
    here = [replace(i, state=State.STOPPING) if i.id in stopped else i for i in instances]
    waiting = _waiting(wanted, here)
    wishes = [wish for action in decision.actions if (wish := _wish(action)) is not None]
    admitted = capacity.admit(wishes, here, waiting, room)
    kept = set(admitted.starts)
    actions = [a for a in decision.actions if not isinstance(a, Start) or a in kept]
    report = decision.report
    if admitted.lacking and report.outcome == "progressing" and not _is_moving(wanted, here):
        given = _given_up(wanted, here, admitted, room)
        actions += given
        stopped |= {stop.instance for stop in given}
        if not given and not _is_about_to_fit(admitted, room):
            report = _short(report, wanted, here, admitted, room)
    starts = [start for start in admitted.starts if start.slot != _NO_SLOT]
    held = capacity.holding(room, here, waiting, starts, stopped)
    return Fitted(Decision(tuple(actions), report), held)


def _wish(action: Action) -> Start | None:
    """What an action needs room for, now or as soon as it can start."""
    if isinstance(action, Prepare):
        return Start(action.spec, _NO_SLOT)
    return action if isinstance(action, Start) else None


def _waiting(wanted: Wanted, here: Sequence[Observed]) -> list[Observed]:
    """Slots that wait for a restart, as far as they will get one."""
    if wanted.deleting or wanted.stopped:
        return []
    found: list[Observed] = []
    for version in (wanted.target, wanted.fallback):
        if version is None or (version is wanted.target and wanted.failed is not None):
            continue
        running = sum(i.spec == version.spec and i.state is not State.ENDED for i in here)
        empty = core.crashed(version.spec, wanted.since, here)
        found += empty[: max(0, wanted.count - running)]
    return found


def _is_moving(wanted: Wanted, here: Sequence[Observed]) -> bool:
    """Whether room appears by itself: something ends, or a new instance will relieve an old one."""
    if any(i.state is State.STOPPING for i in here):
        return True
    coming = any(
        i.spec == wanted.target.spec and i.state.is_live and i.state is not State.READY
        for i in here
    )
    return coming and wanted.fallback is not None


def _is_about_to_fit(admitted: Admitted, room: Room) -> bool:
    free = capacity.plus(admitted.free, room.leaving)
    return capacity.fits(room.counted([admitted.lacking]), free)


def _given_up(
    wanted: Wanted, here: Sequence[Observed], admitted: Admitted, room: Room
) -> list[Stop]:
    """Old instances that go before there is a new one, the least useful first."""
    target, fallback = wanted.target, wanted.fallback
    if fallback is None or admitted.lacking != target.spec or not target.prepared:
        return []
    old = [i for i in here if i.spec == fallback.spec and i.state.is_live]
    old.sort(key=lambda i: (i.state is State.READY, -i.started_at, i.id))
    serving = sum(i.state is State.READY for i in here if i.spec == target.spec)
    most = len(old) if serving else len(old) - 1
    count = capacity.how_many_to_give(room, target.spec, fallback.spec, admitted.free, most)
    return [Stop(i.id) for i in old[:count]]


def _short(
    report: Report, wanted: Wanted, here: Sequence[Observed], admitted: Admitted, room: Room
) -> Report:
    running = sum(i.spec == admitted.lacking and i.state.is_live for i in here)
    error = capacity.shortage(room, admitted.lacking, admitted.free, running, wanted.count)
    return replace(report, outcome="failed", percent_complete=100.0, error=error)
