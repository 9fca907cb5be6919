"""The rules of traffic and mirrored traffic, as pure functions."""

from __future__ import annotations

from collections.abc import Mapping

from headgate.registry.records import DeploymentRecord, Group
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import EndpointSpec

Weights = Mapping[str, int]
FIELDS = ("traffic", "mirror_traffic")


def normalised(weights: Weights, field: str) -> dict[str, int]:
    """Keys in lower case, in order, without zeros; Azure compares names without their case."""
    kept: dict[str, int] = {}
    for name, weight in weights.items():
        if name.lower() in kept:
            raise _bad(field, f"{field} names {name.lower()!r} twice")
        kept[name.lower()] = weight
    return {name: kept[name] for name in sorted(kept) if kept[name] != 0}


def check(
    wanted: EndpointSpec, before: EndpointSpec | None, deployments: Mapping[str, DeploymentRecord]
) -> None:
    """Refuse normalised weights that break a rule; ``before`` is what held until now.

    Only a share that grows needs a deployment that has been ready: what is already routed may
    always stay or shrink, whatever became of the deployment meanwhile.
    """
    _check_known(wanted.traffic, "traffic", deployments)
    _check_known(wanted.mirror_traffic, "mirror_traffic", deployments)
    total = sum(wanted.traffic.values())
    if total not in (0, 100):
        raise _bad("traffic", f"traffic adds up to {total}; it must be 100, or 0 to route nothing")
    _check_mirror(wanted.mirror_traffic, wanted.traffic)
    for field in FIELDS:
        held: Weights = getattr(before, field) if before else {}
        for name, weight in getattr(wanted, field).items():
            if weight > held.get(name, 0):
                _check_serves(deployments[name], field)


def _check_known(weights: Weights, field: str, known: Mapping[str, DeploymentRecord]) -> None:
    for name in weights:
        if name not in known:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"{field} names the deployment {name[:40]!r}, which does not exist on this "
                "endpoint; create the deployment first, then set the traffic",
                target=f"{field}.{name[:40]}",
            )


def _check_mirror(mirror: Weights, traffic: Weights) -> None:
    if len(mirror) > 1:
        raise _bad(
            "mirror_traffic",
            "mirror_traffic may name one deployment only, not " + ", ".join(mirror),
        )
    for name, percent in mirror.items():
        if percent > limits.MIRROR_PERCENT_MAX:
            raise _bad(
                "mirror_traffic",
                f"mirror_traffic of {name!r} is {percent}; "
                f"at most {limits.MIRROR_PERCENT_MAX} percent can be mirrored",
            )
        if name in traffic:
            raise _bad(
                "mirror_traffic",
                f"the deployment {name!r} has {traffic[name]} percent of the live traffic; "
                "a deployment is either live or mirrored, never both",
            )


def _check_serves(record: DeploymentRecord, field: str) -> None:
    name = record.value.spec.name
    if record.is_deleting:
        reason = "is being deleted"
    elif not record.was_ready:
        reason = f"has not been ready yet (it is {record.state}); wait until it is Succeeded"
    elif record.value.is_stopped:
        reason = "is stopped; start it first (headgate online-deployment start)"
    else:
        return
    raise HeadgateError(
        ErrorCode.RESOURCE_CONFLICT,
        f"the deployment {name!r} cannot take {field}: it {reason}",
        target=f"{field}.{name}",
    )


def refuse_deletion(group: Group, name: str) -> None:
    """A deployment that requests go to cannot be deleted; say what would release it."""
    spec = group.endpoint.value.spec
    update = f"headgate online-endpoint update --name {spec.name}"
    if mirrored := spec.mirror_traffic.get(name):
        reason = f"{mirrored} percent of the traffic is mirrored to it"
        advice = f'{update} --mirror-traffic "{name}=0"'
    elif live := spec.traffic.get(name):
        reason = f"it has {live} percent of the live traffic"
        others = [other for other in spec.traffic if other != name]
        heir = f"{name}=0 {others[0]}=100" if others else f"{name}=0"
        rest = "".join(f" {other}=0" for other in others[1:])
        advice = f'{update} --traffic "{heir}{rest}"'
    else:
        return
    raise HeadgateError(
        ErrorCode.RESOURCE_CONFLICT,
        f"the deployment {name!r} cannot be deleted while {reason}; "
        f"move the traffic first, for example: {advice}",
        target=name,
    )


def _bad(field: str, message: str) -> HeadgateError:
    return HeadgateError(ErrorCode.BAD_ARGUMENT, message, target=field)
