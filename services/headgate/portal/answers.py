"""What several pages of a session ask at about the same time is asked once, for all of them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from headgate_contracts import limits

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Asked:
    task: asyncio.Task[Any]
    at: float


class Answers:
    """Of one session, and so of one token; at most :data:`limits.STUDIO_ANSWERS_MAX`.

    ``monotonic`` tells seconds of a clock."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._asked: OrderedDict[Hashable, _Asked] = OrderedDict()

    async def get(
        self, key: Hashable, fresh_s: float, ask: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        """The answer to a question that was asked less than ``fresh_s`` ago, or is asked now.

        Raises what ``ask`` raises, to everybody who waits for it; the next one asks again."""
        now = self._monotonic()
        known = self._asked.get(key)
        if known is None or now - known.at >= fresh_s or _has_failed(known.task):
            known = _Asked(asyncio.create_task(ask()), now)
            known.task.add_done_callback(_has_failed)  # it is looked at, if nobody else looks
            self._asked[key] = known
            self._asked.move_to_end(key)
            while len(self._asked) > limits.STUDIO_ANSWERS_MAX:
                self._asked.popitem(last=False)
        # Whoever does not wait any longer takes nothing from the others.
        return cast(T, await asyncio.shield(known.task))

    def forget(self) -> None:
        """Nobody is there who would ask."""
        for asked in self._asked.values():
            asked.task.cancel()
        self._asked.clear()


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
