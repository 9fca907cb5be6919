"""Answers that the bus has not confirmed yet, in order and bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

ANSWERS_MAX = 20_000
BYTES_MAX = 64 * 1024 * 1024


class Answer(NamedTuple):
    """One message to a router."""

    number: int
    subject: str
    payload: bytes
    deadline_ms: float


class Kept:
    """Answers are numbered; confirming a number confirms all up to it."""

    def __init__(self) -> None:
        self.last_number = 0
        self._answers: deque[Answer] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._answers)

    def __iter__(self) -> Iterator[Answer]:
        return iter(self._answers)

    def add(self, subject: str, payload: bytes, deadline_ms: float) -> None:
        """Keeps one more; the oldest go when it gets too much."""
        self.last_number += 1
        self._answers.append(Answer(self.last_number, subject, payload, deadline_ms))
        self._bytes += len(payload)
        while len(self._answers) > ANSWERS_MAX or self._bytes > BYTES_MAX:
            self._bytes -= len(self._answers.popleft().payload)

    def confirm(self, number: int) -> None:
        while self._answers and self._answers[0].number <= number:
            self._bytes -= len(self._answers.popleft().payload)

    def drop_expired(self, now_ms: float) -> None:
        """Forgets those that nobody waits for any more."""
        self._answers = deque(kept for kept in self._answers if kept.deadline_ms > now_ms)
        self._bytes = sum(len(kept.payload) for kept in self._answers)
