"""What an answer leaves out is what its router says in its place, and nothing else is left out."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from headgate.router import answers
from headgate.router.answers import ModelAnswer
from headgate.router.headers import Head, Ids
from headgate.runtime import natsd
from headgate_contracts.scoring import InstanceState, decode_frames
from headgate_worker import frames
from headgate_worker.request import Answer
from worker.harness import Router, worker

SCRIPT = """
    from azureml.contrib.services.aml_response import AMLResponse

    def init():
        pass

    def run(data):
        if data == "raise":
            raise RuntimeError(data)
        return AMLResponse({"a": 1}, 200, {}, json_str=True) if data == "own" else {"a": 1}
"""


def told(frame: bytes) -> tuple[int, list[str], bytes]:
    """What a client hears of a frame."""
    ((meta, body),) = decode_frames(frame)
    answer = answers.of_model(ModelAnswer(meta, body), "blue", Ids(Head(), "request-1"))
    return answer.status, sorted(answer.lines.lower().splitlines()), answer.body


@given(st.floats(0, 3_600_000), st.integers(0, 2**40), st.integers(0, 4096), st.binary())
def test_a_client_hears_the_same(run_ms: float, number: int, in_flight: int, body: bytes) -> None:
    short = frames.encode_ordinary(number, in_flight, run_ms, body)
    listed = Answer(200, None, body, run_ms).headers
    whole = frames.encode_answer(number, in_flight, 200, listed, run_ms, body)
    assert len(short) < len(whole) and told(short) == told(whole)
    ((shorter, _),), ((longer, _),) = decode_frames(short), decode_frames(whole)
    assert longer.pop("h") == [list(pair) for pair in listed] and shorter == longer


def test_who_asks_for_the_headers_gets_a_list_that_can_be_added_to() -> None:
    answer = Answer(200, None, b"", 1.5)
    assert answer.is_ordinary
    answer.headers.append(("x-mine", "1"))
    assert not answer.is_ordinary
    assert answer.all_headers() == [
        ("Content-Type", "application/json"),
        ("x-ms-run-function-failed", "False"),
        ("x-ms-run-fn-exec-ms", "1.500"),
        ("x-mine", "1"),
    ]


async def test_only_ordinary_answers_leave_their_headers_out(
    nats: natsd.RunningServer, data_dir: Path
) -> None:
    async with Router.connected(nats) as router, worker(nats, data_dir, SCRIPT) as one:
        await router.until(one, InstanceState.READY)
        ordinary = await router.post(one, "{}", id=1)
        assert set(ordinary.meta) == {"id", "s", "n", "ms"} and ordinary.json() == {"a": 1}
        traced = await router.post(one, "{}", id=2, tr=1)
        assert traced.meta["held"] >= 0
        named = await router.post(one, "{}", id=3, h=[("traceid", "t-1")])
        assert named.headers["traceid"] == "t-1"
        failed = await router.post(one, "raise", id=4)
        assert failed.status == 500
        for answer in (traced, named, await router.post(one, "own", id=5), await router.post(one)):
            assert answer.headers["x-ms-run-function-failed"] == "False"
            assert answer.headers["x-ms-run-fn-exec-ms"] == f"{answer.meta['ms']:.3f}"
    told = {"AML_CORS_ORIGINS": "*", "HTTP_X_MS_SERVER_VERSION": "9.1"}
    for name, value in told.items():
        one_more = worker(nats, data_dir, SCRIPT, variables={name: value})
        async with Router.connected(nats) as router, one_more as one:
            await router.until(one, InstanceState.READY)
            answer = await router.post(one, "{}", id=6)
            assert value in answer.headers.values() and len(answer.headers) == 4
