"""What the studio's form of budgets decides, and rows of its table. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from headgate.azure.arm_fields import Json
from headgate.portal.core import UNKNOWN, exact, moment
from headgate_contracts import limits
from headgate_contracts.metering import Budget, Grain, Scope

GRAINS = {Grain.DAY: "day", Grain.WEEK: "week, from Monday", Grain.MONTH: "month"}
THRESHOLDS = "50, 80, 100"
_OF = ("endpoint", "deployment", "tag")
_TEXTS = {
    "name": "a name begins with a letter or digit; letters, digits, . _ and - may follow",
    "amount": f"a number above 0, at most {limits.BUDGET_AMOUNT_MAX:.0e}",
    "thresholds": f"1 to {limits.BUDGET_THRESHOLDS_MAX} numbers",
    "tag": f"at most {limits.TAG_CHARS_MAX:,} characters",
}


def thresholds_of(text: str) -> tuple[float, ...]:
    """Per cents from what somebody has typed: ``50, 80 %``. Raises ValueError for other words."""
    return tuple(float(part) for part in text.replace("%", " ").replace(",", " ").split())


def budget_of(workspace: str, given: Mapping[str, Any]) -> Budget:
    """The budget that a form asks for. Raises ValueError; a ValidationError names the field."""
    of = {name: given[name] for name in _OF}
    return Budget(
        name=given["name"],
        scope=Scope(workspace=workspace, **of),
        amount=given["amount"],
        grain=given["grain"],
        thresholds=thresholds_of(given["thresholds"]),
    )


def problems(given: Mapping[str, Any], taken: Sequence[str]) -> dict[str, str]:
    """What is wrong with a form, by field. ``taken``: names that budgets have already."""
    found: dict[str, str] = {}
    if given["name"] in taken:
        found["name"] = "there is a budget of this name; change that one, or take another name"
    if given["deployment"] and not given["endpoint"]:
        found["endpoint"] = "say which endpoint the deployment is of"
    if given["tag"] and "=" not in given["tag"].strip("="):
        found["tag"] = "a tag is written name=value"
    try:
        told = budget_of("local", given)
    except ValidationError as error:
        for each in error.errors():
            field = str(each["loc"][-1] if each["loc"][-1] in _TEXTS else each["loc"][0])
            found.setdefault(field, _TEXTS.get(field, each["msg"]))
    except ValueError:
        found["thresholds"] = f"numbers with commas between them, such as {THRESHOLDS}"
    else:
        most = limits.BUDGET_THRESHOLD_PERCENT_MAX
        if not all(0 < each <= most for each in told.thresholds):
            found["thresholds"] = f"per cent of the amount: above 0, at most {most:,}"
    return found


def meaning(budget: Budget, currency: str) -> str:
    """What a budget does, in words. ``currency``: of the prices; empty while nobody has told."""
    amounts = [
        f"{exact(budget.amount * each / 100)} ({each:g} %)" for each in sorted(budget.thresholds)
    ]
    money = f" {currency}" if currency else ""
    of = _place(budget.scope) or "the whole workspace"
    when = " and ".join([", ".join(amounts[:-1]), amounts[-1]] if amounts[1:] else amounts)
    return (
        f"An event comes when {of} has cost {when}{money} in a {budget.grain.value} (UTC), once "
        "each; an alert rule brings it to an address. Nothing is stopped by a budget."
    )


def _place(scope: Scope) -> str:
    return ", ".join(f"the {name} {of}" for name in _OF if (of := getattr(scope, name)))


def body(budget: Budget) -> Json:
    """The properties of a budget as the gateway takes them."""
    return {
        "amount": budget.amount,
        "timeGrain": budget.grain.value,
        "thresholds": list(budget.thresholds),
        **{name: getattr(budget.scope, name) for name in _OF},
    }


def read(told: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a form from the gateway's budget."""
    fields = told["properties"]
    return {
        "name": told["name"],
        "amount": fields["amount"],
        "grain": Grain(fields["timeGrain"]),
        "thresholds": ", ".join(f"{each:g}" for each in fields["thresholds"]),
        **{name: fields.get(name) or "" for name in _OF},
    }


def row(told: Mapping[str, Any]) -> dict[str, str]:
    """A budget as a line of a table: what it is of, and how much of it is spent now."""
    fields = told["properties"]
    scope = Scope(workspace="", **{name: fields.get(name) or "" for name in _OF})
    spent, amount = fields.get("currentSpend"), fields["amount"]
    return {
        "name": str(told["name"]),
        "of": _place(scope).replace("the ", "") or "the workspace",
        "spent": UNKNOWN if spent is None else f"{exact(spent)} {fields.get('currency', '')}",
        "share": UNKNOWN if spent is None else f"{exact(100 * spent / amount, 1)} %",
        "amount": exact(amount),
        "grain": str(fields["timeGrain"]),
        "until": moment(str(fields.get("periodEnd") or "")),
        "alerted": ", ".join(f"{each:g} %" for each in fields.get("alerted") or ()),
    }
