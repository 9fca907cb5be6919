"""Probes: what is counted, when, and what follows from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.provisioner import probes
from headgate.provisioner.values import Count, Observed, Rule, Rules, State

NOW = 10_000.0
RULE = Rule(initial_delay_s=10, period_s=10, timeout_s=2, success_threshold=1, failure_threshold=3)
RULES = Rules(RULE, RULE)
READY = Observed("a", "v", 0, State.READY, started_at=NOW, heard_at=NOW)


def watched(
    i: Observed, until: float, *, heard: bool = True, rules: Rules = RULES, since: float = 0.0
) -> tuple[Observed, list[probes.Failed]]:
    """Looked at every two seconds until a time, with or without heartbeats."""
    told: list[probes.Failed] = []
    at = NOW
    while at <= until:
        if heard:
            i = replace(i, heard_at=at)
        i, failed = probes.look(i, rules, since, at)
        told += failed
        at += 2
    return i, told


def test_a_good_instance_passes_and_nothing_is_told() -> None:
    seen, told = watched(READY, NOW + 100)
    assert (seen.state, seen.liveness.failed, seen.readiness.passed) == (State.READY, 0, 1)
    assert told == []


def test_the_first_probe_comes_after_its_initial_delay() -> None:
    seen, _ = watched(READY, NOW + 8, heard=False)
    assert seen.liveness.failed == 0
    seen, _ = watched(READY, NOW + 10, heard=False)
    assert seen.liveness.failed == 1


def test_a_silent_instance_is_unresponsive_then_unready_and_dead_at_the_threshold() -> None:
    seen, told = watched(READY, NOW + 18, heard=False)
    assert (seen.state, seen.liveness.failed) == (State.UNRESPONSIVE, 1)
    assert [(each.kind, each.failures) for each in told] == [("liveness", 1), ("readiness", 1)]
    seen, told = watched(READY, NOW + 100, heard=False)
    assert (seen.state, seen.liveness.failed) == (State.UNREADY, 3)
    numbers = [(each.kind, each.failures) for each in told]
    assert numbers == [("liveness", 1), ("readiness", 1), ("liveness", 3), ("readiness", 3)]
    assert "no sign of life for" in told[-1].why


def test_to_be_ready_again_takes_as_many_probes_as_its_owner_wants() -> None:
    rules = Rules(RULE, replace(RULE, success_threshold=2))
    seen, _ = watched(READY, NOW + 100, heard=False, rules=rules)
    assert seen.state is State.UNREADY
    back = replace(seen, heard_at=NOW + 110)
    once, _ = probes.look(back, rules, 0.0, NOW + 110)
    assert once.state is State.UNREADY
    twice, _ = probes.look(replace(once, heard_at=NOW + 120), rules, 0.0, NOW + 120)
    assert twice.state is State.READY


def test_a_model_that_hangs_fails_both_probes_though_heartbeats_go_on() -> None:
    seen, told = watched(replace(READY, overdue_s=40.0), NOW + 40)
    assert seen.liveness.failed == 3
    assert seen.state is State.UNREADY
    assert "run() of the scoring script has not returned, 40.0 s after" in told[0].why


def test_an_instance_that_says_it_is_not_ready_is_alive() -> None:
    seen, told = watched(replace(READY, says_ready=False), NOW + 40)
    assert (seen.state, seen.liveness.failed) == (State.UNREADY, 0)
    assert {each.kind for each in told} == {"readiness"}
    assert seen.state is State.UNREADY


def test_while_nothing_could_be_heard_no_probe_has_failed() -> None:
    """The bus was away for a minute: the first probe after that is a whole period later."""
    silent = replace(READY, liveness=Count(due_at=NOW + 10), readiness=Count(due_at=NOW + 10))
    seen, _ = probes.look(silent, RULES, NOW + 60, NOW + 69)
    assert (seen.liveness.failed, seen.state) == (0, State.READY)
    seen, _ = probes.look(seen, RULES, NOW + 60, NOW + 70)
    assert seen.liveness.failed == 1


@pytest.mark.parametrize("state", [State.PENDING, State.STARTING, State.STOPPING, State.ENDED])
def test_only_what_has_been_ready_is_probed(state: State) -> None:
    assert probes.look(replace(READY, state=state), RULES, 0.0, NOW + 999) == (
        replace(READY, state=state),
        (),
    )


rules_ = st.builds(
    Rule,
    initial_delay_s=st.integers(1, 600),
    period_s=st.integers(1, 60),
    timeout_s=st.integers(1, 30),
    success_threshold=st.integers(1, 5),
    failure_threshold=st.integers(1, 30),
)


@given(rule=rules_, step=st.floats(0.1, 30), beats=st.lists(st.booleans(), max_size=60))
def test_counts_stay_within_their_thresholds_and_only_one_of_them_runs(
    rule: Rule, step: float, beats: list[bool]
) -> None:
    i, at, due_at = READY, NOW, 0.0
    for beat in beats:
        at += step
        i = replace(i, heard_at=at) if beat else i
        i, _ = probes.look(i, Rules(rule, rule), 0.0, at)
        for count in (i.liveness, i.readiness):
            assert 0 <= count.passed <= rule.success_threshold
            assert 0 <= count.failed <= rule.failure_threshold
            assert not (count.passed and count.failed)
            assert count.due_at > at
        assert i.liveness.due_at >= due_at
        due_at = i.liveness.due_at


@given(rule=rules_, step=st.floats(0.2, 20))
def test_nobody_is_given_up_before_all_its_probes_were_due(rule: Rule, step: float) -> None:
    i, at = READY, NOW
    while i.liveness.failed < rule.failure_threshold:
        at += step
        i, _ = probes.look(i, Rules(rule, rule), 0.0, at)
    needed = (rule.failure_threshold - 1) * rule.period_s
    assert at - NOW >= rule.initial_delay_s + needed


@given(rule=rules_)
def test_a_dead_instance_is_always_found(rule: Rule) -> None:
    i, at = READY, NOW
    span = rule.initial_delay_s + rule.timeout_s + (rule.failure_threshold + 1) * rule.period_s
    while at <= NOW + span:
        i, _ = probes.look(i, Rules(rule, rule), 0.0, at)
        at += rule.period_s
    assert i.liveness.failed == rule.failure_threshold
    assert i.state is State.UNREADY
