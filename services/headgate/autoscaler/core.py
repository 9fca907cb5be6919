"""What becomes of the count of one deployment, from everything that is known of it now. Pure.

Two things may have a say: the rules of a setting's profile, and the target that a deployment
follows. With both, the profile gives the bounds; rules may add to what the target wants, and keep
that for their cooldown; the target alone takes away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from headgate.autoscaler import rules, schedule, target
from headgate.autoscaler.metrics import KNOWN
from headgate.autoscaler.values import Decision, Reading, Reason
from headgate_contracts import limits
from headgate_contracts.autoscale import (
    AutoscaleSetting,
    AutoscaleSpec,
    Figure,
    Profile,
    PutAutoscaleSetting,
)
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import Deployment, ProvisioningState


@dataclass(frozen=True, slots=True)
class Situation:
    """A deployment with ``count`` instances wanted and ``ready`` of them ready."""

    now: float
    count: int
    ready: int
    policy: target.Policy | None = None
    load: target.Load | None = None
    memory: target.Memory = target.Memory()
    profile: Profile | None = None
    readings: tuple[Reading, ...] = ()
    cooldown_until: float = 0.0


def decide(seen: Situation) -> tuple[Decision, target.Memory]:
    """The count from now on, and what the target must remember."""
    profile, policy = seen.profile, seen.policy
    by_rules = None
    if profile is not None:
        by_rules = rules.enforce(profile.capacity, seen.count)
        if by_rules is not None:
            return by_rules, seen.memory
        if profile.rules or policy is None:
            by_rules = rules.decide(
                profile, seen.readings, seen.count, seen.now, seen.cooldown_until
            )
    if policy is None:
        return by_rules or _nothing_to_follow(seen.count), seen.memory
    if profile is not None:
        capacity = profile.capacity
        policy = replace(policy, least=capacity.minimum, most=capacity.maximum)
    found = target.decide(policy, seen.load, seen.memory, seen.count, seen.ready, seen.now)
    if by_rules is not None and by_rules.count > max(seen.count, found.instances):
        return by_rules, found.memory
    if by_rules is not None and found.instances < seen.count and seen.now < seen.cooldown_until:
        left_s = seen.cooldown_until - seen.now
        said = f"the target wants {found.instances}, {left_s:.0f} s of a rule's cooldown are left"
        return Decision(seen.count, Reason.COOLDOWN, said, found.instances), found.memory
    return _of_target(found, policy, seen), found.memory


def _nothing_to_follow(count: int) -> Decision:
    return Decision(count, Reason.STEADY, "no profile is in force", count)


def _of_target(found: target.Outcome, policy: target.Policy, seen: Situation) -> Decision:
    is_held = found.instances == seen.count
    if is_held and found.reason is not Reason.NO_DATA and found.wanted <= policy.most:
        return Decision(found.instances, Reason.STEADY, "", found.wanted)
    if math.isnan(found.concurrency):
        said = "no router has told its load lately, so nothing changes"
        return Decision(found.instances, Reason.NO_DATA, said, found.wanted)
    said = (
        f"{found.concurrency:.3g} requests in hand want {found.wanted} instances of "
        f"{policy.target:g} each"
    )
    if found.reason is Reason.GRACE:
        said = f"no requests; the last instance goes after {policy.grace_s:g} s of grace"
    elif found.reason is Reason.TO_ZERO:
        said = f"no requests for {policy.stable_s + policy.grace_s:g} s"
    elif found.wanted > policy.most:
        said += f", and {policy.most} is the most"
    reason = Reason.AT_LIMIT if is_held else found.reason
    return Decision(found.instances, reason, said, found.wanted, _figures(policy, seen))


def _figures(policy: target.Policy, seen: Situation) -> tuple[Figure, ...]:
    load = seen.load
    if load is None:
        return ()
    capacity = round(policy.target * max(seen.ready, 1), 6)
    burst = round(capacity * policy.panic_threshold, 6)
    found = [
        Figure(
            name=f"requests in hand, mean of {policy.stable_s:g} s",
            value=load.stable,
            threshold=capacity,
        ),
        Figure(
            name=f"requests in hand, mean of {policy.panic_s:g} s",
            value=load.panic,
            threshold=burst,
        ),
        Figure(name="requests in hand now", value=load.in_hand),
        Figure(name="ready instances", value=seen.ready),
    ]
    if load.panic_demand is not None:
        found.append(Figure(name="slots that serve the arrivals", value=load.panic_demand))
    return tuple(
        figure.model_copy(update={"value": round(figure.value or 0.0, 4)}) for figure in found
    )


# --- what a setting may say --------------------------------------------------------------------


def check(spec: AutoscaleSpec, deployment: Deployment) -> None:
    """Raise HeadgateError(BadArgument) that names the field of what a setting cannot mean."""
    names: set[str] = set()
    defaults = 0
    for at, profile in enumerate(spec.profiles):
        place = f"profiles.{at}"
        if profile.name in names:
            raise _bad(f"two profiles are called {profile.name!r}", f"{place}.name")
        names.add(profile.name)
        _check_capacity(profile, place, follows_load=deployment.spec.scale_settings.follows_load)
        try:
            schedule.check(profile)
        except ValueError as error:
            raise _bad(f"profile {profile.name!r}: {error}", place) from None
        defaults += profile.fixed_date is None and profile.recurrence is None
        for number, rule in enumerate(profile.rules):
            _check_trigger(rule.trigger.metric_name, f"{place}.rules.{number}.trigger.metric_name")
            if rule.trigger.time_window < rule.trigger.time_grain:
                raise _bad(
                    f"time_window ({rule.trigger.time_window} s) is shorter than time_grain "
                    f"({rule.trigger.time_grain} s)",
                    f"{place}.rules.{number}.trigger.time_window",
                )
    if defaults > 1:
        raise _bad("only one profile may be without a fixed date or recurrence", "profiles")


def _check_capacity(profile: Profile, place: str, *, follows_load: bool) -> None:
    capacity = profile.capacity
    if not capacity.minimum <= capacity.default <= capacity.maximum:
        raise _bad(
            f"profile {profile.name!r}: minimum {capacity.minimum} <= default {capacity.default} "
            f"<= maximum {capacity.maximum} does not hold",
            f"{place}.capacity",
        )
    if capacity.minimum < 1 and not follows_load:
        raise _bad(
            f"profile {profile.name!r}: minimum must be at least 1, because nothing would bring "
            "the deployment back from 0; give it scale_settings of type target_utilization",
            f"{place}.capacity.minimum",
        )


def _check_trigger(name: str, place: str) -> None:
    if name.lower() not in KNOWN:
        raise _bad(
            f"there is no metric {name[:64]!r}; there are: {', '.join(KNOWN.values())}", place
        )


def _bad(message: str, target_field: str) -> HeadgateError:
    return HeadgateError(ErrorCode.BAD_ARGUMENT, message, target=target_field)


def why_not_now(deployment: Deployment) -> str:
    """Why a deployment is left alone as it is; empty when it is not."""
    state = deployment.provisioning_state
    if deployment.is_stopped:
        return "it is stopped"
    if state in (ProvisioningState.CREATING, ProvisioningState.DELETING):
        return f"it is {state}"
    if state is ProvisioningState.FAILED and not deployment.ready_instances:
        return "it has failed, and no instance of it runs"
    return ""


def check_room(count: int) -> None:
    """Refuse one setting too many."""
    if count >= limits.SCALE_SETTINGS_MAX:
        raise HeadgateError(
            ErrorCode.QUOTA_EXCEEDED,
            f"this installation has {count} autoscale settings, and {limits.SCALE_SETTINGS_MAX} is "
            "the most; delete one first",
        )


def check_put(command: PutAutoscaleSetting, stored: AutoscaleSetting | None) -> None:
    """Refuse to replace what the caller wanted to create, or has not seen as it is."""
    if stored is not None and command.create_only:
        raise HeadgateError(
            ErrorCode.RESOURCE_EXISTS,
            f"the autoscale setting {command.spec.name!r} exists already; update it, or choose "
            "another name",
            target="name",
        )
    if command.if_revision is not None:
        check_revision(command.spec.name, command.if_revision, stored)


def check_revision(name: str, revision: int, stored: AutoscaleSetting | None) -> None:
    """Refuse to touch what the caller has not seen as it is."""
    if stored is None or stored.revision != revision:
        now = "it does not exist" if stored is None else f"its revision is {stored.revision}"
        raise HeadgateError(
            ErrorCode.REVISION_MISMATCH,
            f"the autoscale setting {name[:80]!r} is not of revision {revision} ({now}); read it "
            "again and repeat the change",
        )


def has_another(spec: AutoscaleSpec, other: AutoscaleSetting) -> HeadgateError:
    """The refusal of a second setting for one deployment."""
    return HeadgateError(
        ErrorCode.RESOURCE_CONFLICT,
        f"the deployment {spec.deployment!r} of {spec.endpoint!r} has the autoscale setting "
        f"{other.spec.name!r} already; change that one, or delete it first",
        target="deployment",
    )


def windows(spec: AutoscaleSpec) -> Mapping[tuple[str, str, int], int]:
    """What must be measured for a setting: (endpoint, deployment, grain) -> longest window.

    The deployment is empty for metrics of a whole endpoint.
    """
    found: dict[tuple[str, str, int], int] = {}
    for profile in spec.profiles:
        for rule in profile.rules:
            trigger = rule.trigger
            key = (*resource_of(trigger.resource, spec), trigger.time_grain)
            found[key] = max(found.get(key, 0), trigger.time_window)
    return found


def resource_of(resource: str, spec: AutoscaleSpec) -> tuple[str, str]:
    """Endpoint and deployment that a rule looks at."""
    if not resource:
        return spec.endpoint, spec.deployment
    parts = resource.split("/")
    return parts[1] if len(parts) > 1 else "", parts[3] if len(parts) > 3 else ""
