"""Probes, counted: what the latest sign of life says about an instance, once every period. Pure.

An instance that says twice a second how it is needs no questions: a probe passes when the last
word is younger than its ``timeout``, when the model is not stuck in a request whose time is over,
and, for readiness, when the instance says that it is ready. While an instance starts only the
budget of its startup (or readiness) probe counts, see :mod:`headgate.provisioner.core`; what it
says itself about being ready is believed at once, so ``initial_delay`` delays no good instance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from headgate.provisioner.values import Count, Observed, Rule, Rules, State

AT_ONCE_MAX = 8  # probes that are made up for after a long pause
UNRESPONSIVE_AFTER_S = 10.0

Kind = Literal["liveness", "readiness"]


@dataclass(frozen=True, slots=True)
class Failed:
    """A probe that failed for the first time in a row, or for the last time that it may."""

    kind: Kind
    failures: int
    failure_threshold: int
    why: str


def look(
    i: Observed, rules: Rules, hearing_since: float, now: float
) -> tuple[Observed, tuple[Failed, ...]]:
    """An instance as it is seen now, and what of that is worth telling."""
    if not i.was_ready:
        return i, ()
    seen = replace(
        i,
        liveness=counted(i.liveness, rules.liveness, i, hearing_since, now, ready=False),
        readiness=counted(i.readiness, rules.readiness, i, hearing_since, now, ready=True),
    )
    failed = (
        *_told("liveness", i.liveness, seen, seen.liveness, rules.liveness, hearing_since, now),
        *_told("readiness", i.readiness, seen, seen.readiness, rules.readiness, hearing_since, now),
    )
    return replace(seen, state=_state(seen, rules.readiness, hearing_since, now)), failed


def counted(
    count: Count, rule: Rule, i: Observed, hearing_since: float, now: float, *, ready: bool
) -> Count:
    """The count after all probes that were due until now. While we were deaf none was."""
    due_at = count.due_at or i.started_at + rule.initial_delay_s
    if due_at < hearing_since:
        due_at = hearing_since + rule.period_s
    due_at = max(due_at, now - AT_ONCE_MAX * rule.period_s)
    passed, failed = count.passed, count.failed
    while due_at <= now:
        if problem(i, rule, hearing_since, due_at, ready=ready):
            passed, failed = 0, min(failed + 1, rule.failure_threshold)
        else:
            passed, failed = min(passed + 1, rule.success_threshold), 0
        due_at += rule.period_s
    return Count(due_at, passed, failed)


def problem(i: Observed, rule: Rule, hearing_since: float, at: float, *, ready: bool) -> str:
    """Why a probe fails, in words; empty when it passes."""
    silent_s = at - max(i.heard_at, i.started_at, hearing_since)
    if silent_s > rule.timeout_s:
        return f"it has given no sign of life for {silent_s:.1f} s"
    if i.overdue_s > rule.timeout_s:
        return i.trouble or (
            f"run() of the scoring script has not returned, {i.overdue_s:.1f} s after the time "
            "for its request was over"
        )
    not_ready = i.trouble or "it says that it is not ready"
    return not_ready if ready and not i.says_ready else ""


def _state(i: Observed, rule: Rule, hearing_since: float, now: float) -> State:
    if i.readiness.failed >= rule.failure_threshold:
        return State.UNREADY
    if i.state is State.UNREADY and i.readiness.passed < rule.success_threshold:
        return State.UNREADY
    silent_s = now - max(i.heard_at, i.started_at, hearing_since)
    if silent_s > UNRESPONSIVE_AFTER_S:
        return State.UNRESPONSIVE
    return State.READY


def _told(
    kind: Kind, before: Count, i: Observed, after: Count, rule: Rule, since: float, now: float
) -> tuple[Failed, ...]:
    """Of many failures in a row the first and the decisive one are told."""
    decisive = before.failed < after.failed == rule.failure_threshold
    if not after.failed or (before.failed and not decisive):
        return ()
    why = problem(i, rule, since, now, ready=kind == "readiness") or "it did not answer in time"
    return (Failed(kind, after.failed, rule.failure_threshold, why),)
