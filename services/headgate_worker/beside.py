"""Requests for a model server of the user's own, which speaks HTTP beside us.

Instead of a script, the model is a server at an address. Its readiness route says when it may be
asked, its liveness route whether it still lives; what arrives for ``/score`` goes to its scoring
route, everything else to the path that it names.
"""

from __future__ import annotations

import http.client
import json
import queue
import threading
import time
from contextlib import suppress
from typing import Any, NamedTuple, Optional
from urllib.parse import quote

from headgate_worker import output
from headgate_worker.execution import Deliver
from headgate_worker.lane import Lane
from headgate_worker.request import Answer, Request
from headgate_worker.scoring import message
from headgate_worker.streams import PART_BYTES_MAX, ReaderGoneError, Stream

SCORE = "/score"
THREADS_MAX = 256
PROBE_PERIOD_S = 1.0
PROBE_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 3_600.0
# What belongs to one connection, and what only the router may know.
_NOT_PASSED_ON = frozenset(
    (
        *("authorization", "connection", "content-length", "host", "keep-alive"),
        *("proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"),
        "upgrade",
    )
)


class Route(NamedTuple):
    """Where one question to the server is asked."""

    port: int
    path: str


class Server(NamedTuple):
    """The address of the server and its routes."""

    host: str
    scoring: Route
    readiness: Optional[Route]
    liveness: Optional[Route]

    @staticmethod
    def parse(text: str) -> Server:
        """As the driver says it: an object in JSON."""
        said = json.loads(text)

        def route(name: str) -> Optional[Route]:
            found = said.get(name)
            return Route(int(found["port"]), str(found["path"])) if found else None

        scoring = route("scoring")
        if scoring is None:
            raise ValueError("a server without a scoring route")
        return Server(str(said["host"]), scoring, route("readiness"), route("liveness"))


class Bridge:
    """Hands requests to the server, side by side up to the instance's capacity."""

    interruptible = False
    inbox = None
    room = 1

    def __init__(self, server: Server, deliver: Deliver, capacity: int) -> None:
        self._server = server
        self._deliver = deliver
        self._threads_max = min(capacity, THREADS_MAX)
        self._queue: queue.SimpleQueue[Optional[Request]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._lock = threading.Lock()
        self._silent_since_ms: Optional[float] = None

    # -- what a lane wants of an executor -----------------------------------------------------

    def figures(self) -> dict[str, int]:
        return {}

    def submit(self, request: Request) -> None:
        with self._lock:
            if not self._idle and len(self._threads) < self._threads_max:
                thread = threading.Thread(target=self._work, name="headgate-ask", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._queue.put(request)

    def serve(self) -> None:
        """Requests run on threads of their own."""

    def leave(self, request: Request) -> None:
        """Its server learns it when the answer cannot be written."""

    def withdraw(self) -> list[Request]:
        left: list[Request] = []
        with suppress(queue.Empty):
            while (request := self._queue.get_nowait()) is not None:
                left.append(request)
        return left

    def overdue_ms(self, now_ms: float) -> float:
        """How long the server has not answered its liveness route."""
        since = self._silent_since_ms
        return max(0.0, now_ms - since) if since is not None else 0.0

    def stop(self) -> None:
        for _ in self._threads:
            self._queue.put(None)

    # -- probes -------------------------------------------------------------------------------

    def wait_ready(self, lane: Lane) -> None:
        """Return when the server says that it is ready, or the lane has ended."""
        route = self._server.readiness or self._server.liveness
        while not lane.ended.is_set():
            problem = self._problem(route) if route else self._closed(self._server.scoring.port)
            _tell(lane, problem)
            if not problem:
                return
            lane.ended.wait(PROBE_PERIOD_S / 4)

    def watch(self, lane: Lane) -> None:
        """Ask both routes again and again until the lane has ended."""
        server = self._server
        while not lane.ended.wait(PROBE_PERIOD_S):
            asked_ms = time.monotonic() * 1e3
            dead = self._problem(server.liveness) if server.liveness else ""
            if not dead:
                self._silent_since_ms = None
            elif self._silent_since_ms is None:
                self._silent_since_ms = asked_ms
            not_ready = self._problem(server.readiness) if server.readiness else ""
            _tell(lane, dead or not_ready)
            lane.say_ready(not not_ready)

    def _problem(self, route: Route) -> str:
        """Why a probe of the server fails; empty when it passes."""
        connection = http.client.HTTPConnection(
            self._server.host, route.port, timeout=PROBE_TIMEOUT_S
        )
        try:
            connection.request("GET", route.path)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            return f"GET {route.path} on port {route.port}: {error or type(error).__name__}"
        finally:
            connection.close()
        passed = 200 <= status < 400
        return "" if passed else f"GET {route.path} on port {route.port} answers {status}"

    def _closed(self, port: int) -> str:
        connection = http.client.HTTPConnection(self._server.host, port, timeout=PROBE_TIMEOUT_S)
        try:
            connection.connect()
        except OSError as error:
            return f"port {port}: {error}"
        finally:
            connection.close()
        return ""

    # -- requests -----------------------------------------------------------------------------

    def _work(self) -> None:
        connection: Optional[http.client.HTTPConnection] = None
        while True:
            with self._lock:
                self._idle += 1
            request = self._queue.get()
            with self._lock:
                self._idle -= 1
            if request is None:
                return
            left_s = min(request.deadline_ms / 1e3 - time.monotonic(), ANSWER_TIMEOUT_S)
            if left_s <= 0:
                self._deliver(request, None)
                continue
            started = time.perf_counter()
            answer, connection = self._ask(request, left_s, connection)
            if answer is not None:
                answer.run_ms = (time.perf_counter() - started) * 1e3
                self._deliver(request, answer)

    def _ask(
        self, request: Request, left_s: float, kept: Optional[http.client.HTTPConnection]
    ) -> tuple[Optional[Answer], Optional[http.client.HTTPConnection]]:
        """The server's answer, and the connection if another request may use it.

        No answer: it was long, or of unknown length, and has been delivered in parts.
        """
        scoring = self._server.scoring
        connection = kept or http.client.HTTPConnection(self._server.host, scoring.port)
        connection.timeout = left_s
        if connection.sock is not None:
            connection.sock.settimeout(left_s)
        path = scoring.path if request.path == SCORE else quote(request.path, safe="/:@%")
        target = f"{path}?{request.query}" if request.query else path
        headers = {n: v for n, v in request.headers if n.lower() not in _NOT_PASSED_ON}
        headers["Content-Length"] = str(len(request.body))
        try:
            connection.request(request.method, target, body=request.body, headers=headers)
            response = connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            connection.close()
            if kept is not None:  # the server had closed it before it saw the request
                return self._ask(request, left_s, None)
            return _no_answer(error), None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return _no_answer(error), None
        if (response.length or 0) <= PART_BYTES_MAX and not response.chunked:
            return _read(response, connection)
        return None, self._pour(request, response, connection)

    def _pour(
        self,
        request: Request,
        response: http.client.HTTPResponse,
        connection: http.client.HTTPConnection,
    ) -> Optional[http.client.HTTPConnection]:
        """Delivers an answer as it comes; the connection, if another request may use it."""
        started = time.perf_counter()
        stream = Stream(response.length)
        room = threading.Event()
        stream.on_room(room.set)
        request.deadline_ms = float("inf")
        if connection.sock is not None:
            connection.sock.settimeout(ANSWER_TIMEOUT_S)
        error = ""
        try:
            self._deliver(request, Answer(response.status, _pairs(response), b"", stream=stream))
            while part := response.read1(PART_BYTES_MAX):
                room.clear()
                if not stream.put(part):
                    room.wait()
            if response.length:  # read1() does not say so
                error = f"the model's server ended {response.length} bytes too early"
        except ReaderGoneError:
            error = "nobody waits for the rest"
        except (OSError, http.client.HTTPException) as reason:
            error = f"the model's server broke off: {reason or type(reason).__name__}"
        if error:
            output.log("WARNING", error, 2)
        stream.close((time.perf_counter() - started) * 1e3, error)
        if error or response.will_close:
            connection.close()
            return None
        return connection


def _tell(lane: Lane, problem: str) -> None:
    """What fails goes with every heartbeat; into the log only when it is new."""
    said = f"the server does not pass its probe: {problem}" if problem else ""
    if said and said != lane.trouble:
        output.log("WARNING", said, 2)
    lane.trouble = said


def _pairs(response: http.client.HTTPResponse) -> list[tuple[str, str]]:
    return [(n, v) for n, v in response.getheaders() if n.lower() not in _NOT_PASSED_ON]


def _read(
    response: http.client.HTTPResponse, connection: http.client.HTTPConnection
) -> tuple[Answer, Optional[http.client.HTTPConnection]]:
    try:
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return _no_answer(error), None
    answer = Answer(response.status, _pairs(response), body)
    if response.will_close:
        connection.close()
        return answer, None
    return answer, connection


def _no_answer(error: Any) -> Answer:
    text = f"the model's server gave no answer: {error or type(error).__name__}"
    output.log("ERROR", text, 2)
    return message(502, text, failed=True)
