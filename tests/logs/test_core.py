"""What becomes a row, and which rows are forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.logs import core
from headgate_contracts import limits, provisioning

ABOUT = {
    "workspace": "local",
    "endpoint": "digits",
    "deployment": "blue",
    "instance": "i1",
    "spec": "0123456789abcdef",
    "at": 5.0,
}


def names(what: str, **said: object) -> list[tuple[str, str]]:
    return [(row["container"], row["name"]) for row in core.event_rows(what, {**ABOUT, **said})]


def test_events_have_the_names_of_kubernetes() -> None:
    assert names("started", pid=7) == [
        ("image-fetcher", "Pulled"),
        ("inference-server", "Created"),
        ("inference-server", "Started"),
    ]
    assert names("lost", reason="it crashed", restart_in_s=10.0) == [
        ("inference-server", "BackOff")
    ]
    assert names("stopped") == [("inference-server", "Killing")]
    assert names("liveness_probe_failed") == [("inference-server", "LivenessProbeFailed")]


def test_a_lost_instance_says_why_and_when_the_next_try_is() -> None:
    (row,) = core.event_rows("lost", {**ABOUT, "reason": "exit code 3", "restart_in_s": 10.2})
    assert row["message"] == "exit code 3; started again in 10 s"
    assert (row["workspace"], row["endpoint"], row["instance"], row["at"]) == (
        *("local", "digits", "i1"),
        5.0,
    )


def test_an_unknown_event_says_what_it_holds() -> None:
    (row,) = core.event_rows("weighed", {**ABOUT, "grams": 5})
    assert row["message"] == "grams=5"
    (row,) = core.event_rows("weighed", {**ABOUT, "grams": 5, "reason": "curiosity"})
    assert row["message"] == "curiosity"


def test_every_instance_event_that_exists_becomes_rows() -> None:
    kinds = [
        item
        for item in vars(provisioning).values()
        if isinstance(item, type) and issubclass(item, provisioning.InstanceEvent) and item.WHAT
    ]
    assert len(kinds) >= 5
    for kind in kinds:
        assert core.event_rows(kind.WHAT, ABOUT)


def test_long_messages_are_cut_and_nul_is_replaced() -> None:
    text = core.clean("a\0b" + "x" * 100_000)
    assert len(text) == limits.LOG_MESSAGE_CHARS_MAX
    assert "\0" not in text


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 1_000), max_size=8), st.integers(0, 999))
def test_shares_are_fair(counts: dict[str, int], rows_max: int) -> None:
    kept = core.shares(counts, rows_max)
    assert kept.keys() == counts.keys()
    assert sum(kept.values()) <= rows_max
    assert all(0 <= kept[name] <= counts[name] for name in counts)
    if sum(counts.values()) <= rows_max:
        assert kept == counts
    else:  # nothing is given up in vain, and whoever gives has no less than others have
        assert sum(kept.values()) >= rows_max - len(counts)
        level = min((kept[n] for n in counts if kept[n] < counts[n]), default=0)
        assert all(kept[n] <= level + 1 for n in counts)


def test_a_flood_does_not_push_out_others() -> None:
    assert core.shares({"loud": 1_000_000, "quiet": 50}, 500) == {"quiet": 50, "loud": 450}
