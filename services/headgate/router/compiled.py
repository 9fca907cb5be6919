"""Which modules of the scoring path may be compiled, and whether what is compiled is up to date."""

from __future__ import annotations

import hashlib
from pathlib import Path

from headgate.router import dispatch

# Relative to the folder on the module path. What is not here is not on the path of every request,
# or is made of things that mypyc has no native form for (pydantic models, generic log tables).
MODULES = tuple(
    f"headgate/router/{name}.py"
    for name in (
        "answers", "clock_offset", "core", "deadlines", "dispatch", "exchange", "flights", "frames",
        "headers", "holding", "http1", "ingress", "lane", "links", "parts", "pings", "quarantine",
        "requests", "scoring", "shape", "streams", "table", "traffic", "transfers",
        "usage_journal", "usage_page", "wire",
    )
)  # fmt: skip
RECORD = Path("headgate/router/compiled.sha256")


def fingerprint(root: Path) -> str:
    """Of the sources of all modules together."""
    digest = hashlib.sha256()
    for module in MODULES:
        digest.update((root / module).read_bytes())
    return digest.hexdigest()


def state() -> str:
    """``plain``, ``compiled``, or ``stale``: compiled from other sources than those beside it."""
    if dispatch.__file__.endswith(".py"):
        return "plain"
    root = Path(__file__).resolve().parents[2]
    try:
        return "compiled" if (root / RECORD).read_text() == fingerprint(root) else "stale"
    except OSError:
        return "stale"
