"""Whether this router runs as machine code."""

from __future__ import annotations

from pathlib import Path

from headgate.router import dispatch
from headgate.runtime.compiled import ROUTER


def state() -> str:
    """``plain``, ``compiled``, or ``stale``: compiled from other sources than those beside it."""
    if dispatch.__file__.endswith(".py"):
        return "plain"
    return "compiled" if ROUTER.library(Path(__file__).resolve().parents[2]) else "stale"
