"""What fits on a machine, as values: sizes, room, shortages, roll-outs without room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.azure import instance_types
from headgate.provisioner import capacity, core, fitting
from headgate.provisioner.capacity import Holding, Ledger, Room, Size, size_of
from headgate.provisioner.drivers import Limits
from headgate.provisioner.fitting import Fitted
from headgate.provisioner.values import (
    Ending,
    EndKind,
    Observed,
    Start,
    State,
    Stop,
    Version,
    Wanted,
)
from headgate_contracts.errors import ErrorCode
from headgate_contracts.instance_types import InstanceType

GIB = 1024**3
NOW = 1_000.0
NEW = Version("new", prepared=True, budget_s=310)
OLD = Version("old", prepared=True, budget_s=310)
LARGE = Size("large", Limits(2, 4 * GIB, 0), Limits(2, 4 * GIB, 0))
SMALL = Size("small", Limits(1, 1 * GIB, 0), Limits(1, 1 * GIB, 0))
HOST = Limits(8, 16 * GIB, 0)  # four large ones
TYPES = instance_types.load()


def room(total: Limits = HOST, new: Size = LARGE, old: Size = LARGE, **taken: Limits) -> Room:
    return Room(total, sizes={"new": new, "old": old}, **taken)


def instance(name: str, state: State = State.READY, spec: str = "new", slot: int = 0) -> Observed:
    return Observed(name, spec, slot, state, started_at=NOW - 50, heard_at=NOW)


def running(count: int, spec: str = "new", state: State = State.READY) -> list[Observed]:
    return [instance(f"{spec}{slot}", state, spec, slot) for slot in range(count)]


def crashed(slot: int, spec: str = "new") -> Observed:
    ending = Ending(EndKind.CRASH, ErrorCode.RESOURCE_NOT_READY, "it ended")
    found = instance(f"dead{slot}", State.ENDED, spec, slot)
    return replace(found, ended_at=NOW - 1, ending=ending, failures=2)


def wanted(count: int, **changes: object) -> Wanted:
    return replace(Wanted(count, NEW, hearing_since=0.0), **changes)  # type: ignore[arg-type]


def fit(want: Wanted, here: Sequence[Observed], where: Room) -> Fitted:
    return fitting.fitted(core.reconcile(want, here, NOW), want, here, where)


def starts(found: Fitted) -> int:
    return sum(isinstance(action, Start) for action in found.decision.actions)


def stops(found: Fitted) -> list[str]:
    return [action.instance for action in found.decision.actions if isinstance(action, Stop)]


# --- sizes -------------------------------------------------------------------------------------


def test_a_promise_is_counted_in_full_whatever_the_machine_has() -> None:
    size = size_of(TYPES.find("xlarge"), Limits(2, 4 * GIB, 0), strict=False)
    assert size.limits == size.counted == Limits(4, 8 * GIB, 0)


def test_an_elastic_size_is_cut_to_the_machine_and_hardly_counts() -> None:
    size = size_of(TYPES.find("Standard_DS3_v2"), Limits(2, 8 * GIB, 0), strict=False)
    assert size.limits == Limits(2, 8 * GIB, 0)
    assert size.counted == Limits(0, capacity.ELASTIC_MEMORY_BYTES, 0)


def test_strict_capacity_takes_every_size_at_its_word() -> None:
    size = size_of(TYPES.find("Standard_DS3_v2"), Limits(2, 8 * GIB, 0), strict=True)
    assert size.counted == Limits(4, 14 * GIB, 0)


def test_gpus_of_elastic_sizes_are_counted() -> None:
    size = size_of(TYPES.find("Standard_NC6s_v3"), Limits(2, 8 * GIB, 0), strict=False)
    found = fit(wanted(1), [], room(Limits(2, 8 * GIB, 0), new=size))
    assert starts(found) == 0
    error = found.decision.report.error
    assert error is not None and error.code is ErrorCode.OUT_OF_QUOTA
    assert "needs 1 GPU, free: 0 of 0 GPUs" in error.message


# --- starts ------------------------------------------------------------------------------------


def test_what_fits_is_started_and_the_rest_waits_with_numbers() -> None:
    found = fit(wanted(6), [], room(others=Limits(1, 2 * GIB, 0)))
    assert starts(found) == 3
    report = found.decision.report
    assert report.outcome == "failed"
    assert report.error is not None
    assert report.error.code is ErrorCode.OUT_OF_QUOTA
    for part in ("'large'", "2 cores and 4 GiB", "1 of 8 cores, 2 GiB of 16 GiB"):
        assert part in report.error.message
    assert found.holding.taken == Limits(6, 12 * GIB, 0)


def test_it_is_tried_again_when_room_appears() -> None:
    here = running(3)
    assert starts(fit(wanted(4), here, room(others=Limits(1, 1 * GIB, 0)))) == 0
    found = fit(wanted(4), here, room())
    assert starts(found) == 1
    assert found.decision.report.outcome == "progressing"


def test_room_that_is_about_to_become_free_is_waited_for() -> None:
    others = Limits(8, 16 * GIB, 0)
    found = fit(wanted(1), [], room(others=others, leaving=Limits(2, 4 * GIB, 0)))
    assert starts(found) == 0
    assert found.decision.report.outcome == "progressing"


def test_a_slot_keeps_its_room_while_it_waits_for_its_restart() -> None:
    here = [*running(1), crashed(1)]
    found = fit(wanted(2, proven=True, settled=True), here, room())
    assert found.holding.taken == Limits(4, 8 * GIB, 0)
    # Even where others have taken too much meanwhile.
    full = room(others=HOST)
    later = fitting.fitted(
        core.reconcile(wanted(2, proven=True, settled=True), here, NOW + 500),
        wanted(2, proven=True, settled=True),
        here,
        full,
    )
    assert starts(later) == 1


def test_an_instance_that_is_stopped_holds_its_room_until_it_has_ended() -> None:
    here = [instance("a", State.STOPPING)]
    found = fit(wanted(0), here, room())
    assert found.holding == Holding(LARGE.counted, LARGE.counted)
    assert fit(wanted(0), [], room()).holding == Holding()


def test_too_large_for_the_machine_is_said_before_anything_is_prepared() -> None:
    huge = Size("huge", Limits(64, 432 * GIB, 0), Limits(64, 432 * GIB, 0))
    target = replace(NEW, prepared=False)
    found = fit(wanted(1, target=target), [], room(new=huge))
    error = found.decision.report.error
    assert error is not None
    assert "64 cores and 432 GiB" in error.message
    assert "8 of 8 cores, 16 GiB of 16 GiB" in error.message


# --- roll-outs ---------------------------------------------------------------------------------


def test_a_roll_out_with_room_starts_its_surge_first() -> None:
    found = fit(wanted(3, fallback=OLD), running(3, "old"), room())
    assert (starts(found), stops(found)) == (1, [])


def test_a_roll_out_without_room_gives_up_one_old_instance_for_each_new_one() -> None:
    want = wanted(4, fallback=OLD)
    found = fit(want, running(4, "old"), room())
    assert (starts(found), len(stops(found))) == (0, 1)
    assert found.decision.report.outcome == "progressing"
    # While it ends nothing more is given up, and then the new one starts.
    gone = stops(found)[0]
    ending = [replace(i, state=State.STOPPING) if i.id == gone else i for i in running(4, "old")]
    assert not stops(fit(want, ending, room()))
    left = [i for i in ending if i.id != gone]
    assert starts(fit(want, left, room())) == 1
    # Until it is ready, the others stay.
    assert not stops(fit(want, [*left, *running(1, state=State.STARTING)], room()))


def test_a_larger_version_takes_the_place_of_several() -> None:
    want = wanted(8, fallback=OLD)
    where = room(Limits(8, 8 * GIB, 0), new=LARGE, old=SMALL)
    assert len(stops(fit(want, running(8, "old"), where))) == 4


def test_the_last_ready_instance_is_never_given_up() -> None:
    found = fit(wanted(1, fallback=OLD), running(1, "old"), room(LARGE.counted))
    assert stops(found) == []
    assert found.decision.report.outcome == "failed"
    assert found.decision.report.ready_instances == 1
    error = found.decision.report.error
    assert error is not None and error.code is ErrorCode.OUT_OF_QUOTA


def test_nothing_is_given_up_for_a_version_that_would_not_fit_even_then() -> None:
    huge = Size("huge", Limits(64, 64 * GIB, 0), Limits(64, 64 * GIB, 0))
    found = fit(wanted(4, fallback=OLD), running(4, "old"), room(new=huge))
    assert stops(found) == []
    assert found.decision.report.outcome == "failed"


@pytest.mark.parametrize("count", range(2, 9))
def test_a_roll_out_without_room_comes_to_its_end(count: int) -> None:
    total = Limits(2.0 * count, 4 * GIB * count, 0)
    want = wanted(count, fallback=OLD)
    here = running(count, "old")
    for step in range(10 * count):
        found = fit(want, here, room(total))
        serving = sum(i.state is State.READY for i in here)
        assert serving >= 1
        here = _next(here, found, step)
        assert len(here) <= count
    assert [i.spec for i in here] == ["new"] * count
    assert fit(want, here, room(total)).decision.report.outcome == "succeeded"


def _next(here: Sequence[Observed], found: Fitted, step: int) -> list[Observed]:
    """The world one step later: what was stopped is gone, what was started is ready."""
    gone = set(stops(found))
    after = [replace(i, state=State.READY) for i in here if i.id not in gone]
    for number, action in enumerate(found.decision.actions):
        if isinstance(action, Start):
            name = f"{step}-{number}"
            after.append(instance(name, State.STARTING, action.spec, action.slot))
    return after


# --- many deployments --------------------------------------------------------------------------

_SIZES = st.sampled_from([TYPES.find(name) for name in ("tiny", "small", "medium", "large")])


@given(
    st.lists(st.tuples(_SIZES, st.integers(0, 6)), min_size=1, max_size=6),
    st.floats(0.5, 12),
    st.integers(1, 24),
)
def test_together_they_never_take_more_than_there_is(
    deployments: list[tuple[InstanceType, int]], cores: float, gib: int
) -> None:
    total = Limits(cores, gib * GIB, 0)
    ledger = Ledger(total)
    worlds: list[list[Observed]] = [[] for _ in deployments]
    for step in range(3):
        for number, (kind, count) in enumerate(deployments):
            key = ("e", f"d{number}")
            size = size_of(kind, total, strict=False)
            found = fit(wanted(count), worlds[number], ledger.room_for(key, {"new": size}))
            ledger.claim(key, found.holding)
            worlds[number] = _next(worlds[number], found, step)
            assert (found.decision.report.outcome == "failed") == (
                found.decision.report.error is not None
            )
    taken = ledger.room_for(("e", "nobody"), {}).others
    assert taken.cores <= cores + 1e-3
    assert taken.memory_bytes <= total.memory_bytes
    for number, (kind, count) in enumerate(deployments):
        if len(worlds[number]) < count:  # then one more would not have fitted
            free = capacity.minus(total, taken)
            assert not capacity.fits(size_of(kind, total, strict=False).counted, free)


def test_what_a_deployment_took_is_free_when_it_is_gone() -> None:
    ledger = Ledger(HOST)
    ledger.claim(("e", "a"), Holding(LARGE.counted))
    assert ledger.room_for(("e", "b"), {}).others == LARGE.counted
    assert ledger.room_for(("e", "a"), {}).others == capacity.NOTHING
    ledger.release(("e", "a"))
    assert ledger.room_for(("e", "b"), {}).others == capacity.NOTHING
