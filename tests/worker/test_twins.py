"""What the worker repeats from the contracts says the same: frames, limits, subjects."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate_contracts import limits, scoring
from headgate_worker import batching, core, frames, settings, streams

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


def test_limits_and_words_are_the_same() -> None:
    assert core.SCORING_BODY_BYTES_MAX == limits.SCORING_BODY_BYTES_MAX
    assert settings.BATCH_ROWS_MAX == limits.BATCHING_ROWS_MAX
    assert settings.BATCH_WAIT_MS_MAX == limits.BATCHING_WAIT_MS_MAX
    assert batching.MAX_ROWS_DEFAULT == limits.BATCHING_ROWS_DEFAULT
    assert batching.ROOM_MAX == limits.CONCURRENCY_PER_INSTANCE_MAX
    assert core.BODY_BYTES_MAX == limits.BODY_BYTES_MAX
    assert core.STREAM_GIVEN_UP_S == limits.STREAM_GIVEN_UP_S
    assert core.BODY_WINDOW_BYTES == limits.BODY_WINDOW_BYTES
    assert streams.PART_BYTES_MAX == limits.ANSWER_PART_BYTES_MAX
    for control in scoring.Control:
        assert getattr(core, control.name) == control.value
