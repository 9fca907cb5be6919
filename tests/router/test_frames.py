"""The router's own reading of frames says the same as the contract's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from hypothesis import given
from hypothesis import strategies as st

from headgate.router import frames
from headgate_contracts.scoring import FrameError, decode_frames, encode_frame

Frames = list[tuple[dict[str, object], bytes]]
META = st.dictionaries(st.text(max_size=10), st.integers() | st.text(max_size=20), max_size=5)


def walk(payload: bytes) -> Frames:
    found, at = [], 0
    while at < len(payload):
        meta, body, at = frames.next_frame(payload, at)
        found.append((meta, body))
    return found


def outcome(read: Callable[[bytes], Iterable[object]], payload: bytes) -> object:
    try:
        return list(read(payload))
    except FrameError as error:
        return str(error)


@given(st.lists(st.tuples(META, st.binary(max_size=300)), max_size=4))
def test_frames_are_read_in_order(given_frames: Frames) -> None:
    payload = b"".join(encode_frame(meta, body) for meta, body in given_frames)
    assert walk(payload) == given_frames


@given(META, st.binary(max_size=60), st.integers(0, 90), st.binary(max_size=2))
def test_broken_ones_are_refused_alike(
    meta: dict[str, object], body: bytes, at: int, put: bytes
) -> None:
    whole = encode_frame(meta, body)
    for payload in (whole[:at], whole[:at] + put + whole[at:], whole + put):
        assert outcome(walk, payload) == outcome(decode_frames, payload)


def test_a_request_is_told_in_few_words() -> None:
    tail = frames.encode_request("POST", "/score", "", frames.encode_pairs([("a", "ü\\")]))
    head, body = frames.encode(7, 1_000, f'"rid":"x",{tail}', b"body")
    ((meta, _),) = decode_frames(head + body)
    assert meta == {"id": 7, "dl": 1_000, "rid": "x", "w": meta["w"], "h": [["a", "ü\\"]]}
    tail = frames.encode_request("GET", '/score/"', "a=b", "")
    assert json.loads("{" + tail) == {
        "w": meta["w"],
        "m": "GET",
        "p": '/score/"',
        "q": "a=b",
        "h": [],
    }
