"""What the worker repeats from the contracts says the same: frames, limits, subjects."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate_contracts import scoring
from headgate_worker import frames

META = st.dictionaries(st.text(max_size=10), st.integers() | st.text(max_size=20), max_size=5)


@given(META, st.binary(max_size=300))
def test_both_codecs_read_what_the_other_writes(meta: dict[str, object], body: bytes) -> None:
    assert list(scoring.decode_frames(frames.encode(meta, body))) == [(meta, body)]
    assert list(frames.decode(scoring.encode_frame(meta, body))) == [(meta, body)]


@given(st.binary(max_size=60))
def test_both_refuse_the_same(payload: bytes) -> None:
    def outcome(decode: object, error: type[Exception]) -> object:
        try:
            return list(decode(payload))  # type: ignore[operator]
        except error:
            return "refused"

    ours = outcome(scoring.decode_frames, scoring.FrameError)
    assert outcome(frames.decode, frames.FrameError) == ours
