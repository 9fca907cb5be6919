"""The router's decisions: shares, instances, admission, budgets, clocks."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.router import core
from headgate.router.clock_offset import ClockOffset
from headgate.router.core import Plan, Refusal
from headgate.router.requests import copies_max
from headgate_contracts import limits
from headgate_contracts.scoring import DeploymentRoute, Route

dice = st.floats(min_value=0, max_value=1, exclude_max=True)
names = st.sampled_from(["blue", "green", "red", "grey"])
weights = st.dictionaries(names, st.integers(0, 100), max_size=4)


def route(traffic: dict[str, int], mirror: dict[str, int] | None = None, *more: str) -> Route:
    deployments = {name: DeploymentRoute() for name in {*traffic, *(mirror or {}), *more}}
    return Route(
        workspace="local",
        endpoint="digits",
        traffic=traffic,
        mirror_traffic=mirror or {},
        deployments=deployments,
    )


@given(weights, dice)
def test_only_deployments_with_weight_are_picked(shares: dict[str, int], at: float) -> None:
    picked = core.pick_by_weight(shares, at)
    if any(shares.values()):
        assert shares[picked] > 0
    else:
        assert picked == ""


@given(weights)
def test_each_deployment_gets_its_share_of_evenly_spread_dice(shares: dict[str, int]) -> None:
    total = sum(shares.values())
    picked = Counter(core.pick_by_weight(shares, (i + 0.5) / total) for i in range(total))
    assert picked == Counter({name: weight for name, weight in shares.items() if weight})


def test_the_share_of_ten_percent_stays_inside_its_band() -> None:
    """An honest split leaves this band once in a million tries."""
    rng = random.Random(20260101)
    table = route({"blue": 90, "green": 10})
    plans = [core.choose(table, "", rng.random(), rng.random()) for _ in range(10_000)]
    assert 856 <= sum(plan == Plan("green") for plan in plans) <= 1_150


def test_copies_that_wait_are_bounded_in_number_and_in_bytes() -> None:
    assert copies_max(100) == limits.MIRROR_WAITING_MAX
    for body_bytes in (0, 1_000, 10**6, limits.SCORING_BODY_BYTES_MAX, limits.BODY_BYTES_MAX):
        waiting = copies_max(body_bytes)
        assert waiting * body_bytes <= limits.MIRROR_WAITING_BYTES_MAX
    assert copies_max(limits.SCORING_BODY_BYTES_MAX) >= 1


def test_mirrors_are_sampled_apart_from_the_primary() -> None:
    rng = random.Random(20260102)
    table = route({"blue": 50, "green": 50}, {"shadow": 10})
    plans = [core.choose(table, "", rng.random(), rng.random()) for _ in range(10_000)]
    mirrored = [plan for plan in plans if isinstance(plan, Plan) and plan.mirror]
    assert 856 <= len(mirrored) <= 1_150
    blue = sum(plan.primary == "blue" for plan in mirrored)
    assert 0.4 < blue / len(mirrored) < 0.6


@given(weights, weights, dice, dice, names)
def test_a_named_deployment_is_reached_whatever_its_share_and_is_not_mirrored(
    traffic: dict[str, int], mirror: dict[str, int], at: float, mirror_at: float, wanted: str
) -> None:
    table = route(traffic, mirror)
    plan = core.choose(table, wanted.upper(), at, mirror_at)
    if wanted in table.deployments:
        assert plan == Plan(wanted)
    else:
        assert isinstance(plan, Refusal)
        assert plan.status == 404


@pytest.mark.parametrize("wanted", ["nobody", "gre*", ">", "g" * 10_000, "blue,green", "*"])
def test_an_unknown_name_is_404(wanted: str) -> None:
    refusal = core.choose(route({"blue": 100, "green": 0}), wanted, 0.5, 0.5)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (404, "DeploymentNotFound")
    assert len(refusal.message) < 300


@pytest.mark.parametrize("traffic", [{}, {"blue": 0}, {"blue": 0, "green": 0}])
def test_without_positive_weight_there_is_no_traffic(traffic: dict[str, int]) -> None:
    refusal = core.choose(route(traffic), "", 0.0, 0.0)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (404, "NoTraffic")


def test_a_share_of_a_deployment_that_is_gone_goes_to_the_others() -> None:
    table = route({"blue": 50}).model_copy(update={"traffic": {"gone": 50, "blue": 50}})
    assert {core.choose(table, "", i / 100, 0.5) for i in range(100)} == {Plan("blue")}


@dataclass
class Seat:
    in_flight: int = 0
    capacity: int = 1
    others: int = 0
    held: bool = False


seats = st.lists(
    st.builds(Seat, st.integers(0, 4), st.integers(1, 4), st.integers(0, 8), st.booleans()),
    max_size=8,
)


@given(seats, st.integers(0, 1_000))
def test_an_instance_with_room_is_found_if_there_is_one(ready: list[Seat], turn: int) -> None:
    room = [s for s in ready if not s.held and s.in_flight < s.capacity]
    picked = core.pick_instance(ready, turn)
    assert (picked is None) == (not room)
    if picked is not None:
        assert picked in room
        load = (picked.in_flight + picked.others) / picked.capacity
        assert load == min((s.in_flight + s.others) / s.capacity for s in room)


def test_equal_instances_take_turns() -> None:
    ready = [Seat() for _ in range(4)]
    picked = Counter(id(core.pick_instance(ready, turn)) for turn in range(400))
    assert set(picked.values()) == {100}


def admit(route: DeploymentRoute, held_bytes: int = 0, **seen: int) -> core.Refusal | None:
    return core.admit("blue", route, held_bytes=held_bytes, mean_ms=100.0, startup_s=7.5, **seen)


@given(st.integers(0, 100), st.integers(0, 20), st.integers(1, 4))
def test_pending_requests_are_at_most_twice_the_slots(waiting: int, ready: int, each: int) -> None:
    slots = ready * each
    refusal = admit(DeploymentRoute(), ready=ready, slots=slots, waiting=waiting)
    if not ready:
        assert refusal is not None
        assert (refusal.status, refusal.retry_after_s) == (503, 1)
    elif waiting < 2 * slots:
        assert refusal is None
    else:
        assert refusal is not None
        assert refusal.status == 429


def test_while_it_can_grow_more_may_wait_and_at_its_largest_azures_rule_holds() -> None:
    growing = DeploymentRoute(held_max=100, hold_s=60, instances_max=4)
    assert admit(growing, ready=3, slots=3, waiting=99) is None
    assert admit(growing, ready=3, slots=3, waiting=100) is not None
    assert admit(growing, ready=3, slots=60, waiting=119) is None
    assert admit(growing, ready=4, slots=4, waiting=8) is not None


def test_requests_are_held_for_a_first_instance_within_bounds() -> None:
    growing = DeploymentRoute(held_max=100, hold_s=60, instances_max=4)
    assert admit(growing, ready=0, slots=0, waiting=99) is None
    for refusal in (
        admit(growing, ready=0, slots=0, waiting=100),
        admit(growing, ready=0, slots=0, waiting=1, held_bytes=limits.HELD_BYTES_MAX),
    ):
        assert refusal is not None
        assert (refusal.status, refusal.retry_after_s) == (429, 8)
    stopped = growing.model_copy(update={"is_stopped": True})
    refusal = admit(stopped, ready=0, slots=0, waiting=0)
    assert refusal is not None and refusal.code == "DeploymentStopped"


@pytest.mark.parametrize(
    ("waiting", "slots", "mean_ms", "seconds"),
    [(2, 1, 0, 1), (20, 10, 1_500, 3), (20, 1, 600, 12), (2_000, 1, 600, 30), (1, 0, 1_000, 1)],
)
def test_retry_after_is_the_time_to_work_off_the_queue(
    waiting: int, slots: int, mean_ms: float, seconds: int
) -> None:
    assert core.retry_after_s(waiting, slots, mean_ms) == seconds


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("", 5_000), ("300", 300), ("5001", 5_000), ("315360000000", 5_000)],
)
def test_a_client_may_shorten_its_time_but_not_extend_it(asked: str, expected: int) -> None:
    assert core.deadline_ms(5_000, asked) == expected


@pytest.mark.parametrize(
    ("asked", "status"), [("0", 408), ("-20", 408), ("soon", 400), ("1.5", 400), ("9" * 30, 400)]
)
def test_a_time_that_is_over_or_makes_no_sense_is_refused(asked: str, status: int) -> None:
    refusal = core.deadline_ms(5_000, asked)
    assert isinstance(refusal, Refusal)
    assert refusal.status == status


def test_small_loads_get_their_retries_and_large_ones_a_tenth() -> None:
    budget = core.RetryBudget()
    for _ in range(20):
        budget.note_request(100.0)
    assert [budget.take(100.0) for _ in range(12)] == [True] * 10 + [False] * 2
    for _ in range(980):
        budget.note_request(101.0)
    assert sum(budget.take(101.0) for _ in range(200)) == 90
    assert not budget.take(112.0)
    assert sum(budget.take(140.0) for _ in range(200)) == core.RETRY_FLOOR


def test_the_clock_offset_is_the_smallest_of_the_last_heartbeats() -> None:
    offset = ClockOffset()
    for delay in (30.0, 0.5, 80.0):
        offset.note(1_000.0 + delay, 400.0)
    assert offset.ms == 600.5
    for _ in range(2 * ClockOffset.WINDOW_BEATS):
        offset.note(5_000.0, 4_000.0)  # the other clock runs slower by now
    assert offset.ms == 1_000.0


@given(st.lists(st.binary(max_size=40), max_size=3), st.binary(max_size=40))
def test_a_key_opens_only_where_its_digest_is_known(keys: list[bytes], presented: bytes) -> None:
    digests = tuple(sha256(key).digest() for key in keys)
    digest = sha256(presented).digest()
    assert core.is_authorized(digest, digests) == (presented in keys)
    assert not core.is_authorized(digest, None)


@pytest.mark.parametrize("digests", [(sha256(b"a").digest(), sha256(b"b").digest()), None])
def test_the_same_work_is_done_whatever_the_key(
    digests: tuple[bytes, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a timing attack would measure, counted: comparisons, each of two digests in full."""
    compared: list[tuple[int, int]] = []

    def counted(left: bytes, right: bytes) -> bool:
        compared.append((len(left), len(right)))
        return compare_digest(left, right)

    monkeypatch.setattr(core.hmac, "compare_digest", counted)
    for presented in (b"", b"a", b"b", b"a" * 4096, b"\0", sha256(b"a").digest()):
        compared.clear()
        core.is_authorized(sha256(presented).digest(), digests)
        assert compared == [(32, 32)] * 2, presented[:10]


def test_an_unknown_endpoint_has_no_key_at_all() -> None:
    assert not core.is_authorized(bytes(32), None)
    assert not core.is_authorized(bytes(32), ())
