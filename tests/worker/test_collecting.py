"""What is collected: lines, samples, folders, bounds; in a worker process and beside one."""

from __future__ import annotations

import json
import signal
import sys
import threading
import types
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from headgate.runtime import natsd
from headgate_contracts import collection as contract
from headgate_contracts import limits
from headgate_contracts.scoring import InstanceState
from headgate_worker import collecting, collector, monitoring, output, spool
from headgate_worker.collecting import Collection, Event, Plan
from headgate_worker.collector import Collector
from headgate_worker.request import Answer, Request
from headgate_worker.spool import Spool
from worker.harness import WAIT_S, Router, eventually, worker

AT = 1_790_000_000.0  # 2026-09-21 14:13:20 UTC
SOURCE = (
    "/subscriptions/s/resourceGroups/g/providers/p/workspaces/w/onlineEndpoints/e/deployments/d"
)


def event(body: bytes, kind: str = "application/json", **attributes: str) -> Event:
    return Event(Collection("request"), AT, "id-1", kind, body, attributes)


def written(found: Event) -> Any:
    data = collecting.data_of(found.kind, found.body)
    assert data is not None
    line = collecting.line(SOURCE, found, "event-1", *data, in_blob=False)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    return json.loads(line)


def plan(*names: str, rate: float = 1.0, headers: tuple[str, ...] = ()) -> Plan:
    return Plan(SOURCE, "hour", headers, {n: Collection(n, rate, f"azureml://{n}") for n in names})


def lines_below(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Everything that was collected, by collection."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.rglob("*.jsonl")):
        each = [json.loads(line) for line in path.read_text().splitlines()]
        found.setdefault(path.relative_to(folder).parts[0], []).extend(each)
    return found


# --- lines --------------------------------------------------------------------------------------


def test_a_line_has_the_attributes_that_azures_collector_writes() -> None:
    found = written(event(b'{"data": [1, 2]}', path="/score?x=1", method="POST"))
    assert found == {
        "specversion": "1.0",
        "id": "event-1",
        "source": SOURCE,
        "type": "azureml.inference.request",
        "datacontenttype": "application/json",
        "time": "2026-09-21T14:13:20Z",
        "data": {"data": [1, 2]},
        "path": "/score?x=1",
        "method": "POST",
        "contentrange": "bytes 0-15/16",
        "correlationid": "id-1",
        "xrequestid": "id-1",
    }


def test_a_long_answer_in_parts_is_its_beginning() -> None:
    found = written(event(b"0123456789", "text/plain")._replace(whole_bytes=1_000_000))
    assert found["data"] == "0123456789"
    assert found["contentrange"] == "bytes 0-9/1000000"


texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.recursive(st.none() | st.integers() | texts, lambda s: st.lists(s, max_size=3)))
def test_json_stays_what_it_was_however_it_was_laid_out(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, indent=2, ensure_ascii=False)):
        assert written(event(text.replace("\n", "\r\n").encode()))["data"] == value


@pytest.mark.parametrize(
    ("kind", "body", "said", "data"),
    [
        ("application/json", b"12345678901234567890.10", "application/json", None),
        ("application/json; charset=utf-8", b"[1]", "application/json", [1]),
        ("application/json", b"[NaN]", "text/plain", "[NaN]"),
        ("application/json", b"{oops", "text/plain", "{oops"),
        ("text/csv", b"a,b\n1,2\n", "text/csv", "a,b\n1,2\n"),
        ("", "grüße".encode(), "text/plain", "grüße"),
        ("application/json", b"", "text/plain", ""),
    ],
)
def test_what_is_no_json_is_text(kind: str, body: bytes, said: str, data: Any) -> None:
    found = written(event(body, kind))
    assert found["datacontenttype"] == said
    if data is not None:
        assert found["data"] == data


def test_numbers_keep_their_digits() -> None:
    found = collecting.data_of("application/json", b'{"x": 0.10000000000000000555, "n": 1e400}')
    assert found == ("application/json", '{"x": 0.10000000000000000555, "n": 1e400}')


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/octet-stream", b"text"),
        ("image/png", b"\x89PNG"),
        ("text/plain", b"\xff\xfe"),
        ("text/plain", b"x" * (limits.COLLECTED_DATA_BYTES_MAX + 1)),
        ("text/plain", b"\x00" * (limits.COLLECTED_DATA_BYTES_MAX // 2)),
    ],
)
def test_no_line_holds_what_is_binary_or_too_large(kind: str, body: bytes) -> None:
    assert collecting.data_of(kind, body) is None


def test_headers_become_attributes_but_never_another_events() -> None:
    given_ = {"X-Customer-Id": "7", "Data": "no", "xrequestid": "no", "---": "no", "B": "x" * 5000}
    found = collecting.attributes(given_)
    assert found == {"xcustomerid": "7", "b": "x" * collecting.ATTRIBUTE_CHARS_MAX}


# --- samples ------------------------------------------------------------------------------------


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_what_a_lower_rate_keeps_a_higher_one_keeps(
    request_id: str, one: float, two: float
) -> None:
    low, high = sorted((one, two))
    if collecting.sampled(request_id, low):
        assert collecting.sampled(request_id, high)
    assert collecting.sampled(request_id, 1.0) and not collecting.sampled(request_id, 0.0)


@pytest.mark.parametrize("rate", [0.01, 0.25, 0.5])
def test_a_share_of_requests_is_kept(rate: float) -> None:
    for ids in ([str(n) for n in range(20_000)], [str(uuid.UUID(int=n)) for n in range(20_000)]):
        kept = sum(collecting.sampled(each, rate) for each in ids)
        assert abs(kept / len(ids) - rate) < 0.02


@pytest.mark.parametrize(
    ("rate", "folder"),
    [
        ("year", "2026"),
        ("month", "2026/09"),
        ("day", "2026/09/21"),
        ("hour", "2026/09/21/14"),
        ("minute", "2026/09/21/14/13"),
    ],
)
def test_folders_roll(rate: str, folder: str) -> None:
    assert collecting.folder(AT, rate) == folder


def test_the_twins_agree() -> None:
    assert contract.PAYLOADS == (collecting.REQUEST, collecting.RESPONSE)
    assert collecting.DATA_BYTES_MAX == limits.COLLECTED_DATA_BYTES_MAX
    assert spool.FILE_BYTES_MAX == limits.COLLECTED_FILE_BYTES_MAX
    assert collector.QUEUE_BYTES_MAX == limits.COLLECTED_QUEUE_BYTES_MAX
    assert collector.QUEUE_EVENTS_MAX == limits.COLLECTED_QUEUE_EVENTS_MAX


# --- files --------------------------------------------------------------------------------------


def test_files_are_closed_when_full_and_no_name_is_used_twice(tmp_path: Path) -> None:
    line = b"x" * (spool.FILE_BYTES_MAX // 2) + b"\n"
    one = Spool(str(tmp_path), "i1", bytes_max=2**40)
    one.write("request", "2026", [line])
    first = tmp_path / "request/2026/i1.jsonl"
    assert first.exists()
    one.write("request", "2026", [line])
    first.unlink()  # carried away
    one.write("request", "2026", [line])
    one.write("request", "2027", [b"new\n"])
    one.write("request", "2026", [b"the clock was set back\n"])
    one.close()
    names = sorted(str(p.relative_to(tmp_path / "request")) for p in tmp_path.rglob("*.jsonl"))
    assert names == [
        "2026/i1-part1.jsonl",
        "2026/i1-part2.jsonl",
        "2026/i1-part3.jsonl",
        "2027/i1.jsonl",
    ]


def test_a_file_that_was_removed_under_the_writer_is_begun_anew(tmp_path: Path) -> None:
    one = Spool(str(tmp_path), "i1", bytes_max=2**40)
    one.write("request", "2026", [b"a\n"])
    (tmp_path / "request/2026/i1.jsonl").unlink()
    one.write("request", "2026", [b"b\n"])
    assert (tmp_path / "request/2026/i1-part1.jsonl").read_bytes() == b"b\n"
    one.close()


def test_the_disk_is_bounded_and_what_goes_is_counted(tmp_path: Path) -> None:
    line = b"x" * (1024 * 1024 - 1) + b"\n"
    one = Spool(str(tmp_path), "i1", bytes_max=3 * spool.FILE_BYTES_MAX)
    lost = 0
    for _ in range(80):
        one.write("request", "2026", [line])
        lost += one.keep_bounded()
        size = sum(path.stat().st_size for path in tmp_path.rglob("*.jsonl"))
        assert size <= 4 * spool.FILE_BYTES_MAX + len(line)
    one.close()
    left = sum(path.read_bytes().count(b"\n") for path in tmp_path.rglob("*.jsonl"))
    assert lost > 0 and lost + left == 80


# --- the queue ----------------------------------------------------------------------------------


def request(number: int, body: bytes = b"{}", **headers: str) -> Request:
    pairs = [["x-request-id", f"r{number}"], ["content-type", "application/json"]]
    pairs += [[name.replace("_", "-"), value] for name, value in headers.items()]
    meta = {"id": f"f{number}", "m": "POST", "p": "/score", "q": "", "h": pairs}
    return Request("reply", meta, body, float("inf"))


def answer(number: int, body: bytes = b"[1]") -> Answer:
    said = [("Content-Type", "application/json"), ("x-request-id", f"r{number}")]
    return Answer(200, said, body)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[list[Collector]]:
    started: list[Collector] = []
    yield started
    for each in started:
        each.close()


def test_a_request_and_its_answer_share_an_id_and_a_sample(
    tmp_path: Path, running: list[Collector]
) -> None:
    chosen = plan("request", "response", rate=0.5, headers=("x-customer",))
    one = Collector(chosen, Spool(str(tmp_path), "i1", bytes_max=2**40))
    running.append(one)
    delivered: list[Any] = []
    deliver = one.through(lambda *pair: delivered.append(pair))
    for number in range(400):
        deliver(request(number, b'{"n": %d}' % number, X_Customer=f"c{number}"), answer(number))
    deliver(request(401), None)  # its deadline had passed
    one.close()
    assert len(delivered) == 401
    found = lines_below(tmp_path)
    ids = [each["correlationid"] for each in found["request"]]
    assert ids == [each["correlationid"] for each in found["response"]]
    assert 100 < len(ids) < 300 and len(set(ids)) == len(ids)
    assert ids == [f"r{n}" for n in range(400) if collecting.sampled(f"r{n}", 0.5)]
    for each in found["request"]:
        assert each["xcustomer"] == f"c{each['data']['n']}"
    assert one.collected == 2 * len(ids) and one.dropped == 0


def test_a_request_without_any_id_gets_one(tmp_path: Path, running: list[Collector]) -> None:
    """A server of the user's own may answer without; a sample must not hang on that."""
    one = Collector(
        plan("request", "response", rate=0.5), Spool(str(tmp_path), "i", bytes_max=2**40)
    )
    running.append(one)
    for _ in range(200):
        asked = Request("reply", {"id": "f0"}, b"{}", float("inf"))
        one.offer(asked, Answer(200, [], b"[1]"))
    one.close()
    found = lines_below(tmp_path)
    ids = [each["correlationid"] for each in found["request"]]
    assert 50 < len(set(ids)) == len(ids) < 150
    assert ids == [each["correlationid"] for each in found["response"]]


def test_a_flood_is_bounded_and_counted(
    tmp_path: Path, running: list[Collector], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer stands still: the queue takes what it may and the rest is counted."""
    monkeypatch.setattr(collector, "QUEUE_BYTES_MAX", 100_000)
    disk = SlowDisk(tmp_path)
    one = Collector(plan("request", "response"), disk)
    running.append(one)
    for number in range(5_000):
        one.offer(request(number, b'"%s"' % (b"x" * 998)), answer(number))
    assert one._bytes <= 100_000
    assert one.dropped > 9_000
    disk.free.set()
    one.close()
    found = lines_below(tmp_path)
    assert len(found["request"]) + len(found["response"]) == one.collected > 0
    assert one.collected + one.dropped == 10_000
    assert one._bytes == 0


class SlowDisk(Spool):
    """Writes nothing until it is set free."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root), "i1", bytes_max=2**40)
        self.free = threading.Event()

    def write(self, collection: str, folder: str, lines: list[bytes]) -> None:
        self.free.wait(WAIT_S)
        super().write(collection, folder, lines)


def test_a_disk_that_refuses_costs_events_and_nothing_else(
    tmp_path: Path, running: list[Collector], capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "request").write_text("no folder can be here")
    one = Collector(plan("request", "response"), Spool(str(tmp_path), "i1", bytes_max=2**40))
    running.append(one)
    for number in range(10):
        one.offer(request(number), answer(number))
    one.close()
    assert (one.collected, one.dropped) == (10, 10)
    assert len(lines_below(tmp_path)["response"]) == 10
    assert "data collection has dropped 10 events: [Errno" in capfd.readouterr().err


def test_what_no_line_holds_is_an_object_that_the_line_names(
    tmp_path: Path, running: list[Collector]
) -> None:
    one = Collector(plan("request", "response"), Spool(str(tmp_path), "i1", bytes_max=2**40))
    running.append(one)
    picture = b"\x89PNG" + bytes(range(256))
    asked = request(1, picture)
    asked.headers[1] = ("content-type", "image/png")
    one.offer(asked, answer(1))
    one.close()
    (found,) = lines_below(tmp_path)["request"]
    assert found["datainblob"] == "true" and found["datacontenttype"] == "image/png"
    assert found["contentrange"] == f"bytes 0-{len(picture) - 1}/{len(picture)}"
    place = tmp_path / found["data"].removeprefix("azureml://")
    assert place.read_bytes() == picture
    assert place.name == found["id"]


# --- the script's own collectors ----------------------------------------------------------------


class Frame:
    """As much of a data frame as is looked at."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def to_json(self, *, orient: str) -> str:
        assert orient == "records"
        return json.dumps(self.rows)


@pytest.fixture
def script(
    tmp_path: Path, running: list[Collector], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Collector]:
    """Makes what a process would have."""
    pandas = types.ModuleType("pandas")
    pandas.DataFrame = Frame  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", pandas)

    def begin(*names: str, rate: float = 1.0) -> Collector:
        one = Collector(plan(*names, rate=rate), Spool(str(tmp_path), "i1", bytes_max=2**40))
        running.append(one)
        monkeypatch.setattr(monitoring, "current", one)
        return one

    return begin


def test_inputs_and_outputs_are_correlated(
    script: Callable[..., Collector], tmp_path: Path
) -> None:
    one = script("model_inputs", "model_outputs", rate=0.5)
    inputs = monitoring.Collector(name="model_inputs")
    outputs = monitoring.Collector(name="Model_Outputs")
    for number in range(200):
        frame = Frame([{"n": number}])
        context = inputs.collect(frame)
        frame.rows[0]["n"] = -1  # what the script does with it later is its own affair
        outputs.collect(Frame([{"n": number}]), context)
    own = monitoring.BasicCorrelationContext(id="mine-1", headers={"X-Batch": 7})
    assert inputs.collect(Frame([{"n": 1000}]), own) is own
    one.close()
    found = lines_below(tmp_path)
    ids = {each["correlationid"]: each["data"] for each in found["model_inputs"]}
    ids.pop("mine-1", None)
    assert 50 < len(ids) < 150
    assert ids == {each["correlationid"]: each["data"] for each in found["model_outputs"]}
    for each in found["model_inputs"]:
        assert each["type"] == "azureml.inference.model_inputs"
        assert each["collectdatatype"] == "pandas.core.frame.DataFrame"
        assert each["modelversion"] == "default"
        assert each["agent"].startswith("headgate_worker/")


def test_an_event_belongs_to_the_request_that_is_answered(
    script: Callable[..., Collector], tmp_path: Path
) -> None:
    one = script("model_inputs")
    token = output.REQUEST.set("request-7")
    try:
        assert monitoring.Collector(name="model_inputs").collect(Frame([])).get_id() == "request-7"
    finally:
        output.REQUEST.reset(token)
    one.close()
    assert lines_below(tmp_path)["model_inputs"][0]["xrequestid"] == "request-7"


def test_what_is_not_enabled_is_an_error_of_the_script_or_of_its_handler(
    script: Callable[..., Collector], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Exception, match="custom logging is not enabled"):
        monitoring.Collector(name="model_inputs")
    script("request", "model_inputs")
    for name in ("other", "request"):
        with pytest.raises(Exception, match=f"collection {name} is not enabled"):
            monitoring.Collector(name=name)
    found: list[Exception] = []
    quiet = monitoring.Collector(name="other", on_error=found.append)
    assert quiet.collect(Frame([])).get_id()
    assert len(found) == 2
    with pytest.raises(TypeError, match=r"data type \(list\) not supported"):
        monitoring.Collector(name="model_inputs").collect([1])
    monkeypatch.setattr(collector, "QUEUE_BYTES_MAX", 0)
    with pytest.raises(Exception, match="message queue is full"):
        monitoring.Collector(name="model_inputs").collect(Frame([]))


# --- in a worker process ------------------------------------------------------------------------

PANDAS = """
    import json

    class DataFrame:
        def __init__(self, rows):
            self.rows = rows

        def to_json(self, orient):
            return json.dumps(self.rows)
"""
SCRIPT = """
    import json
    import pandas as pd
    from azureml.ai.monitoring import Collector
    from azureml.ai.monitoring.context import BasicCorrelationContext

    def init():
        global inputs, outputs
        inputs = Collector(name="model_inputs")
        outputs = Collector(name="model_outputs")

    def run(data):
        rows = json.loads(data)
        context = inputs.collect(pd.DataFrame(rows))
        outputs.collect(pd.DataFrame([len(rows)]), context)
        return len(rows)
"""


@pytest_asyncio.fixture
async def server(data_dir: Path) -> AsyncIterator[natsd.RunningServer]:
    async with natsd.running(data_dir / "bus") as running:
        yield running


def told(folder: Path, *names: str) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    every = {name: {"rate": 1.0, "address": f"azureml://{name}"} for name in names}
    said = {"source": SOURCE, "rolling_rate": "hour", "capture_headers": [], "collections": every}
    return {"HEADGATE_COLLECT": json.dumps(said), "HEADGATE_COLLECT_DIR": str(folder)}


HEADERS = [["content-type", "application/json"]]
ALL = ("request", "response", "model_inputs", "model_outputs")


async def test_a_worker_that_drains_has_written_everything(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    """Two model processes, a script that collects, nothing of Azure's installed."""
    folder = data_dir / "collected"
    files = {"pandas.py": dedent(PANDAS)}
    async with (
        Router.connected(server) as router,
        worker(
            server, data_dir, SCRIPT, files=files, lanes=2, capacity=8, variables=told(folder, *ALL)
        ) as one,
    ):
        await router.until(one, InstanceState.READY)
        for number in range(20):
            head = [*HEADERS, ["x-request-id", f"r{number}"]]
            answer = await router.post(one, json.dumps([number]), h=head)
            assert answer.json() == 1, one.log()
        assert (await router.post(one, m="GET", p="/")).body == b"Healthy"
        await eventually(
            lambda: any(beat.collected == 80 for beat in router.heartbeats), "80 were collected"
        )
        await router.post(one, "[1, 2]", h=[*HEADERS, ["x-request-id", "last"]])
        one.signal()
        assert await one.wait() == 0, one.log()
    found = lines_below(folder)
    assert {name: len(each) for name, each in found.items()} == dict.fromkeys(ALL, 21)
    for name in ALL:
        assert [each["correlationid"] for each in found[name]] == [
            *(f"r{number}" for number in range(20)),
            "last",
        ]
    assert found["model_inputs"][3]["data"] == [3]
    assert found["response"][-1]["data"] == 2


async def test_what_was_written_outlives_a_kill(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    folder = data_dir / "collected"
    script = "def init(): pass\n\ndef run(data): return data\n"
    async with (
        Router.connected(server) as router,
        worker(server, data_dir, script, variables=told(folder, "request", "response")) as one,
    ):
        await router.until(one, InstanceState.READY)
        await router.post(one, "[1]", h=HEADERS)
        await eventually(lambda: lines_below(folder).get("response"), "a line is written")
        one.signal(signal.SIGKILL)
        await one.wait()
    assert [each["data"] for each in lines_below(folder)["request"]] == [[1]]


async def test_a_folder_that_cannot_be_written_leaves_scoring_alone(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    folder = data_dir / "collected"
    folder.mkdir()
    for name in ("request", "response"):
        (folder / name).write_text("in the way")
    script = "def init(): pass\n\ndef run(data): return data\n"
    async with (
        Router.connected(server) as router,
        worker(server, data_dir, script, variables=told(folder, "request", "response")) as one,
    ):
        await router.until(one, InstanceState.READY)
        for _ in range(5):
            assert (await router.post(one, "[1]", h=HEADERS)).status == 200
        await eventually(
            lambda: any(beat.collect_dropped == 10 for beat in router.heartbeats), "10 were dropped"
        )
        assert "data collection has dropped" in one.log()
