"""What the studio's pages decide and compute. Pure."""

from __future__ import annotations

import json
import math
import re
import shlex
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from headgate_contracts import limits

WHOLE = 100
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
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


_FIGURES = tuple(each.name for each in fields(Live))[3:]


class Series:
    """The last points of one deployment, the newest last.

    Packed into 44 bytes a point: a page may have ten minutes of hundreds of deployments behind it.
    """

    def __init__(self, endpoint: str, deployment: str) -> None:
        self._of = (endpoint, deployment)
        self._at = array("d")
        self._figures = array("f")

    def append(self, row: Live) -> None:
        figures = (getattr(row, name) for name in _FIGURES)
        self._at.append(row.at)
        self._figures.extend(math.nan if each is None else each for each in figures)
        if len(self._at) > limits.STUDIO_POINTS_MAX:
            del self._at[0], self._figures[: len(_FIGURES)]

    @property
    def latest(self) -> Live:
        return self._row(len(self._at) - 1)

    def since(self, moment: float) -> list[Live]:
        """The points later than that."""
        first = bisect_right(self._at, moment)
        return [self._row(number) for number in range(first, len(self._at))]

    def _row(self, number: int) -> Live:
        width = len(_FIGURES)
        packed = self._figures[number * width : (number + 1) * width]
        requests, failures, mirrored = packed[:3]
        p50_ms, p95_ms, p99_ms = (None if math.isnan(each) else each for each in packed[3:6])
        in_flight, waiting, ready = map(int, packed[6:])
        return Live(
            self._at[number], *self._of, requests, failures, mirrored,
            p50_ms, p95_ms, p99_ms, in_flight, waiting, ready,
        )  # fmt: skip


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


def at_least(text: str, level: str) -> str:
    """The lines of a log of that level and worse ones; all of them where no level is asked for.

    A line is ``[instance] time LEVEL request message``, without the first part in some logs.
    """
    if level not in LEVELS:
        return text
    wanted = frozenset(LEVELS[LEVELS.index(level) :])
    return "\n".join(line for line in text.splitlines() if wanted & {*line.split(" ", 3)[:3]})


def short(number: float | None, digits: int = 1) -> str:
    """A figure for people: ``12.3k``, ``0.7``, and a dash for what is not known."""
    if number is None:
        return UNKNOWN
    for size, unit in _UNITS:
        if abs(number) >= size:
            return f"{number / size:.{digits}f}{unit}"
    return f"{number:.{digits}f}".rstrip("0").rstrip(".") if number % 1 else f"{number:.0f}"


def exact(number: float | None, digits: int = 2) -> str:
    """A figure that somebody has set, or that is compared with one: ``1,000``, ``0.25``."""
    if number is None:
        return UNKNOWN
    text = f"{number:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


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
    can_limit: bool = False
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
    return Right(rank >= 1, rank >= 2, rank >= 2, rank >= 2, roles)


def free_name(taken: Iterable[str], *wishes: str) -> str:
    """A name for a new deployment that nobody has: the first wish, if it can be."""
    names = frozenset(taken)
    numbered = (f"{wishes[0]}-{number}" for number in range(2, len(names) + 3))
    return next(each for each in (*wishes, *numbered) if each not in names)


def is_name(text: str) -> bool:
    """Whether endpoints and deployments may be called so."""
    fits = limits.NAME_CHARS_MIN <= len(text) <= limits.NAME_CHARS_MAX
    return fits and re.match(limits.NAME_PATTERN, text) is not None


def tag_lines(tags: Mapping[str, str]) -> str:
    """Tags as lines to be edited."""
    return "\n".join(f"{name}={value}" for name, value in tags.items())


def tags_of(lines: str) -> dict[str, str]:
    """Edited lines as tags; ValueError that names the line which is none."""
    tags: dict[str, str] = {}
    for line in filter(None, map(str.strip, lines.splitlines())):
        name, separator, value = (part.strip() for part in line.partition("="))
        if not (name and separator):
            raise ValueError(f"{line[:40]!r}: a tag is written name=value")
        tags[name] = value
    return tags


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
        return schema.get("example") or None  # an empty one shows nobody what to send
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
        "timestamp": moment(str(told.get("timestamp", ""))),
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


def moment(timestamp: str) -> str:
    """A moment of the API (RFC 3339, UTC) for people: ``2030-01-31 12:00:00``."""
    return timestamp[:19].replace("T", " ")


def stale(since: float, reason: str) -> str:
    """That what is shown is not current any more."""
    return f"Not current since {datetime.fromtimestamp(since, UTC):%H:%M:%S} (UTC): {reason}"


def moment_of(text: str) -> str:
    """A moment that somebody has typed, as RFC 3339 in UTC where it says no zone."""
    found = text.strip().replace(" ", "T")
    has_zone = found.endswith(("Z", "z")) or "+" in found or found.count("-") > 2
    return found if not found or has_zone else f"{found}Z"


def event_line(event: Mapping[str, Any]) -> tuple[str, str, str]:
    """Time, kind and text of a CloudEvent, for lists."""
    kind = str(event.get("type", "")).removeprefix("headgate.").replace(".event.v1.", ".")
    data = event.get("data")
    shown = data if isinstance(data, dict) else {}
    parts = [
        f"{key}={_brief(value)}"
        for key, value in shown.items()
        if key not in ("id", "at", "type", "cause", "workspace") and value not in ("", None, [], {})
    ]
    return moment(str(event.get("time", ""))), kind, " ".join(parts)


def is_of(event: Mapping[str, Any], workspace: str) -> bool:
    """Not another workspace's: a token with roles in several is told of all of them."""
    return (event.get("data") or {}).get("workspace") in (workspace, "", None)


def audit_row(event: Mapping[str, Any]) -> dict[str, str]:
    """A request that changed something, or tried to."""
    data = event.get("data") or {}
    return {
        "id": str(event.get("id", "")),
        "time": moment(str(event.get("time", ""))),
        "by": str(data.get("by", "")),
        "what": str(data.get("what", "")),
        "where": str(data.get("path", "")),
        "status": str(data.get("status", "")),
        "address": str(data.get("address", "")),
    }


def _brief(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:79]}…"
