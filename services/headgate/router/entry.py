"""The bus entry: clients that are on NATS already ask ``hg.v1.score.<endpoint>``.

Request headers are those of HTTP. The answer's body is the model's; its status is in ``Hg-Status``
(never ``Status``, which clients take for the server's own), its headers are those of HTTP.

An answer in parts comes as one message, unless the request has ``Hg-Parts: true``: then as many,
numbered by ``Hg-Sequence`` from 0, the last with ``Hg-End: complete`` or ``broken``. They come as
fast as they are made. A caller that no longer listens ends the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable

from headgate.router import answers, core
from headgate.router.answers import Answer
from headgate.router.arrivals import Target
from headgate.router.entry_parts import Joined, Parted, in_one
from headgate.router.headers import Head
from headgate.router.lane import NO_RESPONDERS, Lane
from headgate.router.scoring import Scoring
from headgate.router.streams import AnswerStream
from headgate.runtime.log import Log
from headgate_contracts import limits, subjects

STATUS_HEADER = "Hg-Status"
# The answer goes where the caller says, with our rights; so only to inboxes.
_INBOX = "_INBOX"
_QUEUE = "router"
_TARGET = Target("POST", "/score", "NATS")
_HEARD = frozenset(
    [
        "authorization",
        "hg-parts",
        "azureml-model-deployment",
        "content-type",
        "x-headgate-trace",
        "x-request-id",
        "x-ms-client-request-id",
        "x-request-timeout-ms",
        "traceparent",
        "tracestate",
    ]
)

_log = Log("router")


class BusEntry:
    """Scoring requests that come over the bus; one router of all answers each."""

    def __init__(self, scoring: Scoring, lane: Lane, router_id: str) -> None:
        self._scoring = scoring
        self._lane = lane
        self._inbox = subjects.answers(f"{router_id}-entry", "parts")
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._end: Callable[[], None] = lambda: None
        self._numbers = itertools.count(1)
        self._parted: dict[str, AnswerStream] = {}  # by the reply subject of their parts

    def start(self) -> None:
        self._end = self._lane.subscribe(subjects.SCORE_ALL, self._on_request, queue=_QUEUE)
        self._lane.subscribe(f"{self._inbox}.*", self._on_notice)

    async def stop(self) -> None:
        """Take no new request and finish those under way."""
        self._end()
        try:
            await self._lane.sync()
        except ConnectionError:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.DRAIN_TIMEOUT_S):
                await self._idle.wait()

    def _on_request(self, subject: str, reply: str, block: bytes, payload: bytes) -> None:
        if not reply.startswith(_INBOX):
            return
        head = read_headers(block)
        admission = self._scoring.admit(subject.rpartition(".")[2], head, _TARGET)
        if isinstance(admission, Answer):
            self._send(reply, admission)
            return
        if len(payload) > self._scoring.body_bytes_max:
            refusal = core.too_large(self._scoring.body_bytes_max)
            self._send(reply, admission.refuse(refusal))
            return
        self._in_flight += 1
        self._idle.clear()
        in_parts = head.parts.strip().lower() == "true"

        def done(answer: Answer) -> None:
            stream = answer.stream
            if stream is None:
                self._over()
                self._send(reply, in_one(answer) if in_parts else answer)
            elif in_parts:
                self._send_parts(reply, answer, stream)
            else:
                room = self._lane.payload_bytes_max - limits.SCORING_OVERHEAD_BYTES
                Joined(answer, stream, room, done)

        self._scoring.submit(admission, "", payload, done)

    def _over(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    def _send_parts(self, reply: str, answer: Answer, stream: AnswerStream) -> None:
        notice = f"{self._inbox}.{next(self._numbers)}"
        self._parted[notice] = stream

        def say(lines: str, part: bytes) -> None:
            self._lane.send_with_headers(reply, _block(answer.status, lines), part, notice)

        def done() -> None:
            del self._parted[notice]
            self._over()

        Parted(answer, stream, say, done)

    def _on_notice(self, subject: str, _reply: str, block: bytes, _payload: bytes) -> None:
        """Nobody listens where a part was sent."""
        if subject in self._parted and block.startswith(NO_RESPONDERS):
            self._parted.pop(subject).leave()
            self._over()

    def _send(self, reply: str, answer: Answer) -> None:
        block = _block(answer.status, answer.lines)
        if len(block) + len(answer.body) > self._lane.payload_bytes_max:
            answer = answers.without_body(answer)
            block = _block(answer.status, answer.lines)
            _log.warning("answer_too_large", reply=reply)
        self._lane.send_with_headers(reply, block, answer.body)


def read_headers(block: bytes) -> Head:
    """The headers of a NATS message that the router hears."""
    head = Head()
    for line in block.decode("latin-1").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon and name.lower() in _HEARD:
            head.add(name, value.strip())
    return head


def _block(status: int, lines: str) -> bytes:
    return f"NATS/1.0\r\n{STATUS_HEADER}: {status}\r\n{lines}\r\n".encode("latin-1")
