"""Rows of the studio's tables about quotas, service levels and the audit. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.portal.core import UNKNOWN, short

_EACH = "*"
_WINDOW_SHOWN = "PT1H"


def quota_row(told: Mapping[str, Any]) -> dict[str, str]:
    """A quota: what it is of, and how much of it is used."""
    fields = told.get("properties") or {}
    of = [
        f"{'each ' if fields[name] == _EACH else ''}{name} "
        f"{'' if fields[name] == _EACH else fields[name]}".strip()
        for name in ("endpoint", "deployment", "caller")
        if fields.get(name)
    ]
    return {
        "name": str(told.get("name", "")),
        "kind": str(fields.get("kind", "")),
        "of": ", ".join(of) or "the workspace",
        "used": short(fields.get("used"), 2),
        "limit": short(fields.get("limit"), 2),
        "window": str(fields.get("window") or ""),
    }


def level_row(told: Mapping[str, Any]) -> dict[str, str]:
    """How an endpoint keeps its objective: over the last hour, and what is left of the budget."""
    fields = told.get("properties") or {}
    window: Mapping[str, Any] = next(
        (each for each in fields.get("windows") or () if each.get("window") == _WINDOW_SHOWN), {}
    )
    target = f"{fields.get('availabilityTargetPercent', UNKNOWN)} %"
    if fields.get("latencyTargetMs"):
        target += f", {fields['latencyTargetPercent']:g} % within {fields['latencyTargetMs']:g} ms"
    return {
        "name": str(fields.get("endpoint", "")),
        "target": f"{target} over {fields.get('windowDays', UNKNOWN)} days",
        "hour": _percent(window.get("availabilityPercent")),
        "burn": short(window.get("availabilityBurnRate"), 2),
        "left": _percent(fields.get("availabilityBudgetLeftPercent")),
        "latency": _percent(fields.get("latencyBudgetLeftPercent")),
        "alerts": ", ".join(
            f"{each['severity']}: {each['indicator']}" for each in fields.get("alerts") or ()
        ),
    }


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3f}".rstrip("0").rstrip(".") + " %"


def audit_row(event: Mapping[str, Any]) -> dict[str, str]:
    """A request that changed something, or tried to."""
    data = event.get("data") or {}
    return {
        "id": str(event.get("id", "")),
        "time": str(event.get("time", "")),
        "by": str(data.get("by", "")),
        "what": str(data.get("what", "")),
        "where": str(data.get("path", "")),
        "status": str(data.get("status", "")),
        "address": str(data.get("address", "")),
    }
