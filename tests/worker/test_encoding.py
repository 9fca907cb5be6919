"""What run() returns becomes the JSON that json.dumps() would make of it, and fails as it does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate_worker.scoring import as_json

CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
KEYS = st.text() | st.integers() | st.floats() | st.booleans() | st.none()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(VALUES)
def test_it_is_the_same_json(value: Any) -> None:
    assert as_json(value) == json.dumps({} if value is None else value).encode()


@pytest.mark.parametrize("value", [{1, 2}, {"a": b"raw"}, {(1, 2): 3}, CIRCLE], ids=repr)
def test_it_is_the_same_complaint(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as expected:
        json.dumps(value)
    with pytest.raises(type(expected.value)) as found:
        as_json(value)
    assert str(found.value) == str(expected.value)


def test_a_library_that_was_taught_more_knows_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json.JSONEncoder, "default", lambda self, value: sorted(value))
    assert as_json({"found": {2, 1}}) == b'{"found": [1, 2]}'
