"""Requests that go through a model together: what a script says of it, and how batches are cut.

A batch is formed when the model becomes free, from what is there by then. No clock, no queue here:
``batch_executor`` has those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Optional

Inputs = dict[str, Any]

MAX_ROWS_DEFAULT = 32
ROOM_MAX = 1_000  # requests; no deployment may ask for more either
_ROWS_WEIGHT = 0.05  # of a new request in the moving mean: about the last twenty


class Batched(NamedTuple):
    """How requests of one kind share a call of the model.

    ``item`` makes of a request's inputs what the model gets of it, ``rows`` says how much of a
    batch an item takes up, and only items of the same ``key`` go together. ``many`` answers a list
    of items with as many answers in the same order; an answer that is an exception fails its own
    request and no other.
    """

    item: Callable[[Inputs], Any]
    rows: Callable[[Any], int]
    key: Callable[[Any], Hashable]
    many: Callable[[list[Any]], Sequence[Any]]


class Limits(NamedTuple):
    """How large a batch may get, and for how long an idle model waits for more of it."""

    max_rows: int = MAX_ROWS_DEFAULT
    max_wait_s: float = 0.0


class MismatchError(Exception):
    """A batch came back with answers that cannot be told apart."""


class Room:
    """How many requests an instance should have in hand: the batch in the model and the next one.

    With fewer, the model would idle while the next batch travels; with more, requests would wait
    here for a model that is busy while another instance is free. Limits count rows, so this follows
    the mean number of rows of a request.
    """

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._mean_rows = 1.0

    def note(self, rows: int) -> None:
        self._mean_rows += _ROWS_WEIGHT * (min(rows, self._max_rows) - self._mean_rows)

    @property
    def requests(self) -> int:
        return min(ROOM_MAX, 2 * math.ceil(self._max_rows / self._mean_rows - 0.01))


def of_script(
    run: Callable[..., Any],
    parameters: Sequence[str],
    run_batch: Callable[[list[Any]], Any],
    rows: Optional[Callable[[Any], int]],
) -> Batched:
    """For a script with ``run_batch``: its items are what ``run`` would get.

    That is the value of its one parameter, or a dict when it has several; inference-schema's
    decorators convert it as they would for run().
    """
    convert = _converter(run)
    alone = parameters[0] if len(parameters) == 1 else None

    def item(inputs: Inputs) -> Any:
        converted = convert(**inputs)
        return converted[alone] if alone is not None else converted

    def many(items: list[Any]) -> Sequence[Any]:
        return checked(run_batch(items), len(items))

    return Batched(item, rows or _one, _same, many)


def checked(answers: Any, count: int) -> Sequence[Any]:
    """Answers as a sequence of that length. Raises MismatchError."""
    if isinstance(answers, (str, bytes, dict)) or not hasattr(answers, "__len__"):
        raise MismatchError(
            f"run_batch() must return a list with an answer for each of its items, not a "
            f"{type(answers).__name__}"
        )
    if len(answers) != count:
        raise MismatchError(
            f"run_batch() got {count} items and returned {len(answers)} answers; it must return "
            "one for each, in the same order, and may return an exception for one that failed"
        )
    return answers  # type: ignore[no-any-return]


def counted(rows: Any) -> int:
    """What a script's ``batch_rows`` said, at least 1. Raises TypeError and ValueError."""
    return max(1, int(rows))


def _one(item: Any) -> int:
    return 1


def _same(item: Any) -> Hashable:
    return None


def _converter(run: Any) -> Callable[..., Inputs]:
    """A function that gives back its arguments as the decorators of ``run`` hand them on."""
    layers = []
    while hasattr(run, "_self_wrapper"):  # of wrapt, with which inference-schema decorates
        layers.append((type(run), run._self_wrapper))
        run = run.__wrapped__
    convert: Callable[..., Inputs] = dict
    for kind, wrapper in reversed(layers):
        convert = kind(convert, wrapper)
    return convert
