"""Decisions of the gateway."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.gateway import core
from headgate_contracts.errors import HeadgateError


@given(
    st.dictionaries(st.text(), st.integers() | st.none() | st.dictionaries(st.text(), st.text()))
)
def test_a_merge_patch_holds_what_it_says(patch: dict[str, object]) -> None:
    merged = core.merge_patch({"a": {"x": "1"}, "b": 2}, patch)
    for key, value in patch.items():
        assert (key not in merged) if value is None else merged[key] is not None
    assert core.merge_patch(merged, {}) == merged


def test_the_merge_patch_cases_of_the_standard() -> None:
    cases = [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        (["a"], {"a": "b"}, {"a": "b"}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ]
    for target, patch, expected in cases:
        assert core.merge_patch(target, patch) == expected


@given(st.text())
def test_a_path_splits_into_harmless_segments_or_is_refused(text: str) -> None:
    try:
        segments = core.split_path("/" + text)
    except HeadgateError as error:
        assert error.error.blame == "caller"
        return
    for segment in segments:
        assert segment not in ("", ".", "..")
        assert not set(segment) & {"/", "\\", "\0", "\n", "\r"}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("", True), ("a", True), ("a=1", True), ("a=2", False), ("a=1,b", True), ("c", False)],
)
def test_labels_are_matched(wanted: str, expected: bool) -> None:
    assert core.has_labels({"a": "1", "b": ""}, wanted) is expected


@pytest.mark.parametrize(
    ("text", "now", "expected"),
    [("10m", 1000, 400), ("1h", 4000, 400), ("1970-01-01T00:00:05Z", 0, 5)],
)
def test_since_is_an_age_or_a_time(text: str, now: float, expected: float) -> None:
    assert core.read_since(text, now) == expected


def test_an_event_that_is_no_json_is_still_told() -> None:
    event = core.describe_event(7, "s", {}, b"\xff")
    assert (event["sequence"], event["data_base64"]) == (7, "/w==")


def test_retry_after_never_calls_back_too_early() -> None:
    assert [core.whole_seconds(s) for s in (-1, 0, 0.2, 1, 1.5)] == ["0", "0", "1", "1", "2"]
