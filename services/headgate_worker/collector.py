"""Collects events beside the scoring path: a bounded queue, and a thread that writes files.

The model's thread leaves a request with its answer here after the answer is on its way. What the
queue has no room for is dropped and counted; scoring never waits.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Optional, Union
from uuid import uuid4

from headgate_worker import collecting, output
from headgate_worker.collecting import REQUEST, RESPONSE, Collection, Event, Plan
from headgate_worker.request import Answer, Request
from headgate_worker.settings import Settings
from headgate_worker.spool import Spool
from headgate_worker.streams import Stream

QUEUE_BYTES_MAX = 32 * 1024 * 1024
QUEUE_EVENTS_MAX = 20_000
GATHER_S = 0.1  # what comes within this time is written together
BATCH_EVENTS_MAX = 500
YIELD_AFTER = 8
REPORT_EVERY_S = 60.0
CLOSE_TIMEOUT_S = 2.0
_EVENT_BYTES = 500  # what an event takes besides its data

Deliver = Callable[[Request, Optional[Answer]], None]


class _Scored(NamedTuple):
    """A request as it was answered, for the collections of payloads."""

    at: float
    request: Request
    answer: Answer
    request_id: str


_Item = Union[_Scored, Event]


class Collector:
    """What a model process collects. ``collected`` and ``dropped`` count events."""

    def __init__(self, plan: Plan, spool: Spool) -> None:
        self.plan = plan
        self.collected = 0
        self.dropped = 0
        self._spool = spool
        self._request = plan.collections.get(REQUEST)
        self._response = plan.collections.get(RESPONSE)
        payloads = [each for each in (self._request, self._response) if each is not None]
        self._payloads = len(payloads)
        self._rate = max((each.rate for each in payloads), default=0.0)
        self._queue: deque[_Item] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._reported = (0, -REPORT_EVERY_S)
        self._why = "more comes than can be written or carried away"
        self._thread = threading.Thread(target=self._run, name="headgate-collector", daemon=True)
        self._thread.start()

    def through(self, deliver: Deliver) -> Deliver:
        """``deliver``, and then a look at what was delivered, when payloads are collected."""
        if not self._rate:
            return deliver

        def deliver_and_offer(request: Request, answer: Optional[Answer]) -> None:
            if answer is not None and answer.stream is not None:
                self._offer_later(request, answer, answer.stream)
            deliver(request, answer)
            if answer is not None and answer.stream is None:
                self.offer(request, answer)

        return deliver_and_offer

    def offer(self, request: Request, answer: Answer) -> None:
        """A request that was answered; never waits."""
        if request.path in ("/", "/swagger.json"):  # about the server, not for the model
            return
        request_id = _id_of(answer) or request.header("x-request-id") or str(uuid4())
        if collecting.sampled(request_id, self._rate):
            item = _Scored(time.time(), request, answer, request_id)
            self._put(item, len(request.body) + len(answer.body), self._payloads)

    def _offer_later(self, request: Request, answer: Answer, stream: Stream) -> None:
        """An answer in parts is kept at its end, from its beginning as far as one event may go."""

        stream.copy(
            collecting.DATA_BYTES_MAX,
            lambda body: self.offer(request, answer.with_body(body)),
        )

    def add(self, event: Event) -> bool:
        """An event of the script's own; False when there was no room for it."""
        return self._put(event, len(event.body), 1)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Writes what is left. May be called more than once; each waits for the end."""
        _flush_library(timeout_s)
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout_s)

    def _put(self, item: _Item, size: int, events: int) -> bool:
        size += _EVENT_BYTES
        with self._lock:
            if self._bytes + size > QUEUE_BYTES_MAX or len(self._queue) >= QUEUE_EVENTS_MAX:
                self.dropped += events
                return False
            self._bytes += size
            self._queue.append(item)
        if not self._wake.is_set():
            self._wake.set()
        return True

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._wake.wait()
            if not self._closing.is_set():
                self._closing.wait(GATHER_S)
            self._wake.clear()
            while self._queue:
                self._write(self._taken())
            self._report()
            if self._closing.is_set() and not self._queue:
                self._spool.close()
                return

    def _taken(self) -> list[_Item]:
        count = min(len(self._queue), BATCH_EVENTS_MAX)
        return [self._queue.popleft() for _ in range(count)]

    def _write(self, items: list[_Item]) -> None:
        """One batch: everything for one file in one piece, into the folder of this moment."""
        folder = collecting.folder(time.time(), self.plan.rolling_rate)
        lines: dict[str, list[bytes]] = {}
        for number, item in enumerate(items):
            events = self._events(item) if isinstance(item, _Scored) else [item]
            for event in events:
                try:
                    line = self._line(event, folder)
                except Exception as error:  # a value that has no JSON, a disk that is full
                    self._lose(1, error)
                else:
                    lines.setdefault(event.collection.name, []).append(line)
            if number % YIELD_AFTER == 0:
                time.sleep(0)  # else the model's thread waits up to 5 ms for each turn of its own
        for collection, each in lines.items():
            try:
                self._spool.write(collection, folder, each)
                self.collected += len(each)
            except OSError as error:
                self._lose(len(each), error)
        with suppress(OSError):
            self._lose(self._spool.keep_bounded(), None)
        with self._lock:
            self._bytes -= sum(_size_of(item) for item in items)

    def _events(self, item: _Scored) -> list[Event]:
        at, request, answer, request_id = item
        found: list[Event] = []
        headers = self.plan.headers
        for collection in (self._request, self._response):
            if collection is None or not collecting.sampled(request_id, collection.rate):
                continue
            body_bytes = None
            if collection is self._request:
                path = f"{request.path}?{request.query}" if request.query else request.path
                about = {"path": path, "method": request.method}
                pairs, body = request.headers, request.body
            else:
                about, pairs, body = {}, answer.all_headers(), answer.body
                if answer.stream is not None:
                    body_bytes = answer.stream.passed_bytes
            named = {name.lower(): value for name, value in pairs}
            captured = {name: named[name] for name in headers if name in named}
            about = {**collecting.attributes(captured), **about}
            kind = named.get("content-type", "")
            found.append(Event(collection, at, request_id, kind, bytes(body), about, body_bytes))
        return found

    def _line(self, event: Event, folder: str) -> bytes:
        event_id, source = str(uuid4()), self.plan.source
        found = collecting.data_of(event.kind, event.body)
        if found is not None:
            return collecting.line(source, event, event_id, *found, in_blob=False)
        self._spool.write_object(event.collection.name, folder, event_id, event.body)
        place = f"{event.collection.address}/{folder}/{event_id}"
        kind = event.kind.partition(";")[0].strip().lower() or "application/octet-stream"
        data = collecting.address_json(place)
        return collecting.line(source, event, event_id, kind, data, in_blob=True)

    def _lose(self, count: int, error: Optional[Exception]) -> None:
        with self._lock:
            self.dropped += count
        if error is not None:
            self._why = str(error)

    def _report(self) -> None:
        """Says in the log that something was lost, now and then."""
        dropped, (said, at) = self.dropped, self._reported
        if dropped > said and time.monotonic() - at >= REPORT_EVERY_S:
            self._reported = (dropped, time.monotonic())
            text = f"data collection has dropped {dropped - said} events: {self._why}"
            output.log("WARNING", text, 2)


def start(settings: Settings, instance: str) -> Optional[Collector]:
    """The collector of this process, when its deployment wants one."""
    if not settings.collect:
        return None
    share = settings.collect_bytes_max // settings.lanes
    spool = Spool(settings.collect_dir, instance, bytes_max=share)
    return Collector(collecting.plan(settings.collect), spool)


def custom(plan: Plan, name: str) -> Optional[Collection]:
    """The script's own collection of this name, if it is collected."""
    lower = name.lower()
    return None if lower in (REQUEST, RESPONSE) else plan.collections.get(lower)


def _id_of(answer: Answer) -> str:
    for name, value in reversed(answer.all_headers()):
        if name.lower() == "x-request-id":
            return value
    return ""


def _size_of(item: _Item) -> int:
    if isinstance(item, Event):
        return len(item.body) + _EVENT_BYTES
    return len(item.request.body) + len(item.answer.body) + _EVENT_BYTES


def _flush_library(timeout_s: float) -> None:
    """``azureml-ai-monitoring`` keeps events of its own in memory: it gets time to send them."""
    library = sys.modules.get("azureml.ai.monitoring.init")
    teardown = getattr(library, "teardown", None)
    if teardown is not None:
        flushing = threading.Thread(target=teardown, args=(True,), daemon=True)
        flushing.start()
        flushing.join(timeout_s)
