"""What was measured and what runs, as rows for people and programs."""

from __future__ import annotations

import re
from typing import Any

Row = dict[str, Any]

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_WITH_FREE_KEYS = ("statuses", "mirrored", "refused", "quarantined")


def snake_case(name: str) -> str:
    """``readyInstances`` as ``ready_instances``."""
    return _HUMP.sub("_", name).lower()


def renamed(value: Any) -> Any:
    """A JSON value of the REST API with the command line's names."""
    if isinstance(value, list):
        return [renamed(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        snake_case(key): item if key in _WITH_FREE_KEYS else renamed(item)
        for key, item in value.items()
    }


def traffic_rows(measured: Row) -> list[Row]:
    """One row per deployment: declared and observed share, answers by status, latencies."""
    rows = []
    for name, each in (measured.get("deployments") or {}).items():
        row = {"deployment": name} | renamed(each)
        for kind in ("latency_ms", "mirror_latency_ms"):
            prefix = kind.removesuffix("latency_ms")
            for quantile, value in (row.pop(kind, None) or {}).items():
                row[f"{prefix}{quantile}_ms"] = value
        rows.append(row)
    return rows
