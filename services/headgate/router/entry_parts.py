"""An answer in parts for a client on the bus: as one message, or as many when it asks for that."""

from __future__ import annotations

from collections.abc import Callable

from headgate.router import answers
from headgate.router.answers import Answer
from headgate.router.streams import AnswerStream

SEQUENCE_HEADER = "Hg-Sequence"
END_HEADER = "Hg-End"
END, BROKEN = "complete", "broken"

Say = Callable[[list[tuple[str, str]], bytes], None]


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
        self._done(self._answer._replace(body=bytes(self._body), stream=None))

    def cut(self) -> None:
        pairs = [pair for pair in self._answer.headers if pair[0] != "content-type"]
        self._done(Answer(answers.MODEL_ERROR, pairs))


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
        self._next(answer.headers, answer.body)

    def write(self, part: bytes) -> None:
        self._next([], part)

    def end(self) -> None:
        self._next([(END_HEADER, END)], b"")
        self._done()

    def cut(self) -> None:
        self._next([(END_HEADER, BROKEN)], b"")
        self._done()

    def _next(self, pairs: list[tuple[str, str]], part: bytes) -> None:
        self._say([(SEQUENCE_HEADER, str(self._sequence)), *pairs], part)
        self._sequence += 1
        self._stream.take(len(part))


def in_one(answer: Answer) -> Answer:
    """A whole answer for a client that takes parts."""
    return answer._replace(headers=[(SEQUENCE_HEADER, "0"), (END_HEADER, END), *answer.headers])
