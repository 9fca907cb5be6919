"""What the studio's form of service levels decides, and rows of its table. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from headgate.azure.arm_fields import Json
from headgate.portal.core import UNKNOWN, exact, short
from headgate_contracts import limits
from headgate_contracts.sla import Objective

_HOUR = "PT1H"
_MINUTES_PER_DAY = 1_440
_WIRE = {
    "availability_percent": "availabilityTargetPercent",
    "latency_ms": "latencyTargetMs",
    "latency_percent": "latencyTargetPercent",
    "window_days": "windowDays",
}
_TEXTS = {
    "availability_percent": "a share above 0 and below 100, such as 99.9",
    "latency_percent": "a share above 0 and below 100, such as 95",
    "latency_ms": f"milliseconds, at most {limits.REQUEST_TIMEOUT_MS_MAX:,}; empty: no such target",
    "window_days": f"whole days, 1 to {limits.SLA_WINDOW_DAYS_MAX}",
}


def objective_of(workspace: str, endpoint: str, given: Mapping[str, float | None]) -> Objective:
    """The objective that a form asks for. Raises ValidationError."""
    told = {name: value for name, value in given.items() if value is not None}
    return Objective(workspace=workspace, endpoint=endpoint, **told)


def problems(given: Mapping[str, float | None]) -> dict[str, str]:
    """What is wrong with a form, by field."""
    found = {
        name: text
        for name, text in _TEXTS.items()
        if given.get(name) is None and name != "latency_ms"
    }
    try:
        objective_of("local", "any", given)
    except ValidationError as error:
        for each in error.errors():
            field = str(each["loc"][0])
            found.setdefault(field, _TEXTS.get(field, each["msg"]))
    return found


def meaning(objective: Objective, requests: int) -> str:
    """What an objective allows. ``requests``: how many there were in the longest time measured."""
    allowed = 1 - objective.availability_percent / 100
    days = objective.window_days
    span = "a day" if days == 1 else f"{days} days"
    minutes = exact(allowed * days * _MINUTES_PER_DAY, 1)
    text = (
        f"Of 100,000 requests in {span} {exact(100_000 * allowed)} may fail, or everything for "
        f"{minutes} minutes at an even load."
    )
    if requests:
        text += f" Of the {requests:,} that were counted: {exact(requests * allowed, 1)}."
    if objective.latency_ms:
        slow = exact(100 - objective.latency_percent)
        text += f" {slow} % of the answers may take longer than {exact(objective.latency_ms)} ms."
    return f"{text} An alert comes when failures use this up too fast."


def body(objective: Objective) -> Json:
    """The properties of an objective as the gateway takes them."""
    told = objective.model_dump(mode="json")
    return {wire: told[name] for name, wire in _WIRE.items()}


def read(told: Mapping[str, Any]) -> tuple[dict[str, float | None], int]:
    """The fields of a form from the gateway's answer, and the requests of its longest time."""
    fields = told.get("properties") or {}
    given = {name: fields.get(wire) for name, wire in _WIRE.items()}
    last = (list(fields.get("windows") or ()) or [{}])[-1]
    given["latency_ms"] = given["latency_ms"] or None
    return given, int(last.get("good", 0)) + int(last.get("bad", 0))


def row(told: Mapping[str, Any]) -> dict[str, str]:
    """How an endpoint keeps its objective: over the last hour, and what is left of the budget."""
    fields = told.get("properties") or {}
    window: Mapping[str, Any] = next(
        (each for each in fields.get("windows") or () if each.get("window") == _HOUR), {}
    )
    target = f"{fields.get('availabilityTargetPercent', UNKNOWN)} %"
    if fields.get("latencyTargetMs"):
        target += f", {fields['latencyTargetPercent']:g} % within {fields['latencyTargetMs']:g} ms"
    usual = " (as all have it)" if fields.get("isDefault") else ""
    return {
        "name": str(fields.get("endpoint", "")),
        "target": f"{target} over {fields.get('windowDays', UNKNOWN)} days{usual}",
        "hour": _percent(window.get("availabilityPercent")),
        "burn": short(window.get("availabilityBurnRate"), 2),
        "left": _percent(fields.get("availabilityBudgetLeftPercent")),
        "latency": _percent(fields.get("latencyBudgetLeftPercent")),
        "alerts": ", ".join(
            f"{each['severity']}: {each['indicator']}" for each in fields.get("alerts") or ()
        ),
    }


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{exact(value, 3)} %"
