"""What becomes a row of a log table, and which rows are forgotten. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from headgate_contracts import limits
from headgate_contracts.logs import Column, Log, QueryLogs, Scalar

IMAGE_FETCHER = "image-fetcher"
INFERENCE_SERVER = "inference-server"
MINUTE_S = 60

OPERATIONS: Mapping[Log, str] = {
    Log.CONSOLE: "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/consoleLog",
    Log.EVENTS: "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/event",
}

_COMMON = ("id", "cause", "at", "workspace", "endpoint", "deployment", "instance", "spec")


def event_rows(what: str, event: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of an event about an instance: its name as Kubernetes and Azure have it.

    An event that is not known here keeps its own name: ``liveness_probe_failed`` becomes
    ``LivenessProbeFailed``, and its message is what it says.
    """
    version = str(event.get("spec", ""))[:12]
    named: list[tuple[str, str, str]]
    if what == "started":
        restarts = event.get("restarts", 0)
        again = f", restart {restarts} in a row" if restarts else ""
        named = [
            (IMAGE_FETCHER, "Pulled", f"Code, model and environment of version {version} are here"),
            (INFERENCE_SERVER, "Created", f"Created the instance for version {version}"),
            (INFERENCE_SERVER, "Started", f"Started as process {event.get('pid', 0)}{again}"),
        ]
    elif what == "ready":
        startup_s = float(event.get("startup_s", 0.0))
        named = [(INFERENCE_SERVER, "Ready", f"Ready for requests after {startup_s:.1f} s")]
    elif what == "stopped":
        named = [(INFERENCE_SERVER, "Killing", "Stopped as asked, its requests finished first")]
    elif what == "lost":
        named = [(INFERENCE_SERVER, "BackOff", _lost(event))]
    else:
        named = [(INFERENCE_SERVER, pascal(what), _said(event))]
    about = {name: str(event.get(name, "")) for name in _COMMON[3:7]}
    return [
        {
            **about,
            "at": float(event.get("at", 0.0)),
            "container": container,
            "name": name,
            "message": clean(message),
        }
        for container, name, message in named
    ]


def pascal(what: str) -> str:
    """``liveness_probe_failed`` as ``LivenessProbeFailed``."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[_-]", what))


def clean(text: str) -> str:
    """A text that every database takes, of bounded length."""
    return text[: limits.LOG_MESSAGE_CHARS_MAX].replace("\0", "�")


def _lost(event: Mapping[str, Any]) -> str:
    reason, wait_s = str(event.get("reason", "")), event.get("restart_in_s")
    again = "not started again" if wait_s is None else f"started again in {float(wait_s):.0f} s"
    return f"{reason}; {again}"


def _said(event: Mapping[str, Any]) -> str:
    """The event's own words, else its fields."""
    for name in ("message", "reason", "error"):
        if isinstance(event.get(name), str) and event[name]:
            return str(event[name])
    told = (f"{name}={value}" for name, value in event.items() if name not in _COMMON)
    return ", ".join(told)


def constant(column: Column, query: QueryLogs) -> Scalar:
    """The value of a column that is the same in every row of an answer."""
    if column.name == "OperationName":
        return OPERATIONS[query.table]
    if column.name.endswith("ThrottlingDelayMs"):
        return 0.0
    return {
        "SubscriptionId": query.subscription,
        "AzureMLWorkspaceId": query.workspace_id,
        "AzureMLWorkspaceName": query.workspace,
    }[column.name]


def shares(counts: Mapping[str, int], rows_max: int) -> dict[str, int]:
    """How many rows of each owner are kept, so that all together are at most ``rows_max``.

    Whoever has little keeps it; those with most give first. So one that writes without end cannot
    push out what others have.
    """
    kept: dict[str, int] = {}
    left = rows_max
    by_size = sorted(counts.items(), key=lambda item: item[1])
    for position, (owner, count) in enumerate(by_size):
        kept[owner] = min(count, left // (len(by_size) - position))
        left -= kept[owner]
    return kept


def minute_of(at: float) -> int:
    """Lost rows are counted by the minute."""
    return int(at // MINUTE_S) * MINUTE_S
