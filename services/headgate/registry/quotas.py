"""Decisions about quotas: which are sensible, what of them is used, what goes beyond. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from headgate.registry import core
from headgate.registry.batch import BatchGroup
from headgate.registry.records import Group
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.quotas import (
    EACH,
    RESOURCES,
    Quota,
    QuotaKind,
    QuotaRefused,
    QuotaUse,
    problem_of,
)

K = QuotaKind
_WORDS = {K.ENDPOINTS: "endpoints", K.DEPLOYMENTS: "deployments", K.INSTANCES: "instances"}

Place = tuple[str, str]  # endpoint, deployment; empty: all together
Holdings = Mapping[str, Mapping[str, int]]
"""What a workspace has: endpoint -> deployment -> instances. Batch deployments keep none."""


class Exceeded(NamedTuple):
    """A quota that a change would go beyond: its place would have ``wanted``."""

    quota: Quota
    place: Place
    wanted: int

    def error(self) -> HeadgateError:
        """The refusal."""
        quota, what = self.quota, _WORDS[self.quota.kind]
        where = _where(self.quota.workspace, self.place)
        return core.error(
            ErrorCode.QUOTA_EXCEEDED,
            f"this would make {self.wanted} {what} in {where}, and the quota {quota.name!r} allows "
            f"{quota.limit:g}; delete or shrink something there, or have the quota raised",
            what,
        )

    def event(self) -> QuotaRefused:
        """What is told of it."""
        endpoint, deployment = self.place
        return QuotaRefused(
            workspace=self.quota.workspace,
            quota=self.quota.name,
            kind=self.quota.kind,
            limit=self.quota.limit,
            endpoint=endpoint,
            deployment=deployment,
            message=str(self.error()),
        )


def _where(workspace: str, place: Place) -> str:
    endpoint, deployment = place
    if deployment:
        return f"the deployment {endpoint}/{deployment}"
    return f"the endpoint {endpoint!r}" if endpoint else f"the workspace {workspace!r}"


def check(quota: Quota, count: int) -> None:
    """Refuse a quota that means nothing, or one too many. ``count``: how many others there are."""
    core.check_workspace(quota.workspace)
    if count >= limits.QUOTAS_PER_WORKSPACE_MAX:
        raise core.error(
            ErrorCode.QUOTA_EXCEEDED,
            f"the workspace has {count} quotas already, which is the most",
        )
    if problem := problem_of(quota):
        field, text = problem
        raise core.error(ErrorCode.BAD_ARGUMENT, f"{field}: {text}", field)


def for_route(quotas: Iterable[Quota], endpoint: str) -> tuple[Quota, ...]:
    """Those that routers keep at an endpoint."""
    return tuple(
        quota
        for quota in quotas
        if quota.kind not in RESOURCES and quota.endpoint in ("", EACH, endpoint)
    )


# --- resources ---------------------------------------------------------------------------------


def holding(group: Group | BatchGroup | None) -> Mapping[str, int] | None:
    """What an endpoint has; None when there is no such endpoint."""
    if group is None:
        return None
    if isinstance(group, BatchGroup):
        return dict.fromkeys(group.deployments, 0)
    return {
        name: 0 if each.value.is_stopped else each.value.spec.instance_count
        for name, each in group.deployments.items()
    }


def grows(before: Mapping[str, int] | None, after: Mapping[str, int] | None) -> bool:
    """Whether there is more of anything than before."""
    if after is None or (before is not None and before == after):
        return False
    return before is None or any(count > before.get(name, -1) for name, count in after.items())


def uses(quota: Quota, holdings: Holdings) -> dict[Place, int]:
    """What each place of a quota of resources has of it."""
    if quota.kind is K.ENDPOINTS:
        return {("", ""): len(holdings)}
    seen = {
        name: held
        for name, held in holdings.items()
        if not quota.endpoint or quota.endpoint in (EACH, name)
    }
    if quota.deployment:
        return {
            (name, deployment): count
            for name, held in seen.items()
            for deployment, count in held.items()
            if quota.deployment in (EACH, deployment)
        }
    if quota.kind is K.DEPLOYMENTS:
        counts = {name: len(held) for name, held in seen.items()}
    else:
        counts = {name: sum(held.values()) for name, held in seen.items()}
    if quota.endpoint:
        return {(name, ""): count for name, count in counts.items()}
    return {("", ""): sum(counts.values())}


def exceeded(quotas: Iterable[Quota], before: Holdings, after: Holdings) -> Exceeded | None:
    """The first quota beyond which a change would go further than before, if any."""
    for quota in quotas:
        if quota.kind not in RESOURCES:
            continue
        had = uses(quota, before)
        for place, count in uses(quota, after).items():
            if count > quota.limit and count > had.get(place, 0):
                return Exceeded(quota, place, count)
    return None


def told(quotas: Sequence[Quota], holdings: Holdings) -> list[QuotaUse]:
    """What is used of each quota of resources, the most first."""
    found = [
        QuotaUse(
            workspace=quota.workspace,
            quota=quota.name,
            endpoint=endpoint,
            deployment=deployment,
            used=count,
        )
        for quota in quotas
        if quota.kind in RESOURCES
        for (endpoint, deployment), count in uses(quota, holdings).items()
    ]
    found.sort(key=lambda use: -use.used)
    return found[: limits.QUOTA_USES_MAX]
