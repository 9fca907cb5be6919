"""The rules of the provisioner: tables of situations, then random worlds."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.provisioner import core
from headgate.provisioner.values import (
    Action,
    Backoff,
    Count,
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
from headgate_contracts.errors import ErrorCode, WireError
from headgate_contracts.resources import (
    Batching,
    CodeConfiguration,
    DeploymentSpec,
    Probe,
    RequestSettings,
    ScaleSettings,
)

NOW = 1_000.0
NEW = Version("new", prepared=True, budget_s=310)
OLD = Version("old", prepared=True, budget_s=310)
BACKOFF = Backoff(first_s=10, max_s=300, reset_s=600)
ERROR = WireError(code=ErrorCode.USER_SCRIPT_INIT_FAILED, message="line 3: boom")


def wanted(count: int, **changes: object) -> Wanted:
    return replace(
        Wanted(count, NEW, hearing_since=0.0, backoff=BACKOFF),
        **changes,  # type: ignore[arg-type]
    )


def instance(
    name: str, state: State = State.READY, spec: str = "new", slot: int = 0, **changes: object
) -> Observed:
    seen = Observed(name, spec, slot, state, started_at=NOW - 50, heard_at=NOW)
    return replace(seen, **changes)  # type: ignore[arg-type]


def ended(
    name: str,
    kind: EndKind = EndKind.CRASH,
    *,
    slot: int = 0,
    failures: int = 0,
    ago: float = 1.0,
    ran: float = 20.0,
    spec: str = "new",
) -> Observed:
    at = NOW - ago
    ending = Ending(kind, ErrorCode.RESOURCE_NOT_READY, "it ended")
    return Observed(name, spec, slot, State.ENDED, at - ran, failures, ended_at=at, ending=ending)


def decide(want: Wanted, *instances: Observed, now: float = NOW) -> Decision:
    return core.reconcile(want, instances, now)


def acts(want: Wanted, *instances: Observed, now: float = NOW) -> list[Action]:
    return list(decide(want, *instances, now=now).actions)


# --- versions ----------------------------------------------------------------------------------


SPEC = DeploymentSpec(
    name="blue",
    endpoint_name="digits",
    model="azureml:m:1",
    environment="azureml:e:1",
    code_configuration=CodeConfiguration(code="azureml:c:1", scoring_script="score.py"),
)


@pytest.mark.parametrize(
    "changes",
    [
        {"instance_count": 5},
        {"tags": {"a": "b"}},
        {"description": "other"},
        {"properties": {"a": "b"}},
        {"app_insights_enabled": True},
        {"scale_settings": ScaleSettings(min_instances=1)},
    ],
)
def test_a_change_that_running_instances_need_not_notice_keeps_the_version(
    changes: dict[str, object],
) -> None:
    assert core.version_from(SPEC.model_copy(update=changes)) == core.version_from(SPEC)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "azureml:m:2"},
        {"environment": "azureml:e:2"},
        {"code_configuration": CodeConfiguration(code="azureml:c:2", scoring_script="score.py")},
        {"code_configuration": CodeConfiguration(code="azureml:c:1", scoring_script="other.py")},
        {"environment_variables": {"A": "B"}},
        {"request_settings": RequestSettings(max_concurrent_requests_per_instance=4)},
        {"batching": Batching()},
        {"readiness_probe": Probe(period=20)},
        {"liveness_probe": Probe(period=20)},
        {"instance_type": "Standard_DS3_v2"},
    ],
)
def test_a_change_that_needs_new_instances_makes_a_new_version(
    changes: dict[str, object],
) -> None:
    assert core.version_from(SPEC.model_copy(update=changes)) != core.version_from(SPEC)


# --- starting, scaling -------------------------------------------------------------------------


def test_a_version_is_prepared_before_anything_starts() -> None:
    unprepared = replace(NEW, prepared=False)
    assert acts(wanted(2, target=unprepared)) == [Prepare("new")]


def test_missing_instances_start_in_free_slots() -> None:
    assert acts(wanted(3), instance("a", slot=1)) == [Start("new", 0), Start("new", 2)]


def test_nothing_happens_when_all_is_as_wanted() -> None:
    ready = [instance(n, slot=i) for i, n in enumerate("abc")]
    decision = decide(wanted(3), *ready)
    assert decision.actions == ()
    assert decision.report.outcome == "succeeded"
    assert decision.report.ready_instances == 3


def test_scaling_down_stops_those_not_ready_first_then_the_newest() -> None:
    a = instance("a", slot=0, started_at=NOW - 90)
    b = instance("b", slot=1, started_at=NOW - 60)
    c = instance("c", State.STARTING, slot=2, started_at=NOW - 99)
    assert acts(wanted(1), a, b, c) == [Stop("b"), Stop("c")]
    assert acts(wanted(2), a, b, c) == [Stop("c")]


def test_zero_instances_succeed_with_none() -> None:
    decision = decide(wanted(0), instance("a"))
    assert decision.actions == (Stop("a"),)
    assert decision.report.outcome == "succeeded"


def test_a_draining_instance_is_replaced_at_once_in_another_slot() -> None:
    assert acts(wanted(1), instance("a", State.STOPPING)) == [Start("new", 1)]


def test_progress_grows_with_what_is_there() -> None:
    unprepared = wanted(4, target=replace(NEW, prepared=False))
    steps = [
        decide(unprepared),
        decide(wanted(4)),
        decide(wanted(4), instance("a")),
        decide(wanted(4), *(instance(n, slot=i) for i, n in enumerate("abc"))),
    ]
    percents = [step.report.percent_complete for step in steps]
    assert percents == sorted(percents)
    assert all(step.report.outcome == "progressing" for step in steps)
    assert all(0 <= percent < 100 for percent in percents)


# --- restarts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "waits_s"), [(0, 0), (1, 10), (2, 20), (3, 40), (5, 160), (6, 300), (99, 300)]
)
def test_restarts_of_a_slot_wait_longer_each_time(failures: int, waits_s: float) -> None:
    last = ended("a", failures=failures)
    due_at, next_failures = core.restart_of(last, BACKOFF)
    assert due_at == last.ended_at + waits_s
    assert next_failures == failures + 1


def test_a_slot_that_ran_long_starts_counting_anew() -> None:
    last = ended("a", failures=7, ran=600)
    assert core.restart_of(last, BACKOFF) == (last.ended_at, 1)


def test_a_proven_version_is_restarted_for_ever() -> None:
    want = wanted(1, proven=True, settled=True)
    assert acts(want, ended("a")) == [Start("new", 0, failures=1)]
    assert acts(want, ended("a", failures=20, ago=299)) == []
    assert acts(want, ended("a", failures=20, ago=300)) == [Start("new", 0, failures=21)]
    assert acts(want, ended("a", EndKind.SCRIPT, failures=20, ago=300)) != []


def test_a_slot_in_back_off_keeps_its_place_and_holds_up_no_other() -> None:
    want = wanted(3, proven=True)
    waiting = ended("a", slot=1, failures=3)
    assert acts(want, waiting, instance("b", slot=0)) == [Start("new", 2)]


def test_an_instance_that_was_asked_to_go_leaves_no_back_off_behind() -> None:
    assert acts(wanted(1), ended("a", EndKind.ASKED, failures=5)) == [Start("new", 0)]


def test_what_ended_before_this_generation_does_not_count() -> None:
    failed_before = ended("a", EndKind.SCRIPT, ago=10)
    assert acts(wanted(1, since=NOW - 5), failed_before) == [Start("new", 0)]


# --- failing to start --------------------------------------------------------------------------


def test_a_script_that_cannot_load_fails_the_version_at_once() -> None:
    (fail,) = acts(wanted(3), ended("a", EndKind.SCRIPT), instance("b", State.STARTING, slot=1))
    assert isinstance(fail, Fail)
    assert fail.instance == "a"


def test_a_crash_at_start_is_tried_three_times() -> None:
    assert acts(wanted(1), ended("a", failures=0)) == [Start("new", 0, failures=1)]
    assert acts(wanted(1), ended("a", failures=1)) == [], "the second restart waits"
    assert acts(wanted(1), ended("a", failures=1, ago=10)) == [Start("new", 0, failures=2)]
    assert isinstance(acts(wanted(1), ended("a", failures=2))[0], Fail)


def test_an_instance_that_is_not_ready_in_time_is_killed_and_fails_the_version() -> None:
    late = instance("a", State.STARTING, started_at=NOW - 311)
    kill, fail = acts(wanted(1), late)
    assert isinstance(kill, Stop)
    assert kill.because is not None
    assert "310 s" in kill.because.message
    assert isinstance(fail, Fail)
    assert acts(wanted(1), replace(late, started_at=NOW - 309)) == []


def test_a_late_instance_of_a_proven_version_is_only_replaced_after_its_end() -> None:
    want = wanted(1, proven=True)
    late = instance("a", State.STARTING, started_at=NOW - 311)
    (kill,) = acts(want, late)
    assert isinstance(kill, Stop)
    killed = replace(late, state=State.STOPPING, ending=kill.because)
    assert acts(want, killed) == [], "its slot's back-off is decided by its end"
    gone = replace(killed, state=State.ENDED, ended_at=NOW)
    assert acts(want, gone) == [Start("new", 0, failures=1)]


def test_while_nothing_can_be_heard_nobody_is_late_or_silent() -> None:
    late = instance("a", State.STARTING, started_at=NOW - 999)
    silent = instance("b", slot=1, heard_at=NOW - 999)
    assert acts(wanted(2, hearing_since=None), late, silent) == []
    assert acts(wanted(2, hearing_since=NOW - 100), late, silent) == []


@pytest.mark.parametrize("state", [State.READY, State.UNRESPONSIVE, State.UNREADY])
def test_an_instance_whose_liveness_probe_failed_too_often_is_killed(state: State) -> None:
    silent = instance("a", state, heard_at=NOW - 301, started_at=NOW - 900)
    want = wanted(1, proven=True)
    assert acts(want, replace(silent, liveness=Count(failed=29))) == []
    (kill,) = acts(want, replace(silent, liveness=Count(failed=30)))
    assert isinstance(kill, Stop)
    assert kill.because is not None
    assert kill.because.kind is EndKind.SILENT
    assert "no sign of life for 301.0 s" in kill.because.message
    assert "30 liveness probes in a row" in kill.because.message


def test_a_failed_version_is_taken_away_and_not_tried_again() -> None:
    decision = decide(
        wanted(2, failed=ERROR), instance("a"), instance("b", State.STARTING), ended("c")
    )
    assert set(decision.actions) == {Stop("a"), Stop("b")}
    assert decision.report.outcome == "failed"
    assert decision.report.error == ERROR


def test_a_larger_size_that_cannot_be_met_fails_while_the_rest_runs_on() -> None:
    want = wanted(2, proven=True)
    decision = decide(want, instance("a"), ended("b", slot=1, failures=2))
    assert decision.report.outcome == "failed"
    assert decision.actions == ()
    assert decide(replace(want, settled=True), instance("a")).report.outcome == "progressing"


def test_a_stopped_deployment_has_no_instance_and_that_is_a_success() -> None:
    want = wanted(2, proven=True, stopped=True)
    decision = decide(want, instance("a"), instance("b", State.STARTING, slot=1), ended("c"))
    assert set(decision.actions) == {Stop("a"), Stop("b")}
    assert decision.report.outcome == "progressing"
    assert decide(want, ended("c")) == Decision((), Report("succeeded"))


# --- rolling -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "surge"), [(1, 1), (5, 1), (6, 2), (10, 2), (50, 10)])
def test_a_fifth_of_the_instances_is_replaced_at_a_time(count: int, surge: int) -> None:
    old = [instance(f"o{i}", spec="old", slot=i) for i in range(count)]
    starts = acts(wanted(count, fallback=OLD), *old)
    assert starts == [Start("new", slot) for slot in range(surge)]


def test_old_instances_go_only_when_new_ones_are_ready() -> None:
    old = [instance(f"o{i}", spec="old", slot=i, started_at=i) for i in range(3)]
    want = wanted(3, fallback=OLD)
    assert acts(want, *old, instance("n0", State.STARTING)) == []
    assert acts(want, *old, instance("n0")) == [Stop("o2")]


def test_what_drains_takes_its_room_until_it_has_ended() -> None:
    old = [instance(f"o{i}", spec="old", slot=i, started_at=i) for i in range(2)]
    want = wanted(3, fallback=OLD)
    draining = instance("o2", State.STOPPING, spec="old", slot=2)
    assert acts(want, *old, draining, instance("n0")) == []
    assert acts(want, *old, instance("n0")) == [Start("new", 1)]


@settings(deadline=None)
@given(count=st.integers(1, 50), dice=st.randoms(use_true_random=False))
def test_a_roll_never_takes_more_than_a_fifth_more_room(count: int, dice: Random) -> None:
    """Whatever the order in which instances become ready and drain; and it comes to its end."""
    seen = {f"o{i}": instance(f"o{i}", spec="old", slot=i) for i in range(count)}
    want = wanted(count, fallback=OLD)
    for step in range(20 * count):
        for number, action in enumerate(acts(want, *seen.values())):
            if isinstance(action, Stop):
                stopped = replace(seen[action.instance], state=State.STOPPING)
                seen[action.instance] = stopped
            elif isinstance(action, Start):
                name = f"n{step}-{number}"
                seen[name] = instance(name, State.STARTING, slot=action.slot)
        assert sum(i.state is not State.ENDED for i in seen.values()) <= count + core.surge_of(
            count
        )
        assert sum(i.state is State.READY for i in seen.values()) >= count
        moving = [i for i in seen.values() if i.state in (State.STARTING, State.STOPPING)]
        if not moving:
            break
        one = dice.choice(moving)
        if one.state is State.STARTING:
            seen[one.id] = replace(one, state=State.READY)
        else:
            del seen[one.id]
    assert {i.spec for i in seen.values()} == {"new"}


def test_a_failed_update_leaves_the_old_version_serving_in_full_strength() -> None:
    want = wanted(3, fallback=OLD, failed=ERROR)
    old = [instance(f"o{i}", spec="old", slot=i) for i in range(2)]
    decision = decide(want, *old, instance("n0"), instance("n1", State.STARTING, slot=1))
    assert Start("old", 2) in decision.actions
    assert Stop("n1") in decision.actions
    assert Stop("n0") not in decision.actions, "it serves until the old version is whole again"
    assert decision.report.outcome == "failed"
    assert decision.report.ready_instances == 3


def test_an_old_version_of_which_nothing_is_ready_is_not_waited_for() -> None:
    old = instance("o", State.STARTING, spec="old")
    starts = [a for a in acts(wanted(4, fallback=OLD), old) if isinstance(a, Start)]
    assert len(starts) == 4


def test_a_version_that_was_superseded_before_it_was_ready_goes_at_once() -> None:
    middle = instance("m", State.STARTING, spec="middle")
    assert Stop("m") in acts(wanted(1), middle)


# --- deleting ----------------------------------------------------------------------------------


def test_a_deleted_deployment_is_gone_when_its_last_process_is() -> None:
    want = wanted(2, deleting=True)
    first = decide(want, instance("a"), instance("b", State.STOPPING), ended("c"))
    assert first.actions == (Stop("a"),)
    assert first.report.outcome == "progressing"
    last = decide(want, ended("a", EndKind.ASKED))
    assert last.actions == ()
    assert last.report.outcome == "gone"


# --- why instances end -------------------------------------------------------------------------


def test_last_words_of_the_script_are_its_error() -> None:
    said = core.ending_of(3, ("UserScriptImportError", "No module named 'x'"), "", "i")
    assert said.kind is EndKind.SCRIPT
    assert said.code is ErrorCode.USER_SCRIPT_IMPORT_ERROR
    assert said.message == "No module named 'x'"
    unknown = core.ending_of(3, ("Nonsense", "text"), "", "i")
    assert unknown.code is ErrorCode.USER_SCRIPT_INIT_FAILED


@pytest.mark.parametrize("status", [-9, 137])
def test_a_kill_is_explained_as_what_it_often_is(status: int) -> None:
    assert "memory" in core.ending_of(status, None, "signal SIGKILL", "i").message


def test_an_end_by_itself_is_a_crash_whatever_its_status() -> None:
    for status in (0, 1, -11, None):
        assert core.ending_of(status, None, "x", "i").kind is EndKind.CRASH
    assert core.ending_of(4, None, "x", "i").code is ErrorCode.INTERNAL


# --- random worlds -----------------------------------------------------------------------------


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Wanted, list[Observed]]:
    count = draw(st.integers(0, 8))
    fallback = draw(st.sampled_from([None, OLD]))
    want = wanted(
        count,
        fallback=fallback,
        proven=fallback is None and draw(st.booleans()),
        settled=draw(st.booleans()),
        failed=draw(st.sampled_from([None, ERROR])),
    )
    if want.proven:
        want = replace(want, failed=None)
    seen = []
    for number in range(draw(st.integers(0, 12))):
        state = draw(st.sampled_from(State))
        kind = draw(st.sampled_from(EndKind))
        ending = Ending(kind, ErrorCode.RESOURCE_NOT_READY, "it ended")
        seen.append(
            Observed(
                f"i{number}",
                draw(st.sampled_from(["new", "old", "older"])),
                number,
                state,
                NOW - draw(st.integers(1, 1_000)),
                failures=draw(st.integers(0, 4)),
                heard_at=NOW - draw(st.integers(0, 400)),
                ended_at=NOW - draw(st.integers(0, 400)) if state is State.ENDED else None,
                ending=ending if state is State.ENDED else None,
            )
        )
    return want, seen


@given(worlds())
def test_a_decision_makes_sense_in_every_world(world: tuple[Wanted, list[Observed]]) -> None:
    want, seen = world
    decision = decide(want, *seen)
    stopped = [a.instance for a in decision.actions if isinstance(a, Stop)]
    started = [(a.spec, a.slot) for a in decision.actions if isinstance(a, Start)]
    by_id = {i.id: i for i in seen}
    assert len(stopped) == len(set(stopped)), "nothing is stopped twice"
    assert all(by_id[i].state.is_live for i in stopped), "only what lives is stopped"
    taken = {(i.spec, i.slot) for i in seen if i.state is not State.ENDED}
    assert len(started) == len(set(started))
    assert not taken & set(started), "no slot is given twice"
    live = sum(i.state.is_live for i in seen)
    assert len(started) <= 2 * want.count + core.surge_of(want.count)
    assert live - len(stopped) >= 0


@given(worlds())
def test_no_roll_costs_capacity(world: tuple[Wanted, list[Observed]]) -> None:
    """Instances that are ready are stopped only for a cause, or when enough others are ready."""
    want, seen = world
    gracious = {
        a.instance for a in decide(want, *seen).actions if isinstance(a, Stop) and a.because is None
    }
    killed = {a.instance for a in decide(want, *seen).actions if isinstance(a, Stop)} - gracious
    ready = {i.id for i in seen if i.state is State.READY} - killed
    if want.failed is None or want.fallback is not None:
        assert len(ready - gracious) >= min(want.count, len(ready))


@given(worlds(), st.randoms(use_true_random=False))
def test_every_world_comes_to_rest_as_wanted(
    world: tuple[Wanted, list[Observed]], dice: object
) -> None:
    """When what starts becomes ready and what is stopped ends, decisions run out at the goal."""
    want, seen = world
    instances = {i.id: i for i in seen}
    now = NOW + 10_000  # every back-off is over
    instances = {
        name: replace(i, heard_at=now, started_at=now) if i.state.is_live else i
        for name, i in instances.items()
    }
    for step in range(100):
        decision = decide(want, *instances.values(), now=now)
        for number, action in enumerate(decision.actions):
            match action:
                case Start():
                    name = f"s{step}-{number}"
                    instances[name] = Observed(
                        name, action.spec, action.slot, State.STARTING, now, heard_at=now
                    )
                case Stop():
                    instances[action.instance] = replace(
                        instances[action.instance], state=State.STOPPING
                    )
                case Fail():
                    want = replace(want, failed=action.error)
        moved = {
            State.STARTING: State.READY,
            State.PENDING: State.STARTING,
            State.UNRESPONSIVE: State.READY,
            State.UNREADY: State.READY,
        }
        settled = not decision.actions
        for name, i in list(instances.items()):
            if i.state in moved:
                instances[name] = replace(i, state=moved[i.state])
                settled = False
            elif i.state is State.STOPPING:
                ending = i.ending or Ending(EndKind.ASKED, ErrorCode.OPERATION_CANCELED, "")
                instances[name] = replace(i, state=State.ENDED, ended_at=now, ending=ending)
                settled = False
        if settled:
            break
    else:
        pytest.fail("it never comes to rest")
    live = [i for i in instances.values() if i.state.is_live]
    if want.failed is None:
        assert [i.spec for i in live] == ["new"] * want.count
    else:
        assert [i.spec for i in live] == (["old"] * want.count if want.fallback else [])
