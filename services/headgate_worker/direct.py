"""One instance on a port of its own, without a bus: what a local endpoint is.

For one person at a time: no key, no limit on waiting requests, no TLS. The answers are those that
the same script gives behind a router, for the same code makes them.
"""

from __future__ import annotations

import queue
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any, Optional

from headgate_worker import output
from headgate_worker.core import BODY_BYTES_MAX
from headgate_worker.execution import Executor
from headgate_worker.lane import EXIT_CRASHED, EXIT_DRAINED, EXIT_SCRIPT_FAILED
from headgate_worker.request import Answer, Request
from headgate_worker.scoring import message
from headgate_worker.settings import Settings
from headgate_worker.streams import PART_BYTES_MAX, Part, Stream

IDLE_TIMEOUT_S = 60
_CHUNK_LINE_BYTES_MAX = 1_024
_NEVER = float("inf")


class Direct:
    """A model process on HTTP. ``ready``, ``fail`` and ``deliver`` come from its thread."""

    def __init__(self, settings: Settings, signals: socket.socket) -> None:
        host, _, port = settings.listen.rpartition(":")
        self._address = (host, int(port))
        self._drain_timeout_s = settings.drain_timeout_s
        self._signals = signals
        self._executor: Optional[Executor] = None
        self._numbers = count(1)
        self._waiting: dict[str, queue.SimpleQueue[Optional[Answer]]] = {}
        self._idle = threading.Condition()
        self._failed = False
        self.exit_code = EXIT_CRASHED
        self.started = threading.Event()
        self.ended = threading.Event()

    # -- from the model's thread --------------------------------------------------------------

    def ready(self, executor: Executor) -> None:
        """init() has returned; requests go to ``executor``."""
        self._executor = executor
        output.log("INFO", f"listening on http://{self._address[0]}:{self._address[1]}", 1)

    def fail(self, code: str, text: str) -> None:
        """The script cannot serve."""
        self._failed = True
        self.exit_code = EXIT_SCRIPT_FAILED
        self.ended.set()

    def deliver(self, request: Request, answer: Optional[Answer]) -> None:
        """An answer for whoever waits for it."""
        waiting = self._waiting.get(request.reply)
        if waiting is not None:
            waiting.put(answer)

    gather = deliver

    def flush(self) -> None:
        """Nothing is held back."""

    @property
    def serving(self) -> bool:
        """Whether the model's thread has got beyond init()."""
        return self._executor is not None

    # -- the thread ---------------------------------------------------------------------------

    def run(self) -> None:
        """Serves until a signal comes; sets ``exit_code`` and then ``ended``."""
        try:
            server = _Server(self._address, self)
        except OSError as error:
            output.log(
                "ERROR", f"cannot listen on {self._address[0]}:{self._address[1]}: {error}", 2
            )
            self.started.set()
            self.ended.set()
            return
        threading.Thread(target=server.serve_forever, name="headgate-http", daemon=True).start()
        self.started.set()
        self._signals.setblocking(True)
        self._signals.recv(1)
        server.shutdown()
        with self._idle:
            self._idle.wait_for(lambda: not self._waiting, self._drain_timeout_s)
        if self._executor is not None:
            self._executor.stop()
        if not self._failed:
            self.exit_code = EXIT_DRAINED
        self.ended.set()

    # -- from the threads of connections -------------------------------------------------------

    @contextmanager
    def answer(
        self, method: str, target: str, headers: list[tuple[str, str]], body: bytes
    ) -> Iterator[Answer]:
        """What the script, or the server around it, answers; the context is its way out."""
        executor = self._executor
        if executor is None:
            yield message(503, "init() of the scoring script has not returned yet.")
            return
        path, _, query = target.partition("?")
        token = str(next(self._numbers))
        meta: dict[str, Any] = {"id": token, "m": method, "p": path, "q": query, "h": headers}
        waiting = self._waiting[token] = queue.SimpleQueue()
        try:
            executor.submit(Request(token, meta, body, _NEVER))
            answer = waiting.get()
            yield answer if answer is not None else message(408, "The request was too old.")
        finally:
            with self._idle:
                del self._waiting[token]
                self._idle.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], direct: Direct) -> None:
        self.direct = direct
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that breaks off is none; anything else is told with its traceback."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _BodyError(Exception):
    """The body cannot be read; ``status`` says why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_TIMEOUT_S
    server: _Server

    def _serve(self) -> None:
        try:
            body = self._body()
        except _BodyError as error:
            self.close_connection = True
            self._send(message(error.status, str(error)))
            return
        pairs = [(name, value) for name, value in self.headers.items()]
        with self.server.direct.answer(self.command, self.path, pairs, body) as answer:
            if answer.stream is None:
                self._send(answer)
            else:
                self._send_parts(answer, answer.stream)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = _serve  # noqa: N815

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._chunks()
        size = _size(self.headers.get("Content-Length") or "0", 10)
        if size > BODY_BYTES_MAX:
            raise _too_large()
        return self.rfile.read(size)

    def _chunks(self) -> bytes:
        found = bytearray()
        while size := _size(self._line().partition(";")[0].strip(), 16):
            if len(found) + size > BODY_BYTES_MAX:
                raise _too_large()
            found += self.rfile.read(size)
            self._line()
        while self._line().strip():
            pass
        return bytes(found)

    def _line(self) -> str:
        return self.rfile.readline(_CHUNK_LINE_BYTES_MAX).decode("latin-1")

    def _send(self, answer: Answer) -> None:
        with suppress(OSError):  # whoever asked has gone
            self.send_response(answer.status)
            for name, value in answer.all_headers():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

    def _send_parts(self, answer: Answer, stream: Stream) -> None:
        """Chunked, or up to the end of the connection for a client of HTTP/1.0."""
        chunked = self.request_version != "HTTP/1.0"
        there = threading.Event()
        stream.attach(there.set)
        try:
            self.send_response(answer.status)
            for name, value in answer.all_headers():
                self.send_header(name, value)
            if chunked:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Connection", "close")
            self.end_headers()
            while not stream.ended:
                there.wait()
                there.clear()
                while part := stream.take(PART_BYTES_MAX):
                    self.wfile.write(_chunk(part) if chunked else part)
            if stream.error:
                self.close_connection = True
                if not chunked:
                    self._reset()
            elif chunked:
                self.wfile.write(b"0\r\n\r\n")
        except OSError:  # whoever asked has gone
            stream.leave()
            self.close_connection = True

    def _reset(self) -> None:
        """Ends the connection so that it cannot be taken for the end of the answer."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Here: the server would say an orderly goodbye first. The file holds the socket open.
        self.rfile.close()
        self.connection.close()

    def version_string(self) -> str:
        return "headgate"

    def log_message(self, format: str, *args: Any) -> None:
        """The script's own lines are the log."""


def _size(text: str, base: int) -> int:
    if not set(text.lower()) <= set("0123456789abcdef"[:base]) or not text:
        raise _BodyError(400, f"The size of the body is no number: {text[:40]!r}.")
    return int(text, base)


def _too_large() -> _BodyError:
    return _BodyError(413, f"A request can have at most {BODY_BYTES_MAX} bytes.")


def _chunk(part: Part) -> bytes:
    return b"".join((b"%x\r\n" % len(part), part, b"\r\n"))
