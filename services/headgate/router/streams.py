"""An answer that comes in parts, between the instance that makes it and the edge that takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from headgate.router.answers import ModelAnswer
from headgate_contracts import limits

if TYPE_CHECKING:
    from headgate.router.requests import Flight, Request


class Sink(Protocol):
    """What an edge does with the parts; it says ``stream.take`` when it has room for more."""

    def write(self, part: bytes) -> None:
        """The next part."""

    def end(self) -> None:
        """That was all."""

    def cut(self) -> None:
        """The rest will never come: the client must not take what it has for the whole."""


class AnswerStream:
    """One answer under way. Figures are bytes from its beginning.

    ``received`` have come, ``taken`` have gone on from the edge, and ``allowed`` is how far the
    instance may go: at most a window beyond what was taken.
    """

    __slots__ = (
        "_leave", "_let", "allowed", "flight", "idle_s", "meta", "received", "request", "said",
        "sequence", "since", "sink", "size", "taken",
    )  # fmt: skip

    def __init__(
        self,
        flight: Flight,
        request: Request,
        meta: dict[str, Any],
        idle_s: float,
        let: Callable[[AnswerStream], None],
        leave: Callable[[AnswerStream], None],
    ) -> None:
        size = meta.get("size")
        self.flight = flight
        self.request = request
        self.meta = meta  # of the first part
        self.idle_s = idle_s  # how long the instance may take for one part
        self.size = size if type(size) is int and size >= 0 else None
        self.sink: Sink | None = None  # none: what comes is dropped
        self.sequence = 1
        self.received = self.taken = 0
        self.allowed = limits.ANSWER_WINDOW_BYTES
        self.said = 0.0  # when its instance last heard of it
        self.since = 0.0  # the last part, or when it might go on after it had to wait
        self._let = let
        self._leave = leave

    @property
    def is_waited_for(self) -> bool:
        """Whether it is the instance's turn, not the client's."""
        return self.received < self.allowed

    def outcome(self, last: dict[str, Any]) -> ModelAnswer:
        """The answer as it was in the end, without its body."""
        ms = last.get("ms", self.meta.get("ms"))
        return ModelAnswer({**self.meta, "ms": ms}, b"", self)

    def take(self, count: int) -> None:
        """So many bytes have gone on to the client; there is room for as many more."""
        self.taken += count
        if self.taken + limits.ANSWER_WINDOW_BYTES // 2 >= self.allowed:
            self._let(self)

    def leave(self) -> None:
        """The client has gone."""
        self._leave(self)
