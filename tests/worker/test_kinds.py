"""A meta that is cut before its tail says what the whole of it says, whoever has written it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.runtime import natsd
from headgate_contracts.scoring import InstanceState
from headgate_worker import frames, kinds
from headgate_worker.kinds import Kinds
from headgate_worker.request import Request, identify
from worker.harness import Router, worker

TAIL = b'"w":1048576,"h":[["content-type","application/json"]]}'
OTHER = b'"w":1048576,"m":"GET","p":"/","q":"a=b","h":[["accept","*/*"]]}'
OWN, CLIENT = "f3b5d6c2-own", "the-clients-own"
CT = ("content-type", "application/json")


def read(kinds: Kinds, encoded: bytes) -> Request:
    meta, kind = kinds.read(encoded)
    return Request("to.router", meta, b"", 0.0, kind)


def whole(encoded: bytes) -> Request:
    """As it was before there were kinds."""
    return Request("to.router", frames.parsed(encoded), b"", 0.0)


def told(request: Request) -> dict[str, Any]:
    names = ("id", "method", "path", "query", "window", "size", "headers")
    return {name: getattr(request, name) for name in names}


def pairs(request: Request) -> list[tuple[str, str]]:
    return [(name, value) for name, value in identify(request).headers()]


# -- ids beside the headers ------------------------------------------------------------------------


def test_ids_beside_the_headers_come_after_them() -> None:
    one = read(Kinds(), b'{"id":7,"dl":9,"rid":"%b",%b' % (OWN.encode(), TAIL))
    assert one.headers == [CT, ("x-request-id", OWN), ("x-ms-request-id", OWN)]
    head = b'{"id":7,"dl":9,"tr":1,"size":3,"rid":"%b","cid":"%b",' % (
        OWN.encode(),
        CLIENT.encode(),
    )
    two = read(Kinds(), head + TAIL)
    assert two.headers == [
        CT,
        ("x-request-id", OWN),
        ("x-ms-client-request-id", CLIENT),
        ("x-ms-request-id", CLIENT),
    ]
    assert (two.size, two.method, two.path, two.query) == (3, "POST", "/score", "")
    for request in (one, two):
        assert {name: request.header(name) for name, _ in request.headers} == dict(request.headers)
        assert request.header("x-ms-client-request-id", "none") in (CLIENT, "none")
        assert pairs(request) == request.headers[1:]
    assert two.header_dict() == {
        "Content-Type": "application/json",
        "X-Request-Id": OWN,
        "X-Ms-Client-Request-Id": CLIENT,
        "X-Ms-Request-Id": CLIENT,
    }


def test_ids_among_the_headers_mean_the_same() -> None:
    """As senders have it that are no routers, and as routers once had it."""
    listed: list[tuple[str, str]] = [
        CT,
        ("x-request-id", OWN),
        ("x-ms-client-request-id", CLIENT),
        ("x-ms-request-id", CLIENT),
    ]
    beside = {"id": 7, "rid": OWN, "cid": CLIENT, "w": 5, "h": [CT]}
    among = {"id": 7, "ttl": 500, "h": listed}
    for meta in (beside, {**among, "w": 5}, among):
        request = read(Kinds(), compact(meta))
        assert request.headers == listed
        assert pairs(request) == listed[1:]
        assert request.header_dict()["X-Ms-Request-Id"] == CLIENT


def test_a_sender_may_leave_out_everything_but_the_number() -> None:
    request = read(Kinds(), b'{"id":"x"}')
    assert told(request) == {
        "id": "x",
        "method": "POST",
        "path": "/score",
        "query": "",
        "window": 0,
        "size": None,
        "headers": [],
    }
    assert identify(request).request  # one is made up


async def test_a_script_sees_ids_where_it_always_has(
    nats: natsd.RunningServer, data_dir: Path
) -> None:
    script = """
        from azureml.contrib.services.aml_request import rawhttp

        def init():
            pass

        @rawhttp
        def run(request):
            print("scored")
            return list(request.headers.items())
    """
    listed = [CT, ("x-request-id", OWN), ("x-ms-client-request-id", CLIENT)]
    beside = {"rid": OWN, "cid": CLIENT, "w": 1, "h": [CT]}
    async with Router.connected(nats) as router, worker(nats, data_dir, script) as one:
        await router.until(one, InstanceState.READY)
        seen = [(await router.post(one, **form)).json() for form in (beside, beside)]
        seen.append((await router.post(one, h=[*listed, ("x-ms-request-id", CLIENT)])).json())
        assert seen[0] == seen[1] == seen[2]
        names = ["Content-Type", "X-Request-Id", "X-Ms-Client-Request-Id", "X-Ms-Request-Id"]
        values = ["application/json", OWN, CLIENT, CLIENT]
        assert seen[0] == [list(pair) for pair in zip(names, values, strict=True)]
        assert sum(f"{OWN} scored" in line for line in one.log().splitlines()) == 3


# -- the cut ---------------------------------------------------------------------------------------


def test_two_kinds_by_turns_are_read_once_each() -> None:
    found = Kinds()
    first = [found.read(b'{"id":0,' + tail)[1] for tail in (TAIL, OTHER)]
    for number in range(1, 5):
        for tail, kind in zip((TAIL, OTHER), first, strict=True):
            meta, again = found.read(b'{"id":%d,' % number + tail)
            assert meta == {"id": number} and again is kind is not None
    assert first[1] is not None and (first[1].method, first[1].path) == ("GET", "/")


def test_what_is_remembered_is_bounded() -> None:
    found = Kinds()
    for number in range(3 * kinds.KINDS_MAX):
        tail = b'"w":1,"q":"%d","h":[]}' % number
        request = read(found, b'{"id":1,' + tail)
        assert request.query == str(number)
        assert len(found) <= kinds.KINDS_MAX
    large = b'"w":1,"q":"%b","h":[]}' % (b"x" * kinds.TAIL_BYTES_MAX)
    before = len(found)
    assert read(found, b'{"id":1,' + large).query == "x" * kinds.TAIL_BYTES_MAX
    assert len(found) == before


@pytest.mark.parametrize(
    "encoded",
    [
        b'{"id":1,"x":{"a":1,"w":2},"m":"GET"}',  # nested, and nothing after it
        b'{"id":1,"x":{"a":1,"w":2},"w":3,"m":"GET"}',
        b'{"id":1,"x":[{"a":1,"w":2}],"h":[]}',
        b'{"id":1,"x":[{"a":[],"w":{"y":1,"w":2}}],"w":7,"p":"/a"}',
        b'{"id":1,"x":",\\"w\\":","w":4}',  # in a string it is written otherwise
        b'{"id":1,"w":4,"x":",\\"w\\":"}',
        b'{"id":1,"w":4,"w":5}',
        b'{"id":1,"w":4,"id":2}',  # said again after it: the last one counts
        b'{"id":1,"m":"GET","w":4,"m":"PUT"}',
        b'{"id":1,"m":"GET","p":"/x","q":"y","h":[["a","b"]],"w":4}',  # another order
        b'{"w":4,"id":1,"m":"GET"}',
        b'{"id":1, "w": 4, "p": "/x"}',
        b'{"id":1,"w":4,"size":9}',
        b'{"id":1,"w":4,"rid":"r","cid":"c","h":[["a","b"]]}',
        '{"id":"ä","w":4,"p":"/ö","h":[["ü","ß"]]}'.encode(),
    ],
)
def test_a_cut_meta_says_what_the_whole_says(encoded: bytes) -> None:
    found = Kinds()
    for _ in range(2):  # the second time the tail is known, if it is one
        assert told(read(found, encoded)) == told(whole(encoded))


@pytest.mark.parametrize(
    "encoded",
    [
        b'{"id":1,"x":"abc,"w":4}',  # the string ends where the tail seems to begin
        b'{"id":1,"w":4',
        b'{"id":1,"w":4}}',
        b'{"id":1,"w":4} ',
        b'{"id":1,"w":}',
        b'{"id":1,,"w":4}',
        b'[1,"w":4}',
        b'["id",1,"w":4]',
        b'{"id":1}{"id":2,"w":4}',
        b'{"id":1,"w":4,"p":"\xff"}',
        b'{"id":"\xff","w":4}',
    ],
)
def test_what_is_no_object_is_none_cut_or_not(encoded: bytes) -> None:
    found = Kinds()
    with pytest.raises(frames.FrameError):
        frames.parsed(encoded)
    for _ in range(2):
        with pytest.raises(frames.FrameError):
            found.read(encoded)


FIELDS = st.sampled_from(("id", "dl", "ttl", "size", "rid", "cid", "w", "m", "p", "q", "more"))
VALUES = st.integers(0, 9) | st.text(',"w:{}[]\\', max_size=6)
NESTED = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(FIELDS, inner, max_size=3)
)
SAID = st.lists(st.tuples(FIELDS, NESTED), max_size=8)


@given(SAID, st.text(',"w:{}4]', max_size=8), st.integers(0, 200))
def test_any_meta_cut_or_not(said: list[tuple[str, Any]], noise: str, at: int) -> None:
    """Also with fields in any order, said twice, nested, and with noise in it."""
    inside = ",".join(f"{json.dumps(name)}:{compact(value).decode()}" for name, value in said)
    encoded = f"{{{inside}}}"
    for text in (encoded, encoded[:at] + noise + encoded[at:]):
        found = Kinds()
        for _ in range(2):
            assert outcome(lambda: read(found, text.encode())) == outcome(  # noqa: B023
                lambda: whole(text.encode())  # noqa: B023
            )


def outcome(made: Any) -> object:
    try:
        return told(made())
    except (frames.FrameError, KeyError, ValueError, TypeError):
        return "none"


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
