"""Quotas: how much a workspace, an endpoint or a caller may have, and who has how much of it.

A quota is of one kind and one place. A part of the place that is empty counts everything there
together; ``*`` gives each one the whole figure for itself; a name means that one alone. So
``deployments`` with the endpoint ``*`` is a limit of each endpoint, without one of the workspace.

The registry keeps quotas and refuses resources beyond them; routers refuse requests beyond them.
Counts in a window come from the routers' usage records, which the metering service adds up.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from headgate_contracts import limits, subjects
from headgate_contracts.envelope import Command, Event, Query, Reply, Value

EACH = "*"
_DAY_S = 86_400


class QuotaKind(StrEnum):
    """What is limited: resources; rates of an endpoint; requests and compute time in a window."""

    ENDPOINTS = "endpoints"
    DEPLOYMENTS = "deployments"
    INSTANCES = "instances"
    REQUESTS_PER_SECOND = "requests_per_second"
    CONNECTIONS = "connections"
    BYTES_PER_SECOND = "bytes_per_second"
    REQUESTS = "requests"
    COMPUTE_SECONDS = "compute_seconds"


RESOURCES = (QuotaKind.ENDPOINTS, QuotaKind.DEPLOYMENTS, QuotaKind.INSTANCES)
RATES = (QuotaKind.REQUESTS_PER_SECOND, QuotaKind.CONNECTIONS, QuotaKind.BYTES_PER_SECOND)
WINDOWS = (QuotaKind.REQUESTS, QuotaKind.COMPUTE_SECONDS)


class Quota(Value):
    """``window_s``: windows of that length follow one another, counted from 1970 on (UTC)."""

    workspace: str
    name: str = Field(pattern=limits.ASSET_NAME_PATTERN)
    kind: QuotaKind
    limit: float = Field(ge=0, le=limits.QUOTA_LIMIT_MAX)
    endpoint: str = Field("", max_length=64)
    deployment: str = Field("", max_length=64)
    caller: str = Field(
        "",
        max_length=limits.CALLER_CHARS_MAX,
        description="id of a key, or whom a token speaks for",
    )
    window_s: int = Field(0, ge=0, le=limits.QUOTA_WINDOW_S_MAX, description="of counts only")


def problem_of(quota: Quota) -> tuple[str, str] | None:
    """The field that makes a quota mean nothing, and why; the registry refuses such a one."""
    kind = quota.kind
    if kind in (*RESOURCES, QuotaKind.CONNECTIONS, QuotaKind.REQUESTS) and quota.limit != int(
        quota.limit
    ):
        return "limit", f"a number of {kind.value} is whole"
    if quota.caller and kind not in WINDOWS:
        return "caller", f"a quota of {kind.value} holds for all callers; leave it out"
    if quota.deployment and kind is not QuotaKind.INSTANCES:
        return "deployment", f"a quota of {kind.value} holds for whole endpoints; leave it out"
    if quota.deployment and not quota.endpoint:
        return "endpoint", "say of which endpoint the deployment is, or * for each"
    if kind is QuotaKind.ENDPOINTS and quota.endpoint:
        return "endpoint", "a quota of endpoints is one of the workspace; leave it out"
    if kind in RATES and not quota.endpoint:
        return "endpoint", f"a quota of {kind.value} is one of an endpoint: name it, or * for each"
    return _window_problem(quota)


def _window_problem(quota: Quota) -> tuple[str, str] | None:
    window_s = quota.window_s
    if quota.kind not in WINDOWS:
        return ("window_s", "only counts have a window; leave it out") if window_s else None
    if not window_s:
        return "window_s", "say in which window it counts, such as an hour"
    if window_s % 60 or (window_s > _DAY_S and window_s % _DAY_S):
        return "window_s", "a window is whole minutes, and whole days when it is longer than one"
    return None


UNCOUNTED = (429, 503)
"""Statuses of requests for which nothing was done."""


def is_counted(deployment: str, status: int) -> bool:
    """Whether an answer counts: it is a deployment's, and something was done for it."""
    return bool(deployment) and status not in UNCOUNTED


def window_of(window_s: int, now: float) -> tuple[int, int]:
    """Begin and end of the window that ``now`` is in; they follow one another from 1970 on."""
    since = int(now // window_s) * window_s
    return since, since + window_s


class PutQuota(Command):
    """Make a quota, or replace the one of this name."""

    TYPE: ClassVar[str] = "headgate.registry.command.v1.put_quota"

    quota: Quota


class DeleteQuota(Command):
    TYPE: ClassVar[str] = "headgate.registry.command.v1.delete_quota"

    workspace: str
    name: str


class ListQuotas(Query):
    TYPE: ClassVar[str] = "headgate.registry.query.v1.list_quotas"

    workspace: str
    name: str = Field("", description="only this one; an error when there is none")


class QuotaUse(Value):
    """How much of a quota one of its places has used; ``since``: the begin of the window."""

    workspace: str
    quota: str
    endpoint: str = ""
    deployment: str = ""
    caller: str = ""
    since: float = 0.0
    used: float


class QuotasReply(Reply):
    """``uses`` are those of resources, which the registry knows, the most first."""

    TYPE: ClassVar[str] = "headgate.registry.reply.v1.quotas"

    quotas: tuple[Quota, ...]
    uses: tuple[QuotaUse, ...] = ()


class GetQuotaUse(Query):
    """What the ledger holds of quotas that count in windows, in the windows of now."""

    TYPE: ClassVar[str] = "headgate.metering.query.v1.get_quota_use"

    quotas: tuple[Quota, ...] = Field(max_length=limits.QUOTAS_PER_QUERY_MAX)
    reporter: str = Field("", description="whose records the asker counts itself")


class QuotaUseReply(Reply):
    """``epoch`` and ``sequence``: the asker's own records up to that key are in these figures."""

    TYPE: ClassVar[str] = "headgate.metering.reply.v1.quota_use"

    uses: tuple[QuotaUse, ...] = Field(description="the most first")
    epoch: int = -1
    sequence: int = -1
    is_cut: bool = Field(False, description="there are more places than one answer holds")


class QuotaRefused(Event):
    """A quota has refused something; told at most once a minute for each of its places.

    ``refusals`` are those since it was told last.
    """

    TYPE: ClassVar[str] = "headgate.quota.event.v1.refused"

    workspace: str
    quota: str
    kind: QuotaKind
    limit: float
    endpoint: str = ""
    deployment: str = ""
    caller: str = ""
    refusals: int = Field(1, ge=1)
    frees_at: float | None = Field(None, description="end of the window, Unix time")
    message: str = ""

    def subject(self) -> str:
        return subjects.event("quota", subjects.tamed(self.quota), "refused")


class QuotaChanged(Event):
    """A quota was made, replaced or, when ``limit`` is absent, deleted."""

    TYPE: ClassVar[str] = "headgate.quota.event.v1.changed"

    workspace: str
    quota: str
    kind: QuotaKind
    limit: float | None = None

    def subject(self) -> str:
        return subjects.event("quota", subjects.tamed(self.quota), "changed")
