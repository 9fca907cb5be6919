"""The Open Inference Protocol V2 as a worker speaks it: JSON, binary tensors, what is refused."""

from __future__ import annotations

import asyncio
import gzip
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headgate.runtime import natsd
from headgate_contracts import limits
from headgate_contracts.scoring import Heartbeat, InstanceState
from headgate_worker import v2
from worker.harness import Answer, Router, Worker, eventually, worker

HEADER = "inference-header-content-length"
SCRIPT = """
    import numpy as np
    from headgate_worker import v2

    def init():
        pass

    def run(data):
        return data

    @v2.signature(
        inputs={"x": ("FP32", [-1, 2]), "s": ("BYTES", [-1])},
        outputs={"sum": ("FP32", [-1]), "who": ("BYTES", [-1])},
    )
    def infer(inputs):
        inputs["x"] *= 1  # they are ours to change
        return {"sum": inputs["x"].sum(axis=1), "who": inputs["s"]}
"""
ECHO = """
    def init():
        pass

    def infer(inputs, parameters):
        if "fail" in inputs:
            raise RuntimeError("broken model")
        if "none" in inputs:
            return None
        return {**inputs, **{name: [value] for name, value in parameters.items()}}
"""
X = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2.5, 3, 4]}
S = {"name": "s", "datatype": "BYTES", "shape": [2], "data": ["a", "ü"]}


def tensor(datatype: str, data: list[Any], shape: list[int] | None = None) -> dict[str, Any]:
    shape = shape if shape is not None else [len(data)]
    return {"name": "t", "datatype": datatype, "shape": shape, "data": data}


def binary(name: str, datatype: str, shape: list[int], raw: bytes) -> tuple[dict[str, Any], bytes]:
    said = {"name": name, "datatype": datatype, "shape": shape}
    return {**said, "parameters": {"binary_data_size": len(raw)}}, raw


class Model:
    """A served script and the endpoint's name."""

    def __init__(self, router: Router, one: Worker) -> None:
        self.router, self.one = router, one
        self.root = f"/v2/models/{one.endpoint}"

    async def get(self, path: str, method: str = "GET") -> Answer:
        return await self.router.post(self.one, p=path, m=method)

    async def infer(self, *inputs: dict[str, Any], path: str = "", **more: Any) -> Answer:
        body = json.dumps({"inputs": inputs, **more})
        return await self.router.post(self.one, body, p=path or f"{self.root}/infer")

    async def raw(self, head: dict[str, Any], *parts: bytes, size: int | None = None) -> Answer:
        said = json.dumps(head).encode()
        headers = [["Inference-Header-Content-Length", str(size or len(said))]]
        body = said + b"".join(parts)
        return await self.router.post(self.one, body, p=f"{self.root}/infer", h=headers)

    async def echo(self, *inputs: dict[str, Any], **more: Any) -> Any:
        answer = await self.infer(*inputs, **more)
        assert answer.status == 200, answer.body
        return answer.json()["outputs"]


@asynccontextmanager
async def served(
    nats: natsd.RunningServer, folder: Path, script: str, **more: Any
) -> AsyncIterator[Model]:
    async with Router.connected(nats) as router, worker(nats, folder, script, **more) as one:
        await router.until(one, InstanceState.READY)
        yield Model(router, one)


def error(answer: Answer) -> str:
    said = answer.json()
    assert list(said) == ["error"]
    return str(said["error"])


async def test_a_model_says_what_it_is(nats: natsd.RunningServer, data_dir: Path) -> None:
    async with served(nats, data_dir, SCRIPT) as model:
        name = model.one.endpoint
        assert (await model.get("/v2")).json()["extensions"] == ["binary_tensor_data"]
        assert (await model.get("/v2/health/live")).json() == {"live": True}
        assert (await model.get("/v2/health/ready")).json() == {"ready": True}
        assert (await model.get(f"{model.root}/ready")).json() == {"name": name, "ready": True}
        assert (await model.get(f"{model.root}/versions/1")).json() == {
            "name": name,
            "versions": ["1"],
            "platform": "python",
            "inputs": [
                {"name": "x", "datatype": "FP32", "shape": [-1, 2]},
                {"name": "s", "datatype": "BYTES", "shape": [-1]},
            ],
            "outputs": [
                {"name": "sum", "datatype": "FP32", "shape": [-1]},
                {"name": "who", "datatype": "BYTES", "shape": [-1]},
            ],
        }
        assert (await model.get("/v2/models/blue/ready")).status == 200  # the deployment's name
        for path, status in (
            *(("/v2/models/other", 404), (f"{model.root}/versions/2", 404), ("/v2/x", 404)),
            *((f"{model.root}/stats", 404), (f"{model.root}/infer", 405)),
        ):
            answer = await model.get(path)
            assert answer.status == status and error(answer), path
        assert (await model.router.post(model.one, '"as ever"')).json() == '"as ever"'


async def test_json_in_and_out(nats: natsd.RunningServer, data_dir: Path) -> None:
    async with served(nats, data_dir, SCRIPT) as model:
        answer = await model.infer(X, S, id="r 7")
        assert answer.json() == {
            "model_name": model.one.endpoint,
            "model_version": "1",
            "id": "r 7",
            "outputs": [
                {"name": "sum", "datatype": "FP32", "shape": [2], "data": [3.5, 7.0]},
                {"name": "who", "datatype": "BYTES", "shape": [2], "data": ["a", "ü"]},
            ],
        }
        assert float(answer.headers["x-ms-run-fn-exec-ms"]) >= 0
        assert answer.headers["x-ms-run-function-failed"] == "False"
        some = await model.infer({**X, "data": [[1, 2.5], [3, 4]]}, S, outputs=[{"name": "sum"}])
        assert [each["data"] for each in some.json()["outputs"]] == [[3.5, 7.0]]


async def test_tensors_as_bytes(nats: natsd.RunningServer, data_dir: Path) -> None:
    """Odd offsets, texts of any bytes, and each output in the form that it was asked for."""
    async with served(nats, data_dir, SCRIPT) as model:
        texts = b"".join(struct.pack("<I", len(t)) + t for t in (b"\xff", b"longer"))
        s, s_raw = binary("s", "BYTES", [2], texts)
        x, x_raw = binary("x", "FP32", [2, 2], np.array([1, 2.5, 3, 4], "<f4").tobytes())
        outputs = [
            {"name": "who", "parameters": {"binary_data": True}},
            {"name": "sum", "parameters": {"binary_data": False}},
        ]
        answer = await model.raw({"inputs": [s, x], "outputs": outputs}, s_raw, x_raw)
        assert answer.headers["content-type"] == "application/octet-stream"
        size = int(answer.headers[HEADER])
        who, total = json.loads(answer.body[:size])["outputs"]
        assert (answer.body[size:], who["parameters"]) == (texts, {"binary_data_size": 15})
        assert total["data"] == [3.5, 7.0]
        everything = {"inputs": [s, x], "parameters": {"binary_data_output": True}}
        answer = await model.raw(everything, s_raw, x_raw)
        assert answer.body[int(answer.headers[HEADER]) :] == struct.pack("<2f", 3.5, 7) + texts
        as_text = await model.raw({"inputs": [s, x]}, s_raw, x_raw)
        assert as_text.status == 400
        assert error(as_text) == "output 'who' is not text: ask for it as binary_data"


async def test_every_datatype_goes_through(nats: natsd.RunningServer, data_dir: Path) -> None:
    async with served(nats, data_dir, ECHO) as model:
        for datatype in v2.DATATYPES:
            data = {"BOOL": [True, False], "BYTES": ["x", ""]}.get(datatype, [1, 0])
            (out,) = await model.echo(tensor(datatype, data, [2, 1]))
            gave = "FP32" if datatype == "BF16" else datatype
            assert (out["datatype"], out["shape"], out["data"]) == (gave, [2, 1], data)
        (out,) = await model.echo(tensor("UINT64", [2**64 - 1]))
        assert out["data"] == [2**64 - 1]
        (out,) = await model.echo(tensor("FP32", [], [0, 3]))
        assert (out["shape"], out["data"]) == ([0, 3], [])
        said, raw = binary("t", "BF16", [2], struct.pack("<2H", 0x3FC0, 0x7F80))
        answer = await model.raw({"inputs": [said]}, raw)
        assert answer.json()["outputs"][0]["data"] == [1.5, None]  # JSON has no infinity


async def test_parameters_reach_a_script_that_takes_them(
    nats: natsd.RunningServer, data_dir: Path
) -> None:
    async with served(nats, data_dir, ECHO) as model:
        given = {"top": 3, "binary_data_output": False, "priority": 1}
        _, top = await model.echo(tensor("INT8", [1]), parameters=given)
        assert (top["name"], top["data"]) == ("top", [3])
        # Nothing else is served there, so the scoring address takes the same requests.
        answer = await model.infer(tensor("INT8", [1]), path="/score")
        assert answer.json()["outputs"][0]["data"] == [1]


async def test_packed_requests(nats: natsd.RunningServer, data_dir: Path) -> None:
    async with served(nats, data_dir, ECHO) as model:
        body = gzip.compress(json.dumps({"inputs": [tensor("INT8", [1])]}).encode())

        async def post(coding: str, data: bytes) -> Answer:
            headers = [["Content-Encoding", coding]]
            return await model.router.post(model.one, data, p=f"{model.root}/infer", h=headers)

        assert (await post("gzip", body)).status == 200
        assert (await post("br", body)).status == 415
        assert "in the middle" in error(await post("gzip", body[:-9]))
        assert "is not gzip" in error(await post("gzip", b"{}"))
        bomb = gzip.compress(b" " * (limits.BODY_BYTES_MAX + 1), 1)
        assert (await post("gzip", bomb)).status == 413


REFUSED: list[tuple[Any, str]] = [
    ([], "must be a JSON object"),
    ({}, "`inputs` must be a list"),
    ({"inputs": [3]}, "each input must be an object with a `name`"),
    ({"inputs": [{**X, "datatype": "FLOAT"}, S]}, "`datatype` must be one of BOOL"),
    ({"inputs": [{**X, "shape": [-1, 2]}, S]}, "`shape` must be a list of lengths"),
    ({"inputs": [{**X, "shape": [2, 2.0]}, S]}, "`shape` must be a list of lengths"),
    ({"inputs": [{**X, "shape": [10**15, 2]}, S]}, "has 4 elements, and the shape"),
    ({"inputs": [{**X, "data": [[1], [2, 3]]}, S]}, "rows of different lengths"),
    ({"inputs": [{**X, "data": ["a"] * 4}, S]}, "elements that are no FP32"),
    ({"inputs": [{**X, "data": [None] * 4}, S]}, "elements that are no FP32"),
    ({"inputs": [X, {**S, "data": ["a", 1]}]}, "must be texts in JSON"),
    ({"inputs": [X]}, "it lacks 's'; the model takes 'x' (FP32, shape [-1, 2]), 's'"),
    ({"inputs": [X, S, {**S, "name": "y"}]}, "it has 'y'; the model takes"),
    ({"inputs": [X, S, S]}, "an input comes twice"),
    ({"inputs": [{**X, "datatype": "FP64"}, S]}, "and the input is FP64, shape [2, 2]"),
    ({"inputs": [{**X, "shape": [4, 1]}, S]}, "and the input is FP32, shape [4, 1]"),
    ({"inputs": [X, S], "outputs": [{"name": "z"}]}, "no output 'z'; the model gives 'sum'"),
    ({"inputs": [X, S], "parameters": 3}, "`parameters` of the request must be an object"),
    (
        {"inputs": [{**X, "parameters": {"shared_memory_region": "r"}}, S]},
        "in shared memory, which is not served",
    ),
    (
        {"inputs": [X, S], "outputs": [{"name": "sum", "parameters": {"classification": 1}}]},
        "classifications are not served",
    ),
    ({"inputs": [{**X, "parameters": {"binary_data_size": 16}}, S]}, "must have either `data`"),
]


async def test_wrong_requests_are_told_what_is_wrong(
    nats: natsd.RunningServer, data_dir: Path
) -> None:
    async with served(nats, data_dir, SCRIPT) as model:
        path = f"{model.root}/infer"
        for body, said in REFUSED:
            answer = await model.router.post(model.one, json.dumps(body), p=path)
            assert answer.status == 400 and said in error(answer), (body, answer.body)
        for body in (b"", b"{", b"\xff", b"[" * 100_000):
            assert (await model.router.post(model.one, body, p=path)).status == 400
        x, raw = binary("x", "FP32", [2, 2], bytes(16))
        s, texts = binary("s", "BYTES", [2], struct.pack("<I", 9) + b"ab" + bytes(4))
        for parts, said in (
            ((raw[:-1],), "and 15 are left"),
            ((raw, bytes(10), b"more"), "4 bytes follow the last input's"),
            ((raw, texts), "element 0 is longer than the data"),
        ):
            answer = await model.raw({"inputs": [x, s]}, *parts)
            assert answer.status == 400 and said in error(answer), answer.body
        wrong = {**x, "parameters": {"binary_data_size": 8}}
        assert "take 16 bytes" in error(await model.raw({"inputs": [wrong, S]}, bytes(8)))
        assert HEADER in error(await model.raw({"inputs": [X, S]}, size=10**6)).lower()


async def test_a_failure_of_the_model_is_not_the_callers(
    nats: natsd.RunningServer, data_dir: Path
) -> None:
    async with served(nats, data_dir, ECHO) as model:
        for name in ("fail", "none"):
            answer = await model.infer({**tensor("INT8", [1]), "name": name})
            assert answer.status == 500 and "Check the logs" in error(answer)
        assert "RuntimeError: broken model" in model.one.log()
        assert "infer() must return a dict of arrays, not a NoneType" in model.one.log()


async def test_who_does_not_opt_in_is_not_there(nats: natsd.RunningServer, data_dir: Path) -> None:
    async with served(nats, data_dir, "def init(): pass\ndef run(data): return data\n") as model:
        answer = await model.get("/v2/health/ready")
        assert answer.status == 404 and "has no infer(inputs)" in error(answer)


@pytest.mark.parametrize("prefix", ["", "async "])
async def test_plain_and_asynchronous_functions(
    nats: natsd.RunningServer, data_dir: Path, prefix: str
) -> None:
    script = f"def init(): pass\n{prefix}def infer(inputs): return inputs\n"
    async with served(nats, data_dir, script) as model:
        assert (await model.echo(tensor("INT8", [5])))[0]["data"] == [5]


async def test_requests_of_one_shape_share_a_call(
    nats: natsd.RunningServer, data_dir: Path
) -> None:
    """Joined along the first axis while the model is busy, parted again in order."""
    script = """
        import os, time
        import numpy as np

        def init():
            pass

        def infer(inputs):
            x = inputs["t"]
            while x.ndim == 1 and not os.path.exists("open"):
                time.sleep(0.01)
            return {"out": x * 2, "size": np.full(len(x), len(x))}
    """
    variables = {"BATCH_MAX_ROWS": "16"}
    async with served(nats, data_dir, script, variables=variables) as model:
        router, one = model.router, model.one

        async def send(datatype: str, rows: int) -> asyncio.Future[Answer]:
            data = [[number, number] for number in range(rows)]
            body = json.dumps({"inputs": [tensor(datatype, data, [rows, 2])]})
            return await router.send(one, body, p=f"{model.root}/infer")

        gate = json.dumps({"inputs": [tensor("FP32", [7])]})
        first = await router.send(one, gate, p=f"{model.root}/infer")

        def told() -> Heartbeat:
            return [beat for beat in router.heartbeats if beat.endpoint == one.endpoint][-1]

        await eventually(lambda: told().batches == 1, "the model is busy")
        sent = [await send(*each) for each in (("FP32", 1), ("FP32", 3), ("INT8", 1), ("FP32", 2))]
        await eventually(lambda: told().in_flight == 5, "all have come")
        (one.folder / "code" / "open").touch()
        answers = [(await each).json()["outputs"] for each in (first, *sent)]
        assert [size["data"] for _, size in answers] == [[1], [4], [4, 4, 4], [1], [2, 2]]
        assert [out["data"] for out, _ in answers[1:]] == [
            [0, 0], [0, 0, 2, 2, 4, 4], [0, 0], [0, 0, 2, 2]
        ]  # fmt: skip
