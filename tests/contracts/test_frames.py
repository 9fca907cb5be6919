"""Scoring frames: whole or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate_contracts.scoring import FrameError, decode_frames, encode_frame

META = st.dictionaries(st.text(max_size=10), st.integers() | st.text(max_size=20), max_size=5)


@given(st.lists(st.tuples(META, st.binary(max_size=200)), max_size=4))
def test_frames_survive_the_round_trip(frames: list[tuple[dict[str, object], bytes]]) -> None:
    payload = b"".join(encode_frame(meta, body) for meta, body in frames)
    assert list(decode_frames(payload)) == frames


@given(META, st.binary(max_size=50), st.integers(min_value=1, max_value=60))
def test_a_cut_frame_is_refused(meta: dict[str, object], body: bytes, cut: int) -> None:
    payload = encode_frame(meta, body)
    with pytest.raises(FrameError):
        list(decode_frames(payload[: max(1, len(payload) - cut)]))


@pytest.mark.parametrize(
    "payload", [b"\0" * 7, b"\xff" * 8, b"\0\0\0\2\0\0\0\0[]", b"\0\0\0\1\0\0\0\0{"]
)
def test_garbage_is_refused(payload: bytes) -> None:
    with pytest.raises(FrameError):
        list(decode_frames(payload))
