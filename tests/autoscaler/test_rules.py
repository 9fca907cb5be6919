"""Azure's rules: each quirk as a scenario, and what holds whatever the rules are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.settings import SIGNS, profile, rule
from headgate.autoscaler import rules
from headgate.autoscaler.values import Decision, Reading, Reason, Unread
from headgate_contracts.autoscale import Profile, Rule

CPU_HIGH = rule("CpuUtilizationPercentage > 70", "Increase", 2, cooldown=120)
CPU_LOW = rule("CpuUtilizationPercentage < 25", "Decrease", 1, cooldown=240)
SLOW = rule("RequestLatency > 70", "Increase", 1, cooldown=60, resource="endpoints/ep-1")
FAST = rule("RequestLatency < 20", "Decrease", 3, resource="endpoints/ep-1")


def decide(
    one: Profile, readings: tuple[Reading, ...], count: int, cooldown_until: float = 0.0
) -> Decision:
    return rules.decide(one, readings, count, 1_000.0, cooldown_until)


def test_one_rule_is_enough_to_scale_out() -> None:
    found = decide(profile(CPU_HIGH, SLOW), (80.0, 10.0), 3)
    assert (found.count, found.reason, found.cooldown_s) == (5, Reason.SCALE_OUT, 120)


def test_of_several_that_scale_out_the_largest_result_counts_and_its_cooldown() -> None:
    found = decide(profile(SLOW, CPU_HIGH), (80.0, 80.0), 3)
    assert (found.count, found.cooldown_s) == (5, 120)


def test_all_rules_must_agree_to_scale_in() -> None:
    both = profile(CPU_LOW, FAST)
    assert decide(both, (20.0, 30.0), 5).reason is Reason.STEADY
    assert decide(both, (20.0, 10.0), 5).count == 4


def test_of_several_that_scale_in_the_smallest_step_counts() -> None:
    found = decide(profile(FAST, CPU_LOW), (10.0, 20.0), 8)
    assert (found.count, found.reason, found.cooldown_s) == (7, Reason.SCALE_IN, 240)


def test_out_goes_before_in() -> None:
    found = decide(profile(CPU_LOW, SLOW), (20.0, 80.0), 5)
    assert (found.count, found.reason) == (6, Reason.SCALE_OUT)


def test_the_cooldown_of_the_last_action_blocks_both_directions() -> None:
    for readings in ((80.0, 80.0), (10.0, 10.0)):
        held = decide(profile(CPU_HIGH, CPU_LOW), readings, 5, cooldown_until=1_030.0)
        assert (held.count, held.reason) == (5, Reason.COOLDOWN)
        assert "30 s of cooldown are left" in held.message
        assert held.wanted != 5
        assert decide(profile(CPU_HIGH, CPU_LOW), readings, 5, cooldown_until=1_000.0).count != 5


def test_no_scale_in_that_would_be_undone_at_once() -> None:
    """Azure's example: 40 % on two is 80 % on one, which is above 70."""
    low = rule("CpuUtilizationPercentage < 50", "Decrease", 1)
    found = decide(profile(CPU_HIGH, low), (40.0, 40.0), 2)
    assert (found.count, found.reason, found.wanted) == (2, Reason.FLAPPING, 1)
    assert "would be 80 with 1" in found.message
    assert decide(profile(CPU_HIGH, low), (30.0, 30.0), 2).count == 1


def test_a_smaller_step_is_taken_where_the_whole_one_would_flap() -> None:
    low = rule("CpuUtilizationPercentage < 50", "Decrease", 4)
    found = decide(profile(CPU_HIGH, low), (40.0, 40.0), 6)
    assert (found.count, found.reason) == (4, Reason.SCALE_IN)  # 60 % on four, 80 % on three
    assert "to avoid flapping" in found.message


def test_totals_are_not_projected() -> None:
    """Fewer instances do not change how many requests come in."""
    many = rule("RequestsPerMinute > 100", "Increase", 1)
    few = rule("RequestsPerMinute < 90", "Decrease", 1)
    assert decide(profile(many, few), (80.0, 80.0), 2).count == 1
    shared = (
        rule("RequestsPerMinute > 100", "Increase", 1, divide_per_instance=True),
        rule("RequestsPerMinute < 90", "Decrease", 1, divide_per_instance=True),
    )
    assert decide(profile(*shared), (80.0, 80.0), 2).reason is Reason.FLAPPING


def test_bounds_end_a_change_and_the_limit_is_told() -> None:
    small = profile(CPU_HIGH, CPU_LOW, bounds=(2, 4, 2))
    assert decide(small, (80.0, 80.0), 3).count == 4
    top = decide(small, (80.0, 80.0), 4)
    assert (top.count, top.reason, top.wanted) == (4, Reason.AT_LIMIT, 6)
    assert decide(small, (10.0, 10.0), 2).reason is Reason.AT_LIMIT


def test_a_count_outside_the_bounds_is_brought_back_whoever_set_it() -> None:
    capacity = profile(bounds=(2, 4, 2)).capacity
    for count, within in ((1, 2), (9, 4), (0, 2)):
        found = rules.enforce(capacity, count)
        assert found is not None
        assert (found.count, found.reason, found.cooldown_s) == (within, Reason.BOUNDS, 0)
    assert rules.enforce(capacity, 3) is None


def test_metrics_that_cannot_be_read_bring_the_count_up_to_the_default_and_never_down() -> None:
    one = profile(CPU_HIGH, CPU_LOW, bounds=(1, 10, 3))
    unread: tuple[Reading, ...] = (Unread.NO_DATA, Unread.NO_DATA)
    found = decide(one, unread, 2)
    assert (found.count, found.reason) == (3, Reason.DEFAULT)
    kept = decide(one, unread, 5)
    assert (kept.count, kept.reason) == (5, Reason.NO_DATA)


def test_a_window_that_fills_changes_nothing() -> None:
    one = profile(CPU_HIGH, CPU_LOW, bounds=(1, 10, 3))
    assert decide(one, (Unread.YOUNG, Unread.YOUNG), 2).count == 2


def test_nothing_to_measure_is_neither_high_nor_low() -> None:
    """The latency of an endpoint without requests: no reason to take instances away."""
    one = profile(SLOW, FAST)
    assert decide(one, (Unread.IDLE, Unread.IDLE), 5).reason is Reason.STEADY
    assert decide(profile(CPU_LOW, SLOW), (10.0, Unread.IDLE), 5).count == 4


def test_who_cannot_see_whether_fewer_are_enough_keeps_what_there_is() -> None:
    found = decide(profile(CPU_LOW, SLOW), (10.0, Unread.NO_DATA), 5)
    assert (found.count, found.reason) == (5, Reason.NO_DATA)


@pytest.mark.parametrize(
    ("kind", "direction", "value", "count", "after"),
    [
        ("ChangeCount", "Increase", 2, 3, 5),
        ("ChangeCount", "Decrease", 5, 3, 0),
        ("PercentChangeCount", "Increase", 50, 3, 5),
        ("PercentChangeCount", "Increase", 10, 3, 4),  # at least one
        ("PercentChangeCount", "Increase", 200, 2, 6),
        ("PercentChangeCount", "Decrease", 25, 8, 6),
        ("PercentChangeCount", "Decrease", 1, 8, 7),
        ("PercentChangeCount", "Increase", 0, 8, 8),
        ("ExactCount", "Increase", 7, 3, 7),
        ("ExactCount", "Increase", 2, 3, 3),  # never the wrong way
        ("ExactCount", "Decrease", 2, 3, 2),
        ("ExactCount", "Decrease", 7, 3, 3),
    ],
)
def test_actions(kind: str, direction: str, value: int, count: int, after: int) -> None:
    one = rule("CpuUtilizationPercentage > 1", direction, value, type=kind)
    assert rules.count_after(one.action, count) == after


@pytest.mark.parametrize(
    ("sign", "below", "equal", "above"),
    [
        (">", False, False, True),
        (">=", False, True, True),
        ("<", True, False, False),
        ("<=", True, True, False),
        ("==", False, True, False),
        ("!=", True, False, True),
    ],
)
def test_operators(sign: str, below: bool, equal: bool, above: bool) -> None:
    trigger = rule(f"CpuUtilizationPercentage {sign} 5").trigger
    assert [rules.fires(trigger, v) for v in (4.0, 5.0, 6.0)] == [below, equal, above]


READINGS = st.one_of(st.floats(0, 200), st.sampled_from(Unread))
RULES = st.builds(
    rule,
    st.builds(
        "{} {} {}".format,
        st.sampled_from(["CpuUtilizationPercentage", "RequestsPerMinute", "RequestLatency"]),
        st.sampled_from([*SIGNS]),
        st.integers(0, 150),
    ),
    st.sampled_from(["Increase", "Decrease"]),
    st.integers(0, 60),
    type=st.sampled_from(["ChangeCount", "PercentChangeCount", "ExactCount"]),
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Profile, tuple[Reading, ...], int]:
    some = draw(st.lists(RULES, max_size=5))
    least, default, most = sorted(draw(st.lists(st.integers(1, 50), min_size=3, max_size=3)))
    one = profile(*some, bounds=(least, most, default))
    readings = tuple(draw(READINGS) for _ in some)
    return one, readings, draw(st.integers(least, most))


@given(cases(), st.floats(0, 2_000))
def test_the_count_stays_within_its_bounds(
    case: tuple[Profile, tuple[Reading, ...], int], cooldown_until: float
) -> None:
    one, readings, count = case
    found = decide(one, readings, count, cooldown_until)
    assert one.capacity.minimum <= found.count <= one.capacity.maximum


@given(cases())
def test_without_data_nothing_is_taken_away(
    case: tuple[Profile, tuple[Reading, ...], int],
) -> None:
    one, readings, count = case
    for unread in (Unread.NO_DATA, Unread.YOUNG):
        assert decide(one, (unread,) * len(readings), count).count >= count
        for blind in range(len(readings)):
            some = (*readings[:blind], unread, *readings[blind + 1 :])
            assert decide(one, some, count).count >= count


@given(cases(), st.floats(1_000.5, 2_000))
def test_within_a_cooldown_no_rule_changes_anything(
    case: tuple[Profile, tuple[Reading, ...], int], until: float
) -> None:
    one, readings, count = case
    found = decide(one, readings, count, until)
    assert found.count == count or found.reason is Reason.DEFAULT


@given(cases())
def test_what_is_taken_away_is_not_asked_back_at_once(
    case: tuple[Profile, tuple[Reading, ...], int],
) -> None:
    """After a scale-in, with the metrics as they are projected, no rule scales out."""
    one, readings, count = case
    found = decide(one, readings, count)
    if found.count >= count:
        return
    then = tuple(
        r if isinstance(r, Unread) else rules.projected(each.trigger, r, count, found.count)
        for each, r in zip(one.rules, readings, strict=True)
    )
    assert decide(one, then, found.count).reason is not Reason.SCALE_OUT


@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_rules_does_not_matter(
    case: tuple[Profile, tuple[Reading, ...], int], dice: object
) -> None:
    one, readings, count = case
    pairs: list[tuple[Rule, Reading]] = list(zip(one.rules, readings, strict=True))
    dice.shuffle(pairs)  # type: ignore[attr-defined]
    other = one.model_copy(update={"rules": tuple(each for each, _ in pairs)})
    assert (
        decide(other, tuple(r for _, r in pairs), count).count == decide(one, readings, count).count
    )
