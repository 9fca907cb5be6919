"""What the studio's form of quotas decides: what counts, what is wrong, what it means. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from headgate.azure.arm_fields import Json, read_duration, write_duration
from headgate.portal.core import exact
from headgate_contracts import limits
from headgate_contracts.quotas import EACH, RATES, WINDOWS, Quota, QuotaKind, problem_of

K = QuotaKind
KINDS = {
    K.ENDPOINTS: "Endpoints",
    K.DEPLOYMENTS: "Deployments",
    K.INSTANCES: "Instances",
    K.REQUESTS_PER_SECOND: "Requests per second",
    K.CONNECTIONS: "Connections at once",
    K.BYTES_PER_SECOND: "Bytes per second",
    K.REQUESTS: "Requests in a time",
    K.COMPUTE_SECONDS: "Compute seconds in a time",
}
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400
WINDOWS_S = (
    *(_MINUTE_S, 5 * _MINUTE_S, 15 * _MINUTE_S),
    *(_HOUR_S, 6 * _HOUR_S, _DAY_S, 7 * _DAY_S, 30 * _DAY_S),
)
WINDOW_S = _DAY_S
_BY_WIRE = {kind.value.replace("_", ""): kind for kind in K}
_NS_PER_S = 1_000_000_000
_ANY_NAME = "a name begins with a letter or digit; letters, digits, . _ and - may follow"


def window_text(seconds: int) -> str:
    """A window in words: ``day``, ``6 hours``."""
    for unit_s, word in ((_DAY_S, "day"), (_HOUR_S, "hour"), (_MINUTE_S, "minute")):
        count, rest = divmod(seconds, unit_s)
        if count and not rest:
            return word if count == 1 else f"{count} {word}s"
    return f"{seconds} seconds"


def fields_of(kind: QuotaKind, endpoint: str) -> frozenset[str]:
    """Which of the fields say something about a quota of that kind."""
    found = {"name", "kind", "limit"}
    if kind is not K.ENDPOINTS:
        found.add("endpoint")
    if kind is K.INSTANCES and endpoint:
        found.add("deployment")
    if kind in WINDOWS:
        found |= {"caller", "window_s"}
    return frozenset(found)


def places(kind: QuotaKind, names: list[str]) -> dict[str, str]:
    """What a quota can be of, by what stands for it in a quota."""
    every = {} if kind in RATES else {"": "all together"}
    return {**every, EACH: "each for itself", **{name: name for name in names}}


def quota_of(workspace: str, given: Mapping[str, Any]) -> Quota:
    """The quota that a form asks for; fields that say nothing of its kind are left out.

    Raises ValidationError.
    """
    kind, endpoint = given["kind"], given.get("endpoint") or ""
    counting = fields_of(kind, endpoint)
    told = {name: value for name, value in given.items() if name in counting and value is not None}
    return Quota(workspace=workspace, **told)


def problems(given: Mapping[str, Any], taken: list[str]) -> dict[str, str]:
    """What is wrong with a form, by field. ``taken``: names that quotas have already."""
    found: dict[str, str] = {}
    if not given.get("name"):
        found["name"] = "say how the quota is called"
    elif given["name"] in taken:
        found["name"] = "there is a quota of this name; change that one, or take another name"
    if given.get("limit") is None:
        found["limit"] = "say how much there may be"
    try:
        quota = quota_of("local", given)
    except ValidationError as error:
        texts = {
            "name": _ANY_NAME,
            "limit": f"a number from 0 to {limits.QUOTA_LIMIT_MAX:.0e}",
            "caller": f"at most {limits.CALLER_CHARS_MAX} characters",
        }
        for each in error.errors():
            field = str(each["loc"][0])
            found.setdefault(field, texts.get(field, each["msg"]))
    else:
        if problem := problem_of(quota):
            found.setdefault(*problem)
    return found


def meaning(quota: Quota, used: float | None = None) -> str:
    """What a quota does, in words. ``used``: how much of it is taken now."""
    what, limit = KINDS[quota.kind].split(" ")[0].lower(), exact(quota.limit)
    if quota.kind in WINDOWS:
        unit = "requests" if quota.kind is K.REQUESTS else "seconds of compute time"
        where = _place(quota.endpoint, "endpoint", "all endpoints together")
        text = (
            f"{_caller(quota.caller)} may use {limit} {unit} of {where} per "
            f"{window_text(quota.window_s)} (UTC). Beyond it requests are refused with 429 until "
            "the next one begins."
        )
    elif quota.kind in RATES:
        unit = {
            K.REQUESTS_PER_SECOND: "requests a second",
            K.CONNECTIONS: "connections at once",
            K.BYTES_PER_SECOND: "bytes a second, requests and answers together",
        }[quota.kind]
        text = (
            f"Clients get {limit} {unit} from {_place(quota.endpoint, 'endpoint', '')}. "
            "What is more is refused with 429."
        )
    else:
        owner = _place(quota.endpoint, "endpoint", "the workspace")
        if quota.deployment:
            owner = f"{_place(quota.deployment, 'deployment', '')} of {owner}"
        text = f"There may be {limit} {what} in {owner}. What would make more is refused with 409"
        text += "; the autoscaler stays where it is." if quota.kind is K.INSTANCES else "."
    if used is not None and used > quota.limit:
        text += f" {exact(used)} are in use: nothing is taken away, but nothing is added either."
    return text


def _place(name: str, kind: str, everything: str) -> str:
    if not name:
        return everything
    return f"each {kind}" if name == EACH else f"the {kind} {name}"


def _caller(name: str) -> str:
    if not name:
        return "All callers together"
    return "Each caller" if name == EACH else f"The caller {name}"


def body(quota: Quota) -> Json:
    """The properties of a quota as the gateway takes them."""
    told = quota.model_dump(mode="json", exclude={"workspace", "name", "window_s"})
    if quota.window_s:
        told["window"] = write_duration(quota.window_s * _NS_PER_S)
    return told


def read(told: Mapping[str, Any]) -> tuple[dict[str, Any], float | None]:
    """The fields of a form from the gateway's quota, and how much of it is used."""
    fields = told.get("properties") or {}
    window = fields.get("window")
    given = {
        "name": str(told.get("name", "")),
        "kind": _BY_WIRE[str(fields["kind"]).lower()],
        "limit": fields["limit"],
        **{name: fields.get(name) or "" for name in ("endpoint", "deployment", "caller")},
        "window_s": read_duration(window) // _NS_PER_S if window else 0,
    }
    return given, fields.get("used")


def row(told: Mapping[str, Any]) -> dict[str, str]:
    """A quota as a line of a table: what it is of, and how much of it is used."""
    given, used = read(told)
    of = [
        f"each {name}" if given[name] == EACH else f"{name} {given[name]}"
        for name in ("endpoint", "deployment", "caller")
        if given[name]
    ]
    return {
        "name": given["name"],
        "kind": KINDS[given["kind"]],
        "of": ", ".join(of) or "the workspace",
        "used": exact(used),
        "limit": exact(given["limit"]),
        "window": window_text(given["window_s"]) if given["window_s"] else "",
    }
