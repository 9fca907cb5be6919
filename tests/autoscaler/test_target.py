"""The target mode: Knative's rules and constants, what is ours, and what always holds."""

from __future__ import annotations

import math
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.settings import at, profile, rule, setting
from headgate.autoscaler import core, target
from headgate.autoscaler.simulation import Scenario, simulate
from headgate.autoscaler.target import Load, Memory, Policy
from headgate.autoscaler.values import Reason, Unread
from headgate_contracts.autoscale import Weekday
from headgate_contracts.resources import DeploymentSpec, RequestSettings, ScaleSettings

POLICY = Policy(target=10.0, least=0, most=50)


def load(
    stable: float,
    panic: float | None = None,
    *,
    in_hand: int | None = None,
    idle_s: float = 0.0,
    service_s: float | None = None,
    demand: float | None = None,
) -> Load:
    return Load(
        stable=stable,
        panic=stable if panic is None else panic,
        stable_demand=demand,
        panic_demand=demand,
        service_s=service_s,
        in_hand=round(stable) if in_hand is None else in_hand,
        idle_s=idle_s,
    )


def decide(
    now_load: Load | None,
    count: int,
    *,
    ready: int | None = None,
    memory: Memory = Memory(),
    now: float = 1_000.0,
    policy: Policy = POLICY,
) -> target.Outcome:
    return target.decide(policy, now_load, memory, count, count if ready is None else ready, now)


def test_an_instance_for_each_target() -> None:
    assert decide(load(71.0), 8).instances == 8
    found = decide(load(81.0, 81.0), 8)
    assert (found.instances, found.reason) == (9, Reason.SCALE_OUT)


def test_twice_what_the_ready_ones_should_have_is_panic_and_then_nothing_is_taken_away() -> None:
    found = decide(load(20.0, 80.0), 4)
    assert (found.instances, found.reason, found.memory.panic_since) == (8, Reason.PANIC, 1_000.0)
    quiet = load(20.0, 20.0)
    kept = decide(quiet, 8, memory=found.memory, now=1_059.0)
    assert kept.instances == 8
    over = decide(quiet, 8, memory=found.memory, now=1_060.0)
    assert (over.memory.panic_since, over.instances) == (None, 4)  # at most halved at once
    assert decide(quiet, 4, memory=over.memory, now=1_062.0).instances == 3


def test_panic_goes_on_while_the_threshold_is_crossed_again() -> None:
    memory = Memory(panic_since=1_000.0)
    again = decide(load(20.0, 80.0), 4, memory=memory, now=1_050.0)
    assert again.memory.panic_since == 1_050.0


def test_in_panic_the_stable_window_counts_as_well() -> None:
    memory = Memory(panic_since=999.0)
    assert decide(load(90.0, 20.0), 4, memory=memory).instances == 9


@pytest.mark.parametrize("panic", [0.0, 1e9])
def test_a_count_grows_at_most_a_thousandfold_at_once(panic: float) -> None:
    policy = Policy(target=1.0, least=1, most=10_000)
    assert decide(load(1e9, panic), 2, policy=policy).instances == 2_000


def test_in_panic_what_is_still_being_started_is_not_taken_back() -> None:
    """Of eight wanted one is ready: the figures of the one say less than what was decided."""
    found = decide(load(5.0, 22.0), 8, ready=1, memory=Memory(panic_since=999.0))
    assert found.instances == 8


def test_a_queue_is_not_mistaken_for_demand() -> None:
    """600 wait on one instance. Ten a second of 0.1 s each need one slot, the queue some more."""
    piled = load(300.0, 600.0, in_hand=600, service_s=0.1, demand=1.0)
    policy = Policy(target=1.0, least=1, most=1_000)
    assert decide(piled, 1, policy=policy).instances == 1 + math.ceil(600 * 0.1 / policy.panic_s)
    blind = piled._replace(service_s=None, stable_demand=None, panic_demand=None)
    assert decide(blind, 1, policy=policy).instances == 600  # Knative's figure


def test_an_average_at_the_edge_of_two_counts_does_not_swing() -> None:
    assert decide(load(70.5), 8).instances == 8
    assert decide(load(69.5), 8).instances == 8
    assert decide(load(63.0), 8).instances == 7


def test_from_zero_the_first_request_is_enough_and_many_want_more() -> None:
    one = decide(load(0.0, 0.0, in_hand=1), 0)
    assert (one.instances, one.reason) == (1, Reason.FROM_ZERO)
    assert decide(load(0.0, 0.0, in_hand=100), 0).instances == 10


def test_to_zero_after_a_whole_window_and_grace_without_requests() -> None:
    idle = load(0.0, in_hand=0, idle_s=61.0)
    found = decide(idle, 1)
    assert (found.instances, found.reason) == (1, Reason.GRACE)
    gone = decide(load(0.0, in_hand=0, idle_s=90.0), 1)
    assert (gone.instances, gone.reason) == (0, Reason.TO_ZERO)
    least = Policy(target=10.0, least=1, most=5)
    assert decide(load(0.0, in_hand=0, idle_s=900.0), 1, policy=least).instances == 1


def test_a_delay_keeps_the_largest_of_what_was_wanted_lately() -> None:
    policy = Policy(target=10.0, least=0, most=50, down_delay_s=30.0)
    first = decide(load(80.0), 8, policy=policy)
    low = load(20.0)
    kept = decide(low, 8, policy=policy, memory=first.memory, now=1_029.0)
    assert kept.instances == 8
    assert decide(low, 8, policy=policy, memory=kept.memory, now=1_031.0).instances == 4


def test_after_a_restart_what_there_is_stays_for_one_window() -> None:
    memory = target.first_memory(6, 1_000.0)
    assert decide(load(1.0), 6, memory=memory, now=1_030.0).instances == 6
    assert decide(load(1.0), 6, memory=memory, now=1_061.0).instances == 3
    assert target.first_memory(1, 1_000.0) == Memory()


def test_what_a_deployment_says_becomes_the_policy() -> None:
    spec = DeploymentSpec(
        name="blue",
        endpoint_name="ep-1",
        request_settings=RequestSettings(max_concurrent_requests_per_instance=10),
        scale_settings=ScaleSettings(type="target_utilization", min_instances=0, max_instances=9),
    )
    found = target.policy_of(spec)
    assert found == Policy(target=7.0, least=0, most=9)
    more = ScaleSettings(
        type="target_utilization",
        target_concurrency=2.5,
        stable_window=20,
        panic_window_percentage=50,
        panic_threshold_percentage=150,
        scale_down_delay=5,
        scale_to_zero_grace=0,
        polling_interval=1,
    )
    assert target.policy_of(spec.model_copy(update={"scale_settings": more})) == Policy(
        2.5, 1, 1, stable_s=20, panic_s=10, panic_threshold=1.5, down_delay_s=5, grace_s=0, tick_s=1
    )


LOADS = st.builds(
    load,
    st.floats(0, 500),
    st.floats(0, 500),
    in_hand=st.integers(0, 1_000),
    idle_s=st.floats(0, 500),
    service_s=st.one_of(st.none(), st.floats(0.001, 10)),
    demand=st.one_of(st.none(), st.floats(0, 500)),
)
MEMORIES = st.builds(Memory, st.one_of(st.none(), st.floats(800, 1_000)))


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    least, most = sorted((draw(st.integers(0, 50)), draw(st.integers(1, 50))))
    delay = draw(st.sampled_from([0.0, 30.0]))
    return Policy(draw(st.floats(0.1, 100)), least, most, down_delay_s=delay)


@given(policies(), st.one_of(st.none(), LOADS), MEMORIES, st.integers(0, 60), st.integers(0, 60))
def test_the_count_stays_within_its_bounds(
    policy: Policy, now_load: Load | None, memory: Memory, count: int, ready: int
) -> None:
    found = target.decide(policy, now_load, memory, count, ready, 1_000.0)
    assert policy.least <= found.instances <= policy.most


@given(policies(), MEMORIES, st.integers(0, 60))
def test_without_data_nothing_changes_but_into_the_bounds(
    policy: Policy, memory: Memory, count: int
) -> None:
    found = target.decide(policy, None, memory, count, count, 1_000.0)
    assert found.instances == max(policy.least, min(policy.most, count))
    assert found.memory == memory


@given(policies(), LOADS, MEMORIES, st.integers(1, 50))
def test_while_requests_are_in_hand_there_is_an_instance(
    policy: Policy, now_load: Load, memory: Memory, count: int
) -> None:
    found = target.decide(policy, now_load, memory, count, count, 1_000.0)
    assert found.instances >= 1 or not now_load.in_hand


# --- both together -----------------------------------------------------------------------------

LATENCY = rule("RequestLatency > 100", "Increase", 2, cooldown=60)


def both(
    readings: tuple[float | Unread, ...], stable: float, count: int, **more: float
) -> core.Decision:
    one = profile(LATENCY, bounds=(2, 6, 2))
    seen = core.Situation(
        1_000.0, count, count, POLICY, load(stable), profile=one, readings=readings, **more
    )
    return core.decide(seen)[0]


def test_a_profile_gives_the_bounds_of_the_target() -> None:
    assert both((0.0,), 0.0, 2).count == 2
    assert both((0.0,), 400.0, 4).count == 6
    assert both((0.0,), 0.0, 1).reason is Reason.BOUNDS


def test_a_rule_may_add_to_what_the_target_wants_and_keeps_it_for_its_cooldown() -> None:
    out = both((150.0,), 20.0, 3)
    assert (out.count, out.reason, out.cooldown_s) == (5, Reason.SCALE_OUT, 60)
    kept = both((50.0,), 20.0, 5, cooldown_until=1_030.0)
    assert (kept.count, kept.reason, kept.wanted) == (5, Reason.COOLDOWN, 3)
    assert both((50.0,), 20.0, 5).count == 3
    assert both((150.0,), 60.0, 3).count == 6  # the target wants more than the rule


# --- over time ---------------------------------------------------------------------------------


def step_load(at_s: float) -> float:
    """Requests of 50 ms: worth one instance at 70 %, and then eight."""
    return 13.0 if at_s < 300 else 110.0


@pytest.mark.parametrize("seed", range(5))
def test_a_step_from_one_to_eight(seed: int) -> None:
    """At the wanted count within ten seconds, turning at most once in five minutes."""
    scenario = Scenario(
        step_load, 600.0, Policy(0.7, 1, 20), service_s=0.05, startup_s=1.0, held_max=1_000
    )
    trace = simulate(scenario, Random(seed))
    reached = next(at for at, _, count in trace.changes if count >= 8)
    assert 300.0 <= reached <= 310.0
    assert trace.reversals(300.0, 600.0) <= 1
    assert trace.refused <= 0.001 * trace.requests
    assert max(count for _, _, count in trace.changes) <= 10


def test_slow_starts_do_not_undo_a_scale_out() -> None:
    scenario = Scenario(
        step_load, 600.0, Policy(0.7, 1, 50), service_s=0.05, startup_s=40.0, held_max=10_000
    )
    trace = simulate(scenario, Random(1))
    while_starting = [change for change in trace.changes if 300 <= change[0] < 340]
    assert while_starting and all(after > before for _, before, after in while_starting)


def test_a_day_in_a_moment() -> None:
    """From nothing at night to sixty instances' worth at noon and back, all answered."""

    def rate(at_s: float) -> float:
        return 100.0 * (1 - math.cos(2 * math.pi * at_s / 86_400))

    scenario = Scenario(rate, 86_400.0, Policy(7.0, 0, 50), service_s=0.5, slots=10, held_max=1_000)
    trace = simulate(scenario, Random(3))
    assert trace.refused == 0
    peak = max(trace.samples, key=lambda sample: sample.instances)
    assert 14 <= peak.instances <= 18 and 36_000 < peak.at_s < 50_000
    hours = trace.instance_s / 3_600
    assert 24 * 100 * 0.5 / 7 <= hours <= 1.25 * 24 * 100 * 0.5 / 7


def test_a_schedule_warms_up_before_the_load_comes_and_lets_go_after_it() -> None:
    """A profile for the mornings over a deployment that has no instance at night."""
    week = tuple(Weekday)
    night = profile(name="night", bounds=(0, 20, 0), weekly=("UTC", week, 12, 0))
    morning = profile(name="morning", bounds=(5, 20, 5), weekly=("UTC", week, 7, 55))
    scenario = Scenario(
        lambda at_s: 0.0,
        86_400.0,
        Policy(0.7, 0, 20),
        setting(night, morning),
        count=0,
        starts_at=at("2030-01-07 00:00"),
    )
    trace = simulate(scenario)
    assert trace.changes[0] == (7 * 3_600 + 55 * 60, 0, 5)
    assert trace.changes[-1][2] == 0
    assert 12 * 3_600 <= trace.changes[-1][0] <= 12 * 3_600 + 120


def test_rules_go_up_with_the_load_and_down_after_it_without_flapping() -> None:
    spec = setting(
        profile(
            rule("CpuUtilizationPercentage > 70", "Increase", 2, cooldown=60),
            rule("CpuUtilizationPercentage < 40", "Decrease", 1, cooldown=60),
            bounds=(1, 20, 1),
        )
    )
    scenario = Scenario(
        lambda at_s: 10.0 if at_s < 1_800 or at_s > 5_400 else 100.0,
        10_800.0,
        spec=spec,
        service_s=0.05,
    )
    trace = simulate(scenario)
    assert trace.reversals() == 1
    assert max(count for _, _, count in trace.changes) <= 13
    gaps = [later[0] - earlier[0] for earlier, later in pairwise(trace.changes)]
    assert min(gaps) >= 60


def step_of_clients(at_s: float) -> float:
    """Clients that wait for their answers: worth one instance, and then eight."""
    return 0.6 if at_s < 300 else 5.5


@pytest.mark.parametrize("startup_s", [1.0, 4.0, 20.0])
@pytest.mark.parametrize("service_s", [0.01, 0.05, 0.5])
def test_clients_that_wait_get_what_they_would_use(service_s: float, startup_s: float) -> None:
    """They send no more than is served, so their arrivals say nothing of what they would send."""
    scenario = Scenario(
        lambda at_s: 0.0,
        600.0,
        Policy(0.7, 1, 20),
        service_s=service_s,
        startup_s=startup_s,
        clients=step_of_clients,
        held_max=100,
    )
    trace = simulate(scenario)
    reached = next(at for at, _, count in trace.changes if count == 8)
    assert 300.0 <= reached <= 310.0
    assert trace.reversals(300.0, 600.0) == 0
    assert max(count for _, _, count in trace.changes) == 8


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("startup_s", [1.0, 10.0, 40.0])
def test_a_queue_that_passes_its_peak_is_not_taken_for_clients(seed: int, startup_s: float) -> None:
    scenario = Scenario(
        step_load, 420.0, Policy(0.7, 1, 200), service_s=0.05, startup_s=startup_s, held_max=10_000
    )
    trace = simulate(scenario, Random(seed))
    queue = 110.0 * (startup_s + 4) * scenario.service_s / 6  # its share of what is wanted
    assert max(count for _, _, count in trace.changes) <= (5.5 + queue) / 0.7 + 4


def test_a_standing_queue_at_most_doubles_the_count() -> None:
    standing = load(60.0, service_s=0.05, demand=1.0)._replace(standing=60.0)
    found = decide(standing, 2, policy=Policy(1.0, 1, 100))
    assert (found.instances, found.reason) == (4, Reason.PANIC)
    alone = decide(standing._replace(standing=None), 2, policy=Policy(1.0, 1, 100))
    assert alone.instances == 2  # how long the queue would take is no reason for more
    more_ready = decide(standing, 2, ready=4, policy=Policy(1.0, 1, 100))
    assert more_ready.instances == 8  # those that are leaving serve it, too


def test_a_queue_that_stands_does_not_hide_what_comes_besides() -> None:
    assert decide(load(20.0, 80.0)._replace(standing=10.0), 4).instances == 8
