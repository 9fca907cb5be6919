"""Who gives way where the machine has no room for a node."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headgate.batch.core import TURN_S
from headgate.batch.rooming import NOTHING, Held, Waiting, can_be_helped, giving_way
from headgate_contracts.provisioning import Amounts

ONE, TWO = (Amounts(cores=cores, memory_bytes=0, gpus=0) for cores in (1, 2))
WAITING = Waiting(priority=0, needs=ONE, nodes=0)


def held(name: str, worked_s: float | None = TURN_S, **fields: object) -> Held:
    """Node ``a1`` is of job ``a``."""
    return replace(Held(name, name[0], 0, ONE, worked_s), **fields)  # type: ignore[arg-type]


def test_a_single_node_gives_way_after_its_turn() -> None:
    assert giving_way(WAITING, [held("a1", TURN_S)], NOTHING) == ["a1"]
    assert giving_way(WAITING, [held("a1", TURN_S - 1)], NOTHING) == []
    assert giving_way(WAITING, [held("a1", None)], NOTHING) == []  # it has yet to begin


def test_of_nodes_that_have_worked_a_turn_the_longest_goes_first() -> None:
    nodes = [held("a1", 40), held("b1", 60), held("c1", 50)]
    assert giving_way(WAITING, nodes, NOTHING) == ["b1"]


def test_a_job_with_two_more_gives_way_at_once_first_with_what_does_not_work_yet() -> None:
    nodes = [held("a1", 1), held("a2", None), held("b1", 1)]
    assert giving_way(WAITING, nodes, NOTHING) == ["a2"]


def test_priority_goes_first_and_then_who_has_the_most() -> None:
    nodes = [held("a1", 90), held("b1", 1), held("b2", 1), held("b3", 1)]
    assert giving_way(WAITING, nodes, NOTHING) == ["b1"]
    assert giving_way(WAITING, [*nodes, held("c1", 1, priority=-1)], NOTHING) == ["c1"]


def test_a_job_gives_way_until_it_has_one_more() -> None:
    waiting = replace(WAITING, needs=TWO)
    nodes = [held("a1", 1), held("a2", 2), held("a3", 3)]
    assert giving_way(waiting, nodes, NOTHING) == ["a3", "a2"]
    assert giving_way(waiting, nodes, ONE) == ["a3"]
    assert giving_way(replace(waiting, nodes=1), nodes, NOTHING) == []  # one alone is of no use


def test_nobody_gives_way_to_a_job_that_has_as_much() -> None:
    assert giving_way(replace(WAITING, nodes=1), [held("a1")], NOTHING) == []


@pytest.mark.parametrize(("priority", "expected"), [(-1, ["a1"]), (1, [])])
def test_priority_comes_before_turns(priority: int, expected: list[str]) -> None:
    assert giving_way(WAITING, [held("a1", None, priority=priority)], NOTHING) == expected


def test_what_takes_no_room_cannot_give_any() -> None:
    nodes = [held("a1", takes=NOTHING), held("b1")]
    assert giving_way(WAITING, nodes, NOTHING) == ["b1"]
    assert giving_way(WAITING, nodes[:1], NOTHING) == []


def test_room_is_kept_for_what_others_may_give_alone() -> None:
    waiting = replace(WAITING, needs=TWO)
    assert can_be_helped(waiting, [held("a1", None), held("b1", None)], NOTHING)
    assert can_be_helped(waiting, [held("a1")], ONE)
    assert not can_be_helped(waiting, [held("a1"), held("b1", priority=1)], NOTHING)
    assert not can_be_helped(waiting, [], ONE)
