"""What the studio's pages decide and compute. Pure."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from headgate_contracts import limits

WHOLE = 100
UNKNOWN = "\N{EN DASH}"
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def rebalanced(shares: Mapping[str, int], name: str, percent: int) -> dict[str, int]:
    """The shares when ``name`` is moved to ``percent``: the others give or take in proportion.

    The sum is 100 whenever there is somebody to take the rest: largest remainders decide about
    single per cents, in the order of names, so that equal inputs give equal outcomes.

    >>> rebalanced({"blue": 100, "green": 0}, "green", 10)
    {'blue': 90, 'green': 10}
    """
    percent = max(0, min(WHOLE, percent))
    others = [each for each in shares if each != name]
    if not others:
        return {name: WHOLE if percent else 0}
    rest = WHOLE - percent
    weight = sum(shares[each] for each in others)
    ideal = {
        each: rest * shares[each] / weight if weight else rest / len(others) for each in others
    }
    given = {each: int(ideal[each]) for each in others}
    missing = rest - sum(given.values())
    by_remainder = sorted(others, key=lambda each: (given[each] - ideal[each], each))
    for each in by_remainder[:missing]:
        given[each] += 1
    return {each: percent if each == name else given[each] for each in shares}


def changes(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """What applying ``after`` would change, a line for each deployment."""
    names = sorted({*before, *after})
    return [
        f"{name}: {before.get(name, 0)} % → {after.get(name, 0)} %"
        for name in names
        if before.get(name, 0) != after.get(name, 0)
    ]


@dataclass(frozen=True, slots=True)
class Live:
    """What one deployment did around one moment (Unix seconds), as the gateway tells it.

    Rates are per second, latencies milliseconds; None: nothing was answered.
    """

    at: float
    endpoint: str
    deployment: str
    requests_per_s: float
    failures_per_s: float
    mirrored_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    in_flight: int
    waiting: int
    ready: int


def live_rows(told: Mapping[str, Any], at: float) -> list[Live]:
    """The gateway's answer of that moment as values.

    Raises LookupError or TypeError when it is another's.
    """
    return [
        Live(
            at=at,
            endpoint=row["endpoint"],
            deployment=row["deployment"],
            requests_per_s=row["requestsPerSecond"],
            failures_per_s=row["failuresPerSecond"],
            mirrored_per_s=row["mirroredPerSecond"],
            p50_ms=row["p50Ms"],
            p95_ms=row["p95Ms"],
            p99_ms=row["p99Ms"],
            in_flight=row["inFlight"],
            waiting=row["waiting"] + row["held"],
            ready=row["readyInstances"],
        )
        for row in told["value"]
    ]


Values = tuple[tuple[str, Callable[[Live], float | None]], ...]
"""Names of figures, and how each is taken of what a deployment did."""


def new_points(
    rows: Mapping[str, Iterable[Live]], values: Values, since: float
) -> dict[str, list[tuple[int, float | None]]]:
    """Points later than a moment, (milliseconds, figure) by line: one for each deployment and
    figure, also where there is nothing new."""
    return {
        f"{deployment} {name}".strip(): [
            (round(1000 * row.at), None if (figure := value(row)) is None else round(figure, 3))
            for row in series
            if row.at > since
        ]
        for deployment, series in rows.items()
        for name, value in values
    }


def short(number: float | None, digits: int = 1) -> str:
    """A figure for people: ``12.3k``, ``0.7``, and a dash for what is not known."""
    if number is None:
        return UNKNOWN
    for size, unit in _UNITS:
        if abs(number) >= size:
            return f"{number / size:.{digits}f}{unit}"
    return f"{number:.{digits}f}".rstrip("0").rstrip(".") if number % 1 else f"{number:.0f}"


@dataclass(frozen=True, slots=True)
class Snippets:
    """The same request in three forms."""

    curl: str
    python: str
    az: str


def snippets(
    *, endpoint: str, uri: str, body: str, deployment: str = "", ca: str = "", header: str
) -> Snippets:
    """How to send a request without the studio. The key is read from the variable ``KEY``."""
    words = ["curl"]
    if ca:
        words += ["--cacert", ca]
    words += ["-H", "Authorization: Bearer $KEY", "-H", "Content-Type: application/json"]
    if deployment:
        words += ["-H", f"{header}: {deployment}"]
    words += ["-d", body, uri]
    curl = " ".join(_quoted(word) for word in words)
    headers = [
        '"Authorization": "Bearer " + environ["KEY"]',
        '"Content-Type": "application/json"',
    ]
    if deployment:
        headers.append(f"{json.dumps(header)}: {json.dumps(deployment)}")
    python = "\n".join(
        (
            "from os import environ",
            "",
            "import requests",
            "",
            "answer = requests.post(",
            f"    {json.dumps(uri)},",
            f"    headers={{{', '.join(headers)}}},",
            f"    data={json.dumps(body)},",
            *((f"    verify={json.dumps(ca)},",) if ca else ()),
            ")",
            "print(answer.status_code, answer.text)",
        )
    )
    az = f"headgate online-endpoint invoke -n {endpoint} -r request.json"
    if deployment:
        az += f" -d {deployment}"
    return Snippets(curl, python, az)


def _quoted(word: str) -> str:
    """Quoted for a shell; the variable that holds the key stays one."""
    if "$KEY" in word:
        return f'"{word}"'
    return shlex.quote(word)


@dataclass(frozen=True, slots=True)
class Right:
    """What somebody may do in a workspace."""

    can_write: bool = False
    can_delete: bool = False
    can_see_keys: bool = False
    roles: tuple[str, ...] = field(default=())


_RANK = {"reader": 0, "operator": 1, "owner": 2, "admin": 3}


def rights(grants: Iterable[str], workspace: str) -> Right:
    """From grants such as ``local/operator`` or ``*/admin``. The server decides all the same."""
    roles = tuple(
        role
        for place, _, role in (grant.rpartition("/") for grant in grants)
        if place in ("*", workspace)
    )
    rank = max((_RANK.get(role, -1) for role in roles), default=-1)
    return Right(rank >= 1, rank >= 2, rank >= 2, roles)


def is_name(text: str) -> bool:
    """Whether endpoints and deployments may be called so."""
    fits = limits.NAME_CHARS_MIN <= len(text) <= limits.NAME_CHARS_MAX
    return fits and re.match(limits.NAME_PATTERN, text) is not None


def pretty(text: str) -> str:
    """JSON with indentation; anything else as it is."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def sample_of(document: Any) -> Any:
    """The sample input in a script's own OpenAPI description; None when it has none."""
    try:
        content = document["paths"]["/score"]["post"]["requestBody"]["content"]
        schema = content["application/json"]["schema"]
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
        return schema.get("example")
    except (LookupError, TypeError, AttributeError):
        return None


def instance_row(told: Mapping[str, Any]) -> dict[str, str]:
    """An instance as a line of a table."""
    error = told.get("error") or {}
    reason = f"{error.get('code', '')}: {error.get('message', '')}" if error else ""
    if told.get("quarantinedForS"):
        reason = f"left out for {told['quarantinedForS']} s more. {reason}".strip()
    return {
        "id": str(told.get("id", "")),
        "state": str(told.get("state", "")),
        "pid": str(told.get("pid") or ""),
        "restarts": str(told.get("restarts", 0)),
        "reason": reason,
    }


def decision_row(told: Mapping[str, Any]) -> dict[str, str]:
    """A decision of the autoscaler as a line of a table."""
    before, after = told.get("fromCount"), told.get("toCount")
    return {
        "key": f"{told.get('timestamp')} {told.get('deployment')}",
        "timestamp": str(told.get("timestamp", "")),
        "deployment": str(told.get("deployment", "")),
        "action": str(told.get("action", "")).replace("_", " "),
        "counts": str(after) if before == after else f"{before} → {after}",
        "message": str(told.get("message", "")),
    }


def cost_row(told: Mapping[str, Any]) -> dict[str, str]:
    """Costs of one group as a line of a table."""
    return {
        "group": str(told.get("group") or "(none)"),
        "cost": f"{told['cost']:.4f}",
        "hours": f"{told['instanceSeconds'] / 3600:.2f}",
        "node_hours": f"{told['nodeSeconds'] / 3600:.2f}",
        "requests": f"{told['requests']:,}",
        "compute": f"{told['computeSeconds']:.1f}",
    }


def budget_row(told: Mapping[str, Any]) -> dict[str, str]:
    """A budget as a line of a table."""
    fields = told.get("properties") or {}
    spent = fields.get("currentSpend") or {}
    amount = spent.get("amount") if isinstance(spent, Mapping) else spent
    return {
        "name": str(told.get("name", "")),
        "spent": UNKNOWN if amount is None else f"{float(amount):.2f}",
        "amount": str(fields.get("amount", "")),
        "grain": str(fields.get("timeGrain", "")),
    }


def moment_of(text: str) -> str:
    """A moment that somebody has typed, as RFC 3339 in UTC where it says no zone."""
    found = text.strip().replace(" ", "T")
    has_zone = found.endswith(("Z", "z")) or "+" in found or found.count("-") > 2
    return found if not found or has_zone else f"{found}Z"


def event_line(event: Mapping[str, Any]) -> tuple[str, str, str]:
    """Time, kind and text of a CloudEvent, for lists."""
    kind = str(event.get("type", "")).removeprefix("headgate.")
    data = event.get("data")
    shown = data if isinstance(data, dict) else {}
    parts = [
        f"{key}={_brief(value)}"
        for key, value in shown.items()
        if key not in ("id", "at", "type", "cause") and value not in ("", None, [], {})
    ]
    return str(event.get("time", "")), kind, " ".join(parts)


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:79]}…"
