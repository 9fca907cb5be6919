"""An answer in parts for a client on the bus: as one message, or as many when it asks for that."""

from __future__ import annotations

from collections.abc import Callable

from headgate.router import answers
from headgate.router.answers import Answer
from headgate.router.streams import AnswerStream

SEQUENCE_HEADER = "Hg-Sequence"
END_HEADER = "Hg-End"
END, BROKEN = "complete", "broken"
_END, _BROKEN = f"{END_HEADER}: {END}\r\n", f"{END_HEADER}: {BROKEN}\r\n"

Say = Callable[[str, bytes], None]  # headers as lines, and a part


class Joined:
    """Gathers an answer; ``done`` gets it whole, or an error when it is broken or too large."""

    def __init__(
        self, answer: Answer, stream: AnswerStream, bytes_max: int, done: Callable[[Answer], None]
    ) -> None:
        self._answer = answer
        self._stream = stream
        self._bytes_max = bytes_max
        self._done = done
        self._body = bytearray()
        stream.sink = self
        self.write(answer.body)

    def write(self, part: bytes) -> None:
        self._body += part
        if len(self._body) > self._bytes_max:
            self._stream.leave()
            self.cut()
        else:
            self._stream.take(len(part))

    def end(self) -> None:
        answer = self._answer
        self._done(Answer(answer.status, answer.lines, bytes(self._body)))

    def cut(self) -> None:
        self._done(answers.without_body(self._answer))


class Parted:
    """Says each part in a message of its own, with ``Hg-Sequence``, and ``Hg-End`` in the last."""

    def __init__(
        self, answer: Answer, stream: AnswerStream, say: Say, done: Callable[[], None]
    ) -> None:
        self._stream = stream
        self._say = say
        self._done = done
        self._sequence = 0
        stream.sink = self
        self._next(answer.lines, answer.body)

    def write(self, part: bytes) -> None:
        self._next("", part)

    def end(self) -> None:
        self._next(_END, b"")
        self._done()

    def cut(self) -> None:
        self._next(_BROKEN, b"")
        self._done()

    def _next(self, lines: str, part: bytes) -> None:
        self._say(f"{SEQUENCE_HEADER}: {self._sequence}\r\n{lines}", part)
        self._sequence += 1
        self._stream.take(len(part))


def in_one(answer: Answer) -> Answer:
    """A whole answer for a client that takes parts."""
    lines = f"{SEQUENCE_HEADER}: 0\r\n{_END}{answer.lines}"
    return Answer(answer.status, lines, answer.body, answer.stream)
