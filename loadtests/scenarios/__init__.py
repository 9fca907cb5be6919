"""Headgate's own scenarios: each a module with ``measure(quick)``, in the order of ``ALL``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from loadtests.scenarios import (
    batching,
    beside_batch,
    head_of_line,
    million,
    mirroring,
    overhead,
    overload,
    slow_clients,
    stopped,
    viewers,
)
from loadtests.scenarios.outcome import Outcome

ALL: dict[str, Callable[[bool], Coroutine[Any, Any, Outcome]]] = {
    "overhead": overhead.measure,
    "overload": overload.measure,
    "mirroring": mirroring.measure,
    "head-of-line": head_of_line.measure,
    "stopped": stopped.measure,
    "slow-clients": slow_clients.measure,
    "million": million.measure,
    "batching": batching.measure,
    "beside-batch": beside_batch.measure,
    "viewers": viewers.measure,
}


def run(name: str, *, quick: bool) -> dict[str, Any]:
    """Run one; its outcome as JSON. ``quick`` shortens it, and its tails are then less sure."""
    return uvloop.run(ALL[name](quick)).document()
