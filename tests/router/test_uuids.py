"""Ids of requests: random UUIDs of version 4, many at a time."""

from __future__ import annotations

import uuid

from headgate.router.uuids import Uuids


def test_they_are_random_uuids_and_none_comes_twice() -> None:
    uuids, others = Uuids(), Uuids()
    drawn = [uuids.new() for _ in range(20_000)] + [others.new() for _ in range(20_000)]
    assert len(set(drawn)) == len(drawn)
    for text in drawn[::97]:
        read = uuid.UUID(text)
        assert (str(read), read.version, read.variant) == (text, 4, uuid.RFC_4122)


def test_neighbours_are_told_apart_at_first_sight() -> None:
    uuids = Uuids()
    firsts = [uuids.new()[:8] for _ in range(500)]
    assert len(set(firsts)) > 490


def test_those_that_share_digits_are_told_apart_by_a_group_and_not_by_chance() -> None:
    uuids, groups = Uuids(), dict[str, list[str]]()
    for _ in range(5_000):
        _, telling, *shared = uuids.new().split("-")
        groups.setdefault("-".join(shared), []).append(telling)
    assert len(groups) == 10
    assert all(len(set(telling)) == len(telling) for telling in groups.values())
