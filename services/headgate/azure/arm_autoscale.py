"""Autoscale settings as Azure Monitor writes them (Microsoft.Insights/autoscaleSettings), and back.

Resource ids stand for what a setting scales and looks at; the workspace is that of the target.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from headgate.azure.arm import ENVELOPE_READ_ONLY, dumped, loaded
from headgate.azure.arm_fields import (
    SECONDS,
    Field,
    Form,
    Json,
    Several,
    Shape,
    choice,
)
from headgate.azure.arm_ids import LOCATION, PROVIDER, Context
from headgate.azure.arm_resources import envelope
from headgate_contracts import autoscale
from headgate_contracts.autoscale import AutoscaleSetting, AutoscaleSpec, ScaleDecision
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.simulations import SimulateAutoscale, SimulationReply

INSIGHTS = "Microsoft.Insights"
TYPE = f"{INSIGHTS}/autoscaleSettings"
# The short form leaves out what says where the workspace is: onlineEndpoints/<endpoint>/...
_TARGET = re.compile(
    rf"(?:/subscriptions/[^/]+/resourceGroups/[^/]+/providers/{re.escape(PROVIDER)}/workspaces"
    r"/(?P<workspace>[^/]+)/)?onlineEndpoints/(?P<endpoint>[^/]+)"
    r"(?:/deployments/(?P<deployment>[^/]+))?/?\Z",
    re.IGNORECASE,
)


def _words(kind: type[Any]) -> Form:
    return choice({each.value: each.value for each in kind})


def _read_whole(value: Any) -> Any:
    """Azure writes numbers of instances as text."""
    if isinstance(value, str):
        if not re.fullmatch(r"[0-9]{1,9}", value):
            raise ValueError(f"{value[:40]!r} is not a whole number")
        return int(value)
    return value


_WHOLE = Form(str, _read_whole, {"type": ["string", "integer"]})


def _read_days(value: Any) -> Any:
    if not isinstance(value, list):
        raise ValueError("a list of days such as Monday is expected")
    one = _words(autoscale.Weekday)
    return [one.load(day) for day in value]


_DAYS = Form(
    list,
    _read_days,
    {"type": "array", "items": {"type": "string", "enum": list(autoscale.Weekday)}},
)


def read_resource(value: Any) -> str:
    """What a rule looks at, as the contract names it; ValueError when it is no such id."""
    found = _TARGET.match(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("the resource id of an online endpoint or deployment is expected")
    path = f"endpoints/{found['endpoint'].lower()}"
    return f"{path}/deployments/{found['deployment'].lower()}" if found["deployment"] else path


_RESOURCE = Form(str, read_resource, {"type": "string"})
_DIMENSION = Shape(
    Field("DimensionName", "name"),
    Field("Operator", "operator", choice({"Equals": "Equals", "NotEquals": "NotEquals"})),
    Field("Values", "values"),
)
_TRIGGER = Shape(
    Field("metricName", "metric_name"),
    Field("metricNamespace", "metric_namespace"),
    Field("metricResourceUri", "resource", _RESOURCE),
    Field("timeGrain", "time_grain", SECONDS),
    Field("statistic", "statistic", _words(autoscale.Statistic)),
    Field("timeWindow", "time_window", SECONDS),
    Field("timeAggregation", "time_aggregation", _words(autoscale.TimeAggregation)),
    Field("operator", "operator", _words(autoscale.Operator)),
    Field("threshold", "threshold"),
    Field("dimensions", "dimensions", Several(_DIMENSION)),
    Field("dividePerInstance", "divide_per_instance"),
    ignored=("metricResourceLocation",),
)
_ACTION = Shape(
    Field("direction", "direction", _words(autoscale.Direction)),
    Field("type", "type", _words(autoscale.ScaleType)),
    Field("value", "value", _WHOLE),
    Field("cooldown", "cooldown", SECONDS),
)
_PROFILE = Shape(
    Field("name", "name"),
    Field(
        "capacity",
        "capacity",
        Shape(
            Field("minimum", "minimum", _WHOLE),
            Field("maximum", "maximum", _WHOLE),
            Field("default", "default", _WHOLE),
        ),
    ),
    Field(
        "rules",
        "rules",
        Several(
            Shape(
                Field("metricTrigger", "trigger", _TRIGGER), Field("scaleAction", "action", _ACTION)
            )
        ),
    ),
    Field(
        "fixedDate",
        "fixed_date",
        Shape(Field("timeZone", "time_zone"), Field("start", "start"), Field("end", "end")),
    ),
    Field(
        "recurrence",
        "recurrence",
        Shape(
            Field("frequency", "frequency", choice({"Week": "Week"})),
            Field(
                "schedule",
                "",
                Shape(
                    Field("timeZone", "time_zone"),
                    Field("days", "days", _DAYS),
                    Field("hours", "hours"),
                    Field("minutes", "minutes"),
                ),
            ),
        ),
    ),
)
SETTING = Shape(
    Field("tags", "tags"),
    Field(
        "properties",
        "",
        Shape(
            Field("enabled", "enabled"),
            Field("profiles", "profiles", Several(_PROFILE)),
            Field("notifications", "notifications"),
            ignored=(
                *("name", "targetResourceUri", "targetResourceLocation"),
                "predictiveAutoscalePolicy",
            ),
        ),
    ),
    ignored=ENVELOPE_READ_ONLY,
)


def setting_spec(name: str, body: Any, workspace: str = "") -> tuple[str, AutoscaleSpec]:
    """The setting that a body or resource describes, and the workspace of its target.

    ``workspace`` is that of a target in short form; empty: there must be none.
    """
    properties = body.get("properties") if isinstance(body, Mapping) else None
    uri = properties.get("targetResourceUri") if isinstance(properties, Mapping) else None
    found = _TARGET.match(uri) if isinstance(uri, str) else None
    if found is None or not found["deployment"] or not (found["workspace"] or workspace):
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            "targetResourceUri must be the resource id of an online deployment: "
            f"/subscriptions/<any>/resourceGroups/<any>/providers/{PROVIDER}/workspaces/"
            "<workspace>/onlineEndpoints/<endpoint>/deployments/<deployment>",
            target="/properties/targetResourceUri",
        )
    given = {
        "name": name,
        "endpoint": found["endpoint"].lower(),
        "deployment": found["deployment"].lower(),
    }
    return (found["workspace"] or workspace).lower(), loaded(AutoscaleSpec, SETTING, body, given)


def setting_body(spec: AutoscaleSpec, context: Context) -> Json:
    """The body that creates or replaces a setting."""
    body = dumped(SETTING, spec, full=True)
    properties = body["properties"]
    target = context.deployment_id(spec.endpoint, spec.deployment)
    properties |= {"name": spec.name, "targetResourceUri": target}
    for profile in properties["profiles"]:
        for rule in profile["rules"]:
            trigger = rule["metricTrigger"]
            trigger["metricResourceUri"] = _full(trigger["metricResourceUri"], spec, context)
            if not trigger["metricNamespace"]:
                del trigger["metricNamespace"]
    return {"location": LOCATION, **body}


def _full(resource: str, spec: AutoscaleSpec, context: Context) -> str:
    if not resource:
        return context.deployment_id(spec.endpoint, spec.deployment)
    parts = resource.split("/")
    if len(parts) < 4:
        return context.endpoint_id(parts[1])
    return context.deployment_id(parts[1], parts[3])


def setting_id(context: Context, name: str) -> str:
    """Where a setting is found: beside the workspaces of its resource group."""
    return (
        f"/subscriptions/{context.subscription}/resourceGroups/{context.resource_group}"
        f"/providers/{TYPE}/{name}"
    )


def setting_resource(setting: AutoscaleSetting, context: Context) -> Json:
    """The whole resource."""
    name = setting.spec.name
    about = envelope(setting_id(context, name), name, "", setting)
    return {**about, "type": TYPE, **setting_body(setting.spec, context)}


def decision_resource(decision: ScaleDecision) -> Json:
    """A decision as the history shows it."""
    return {
        "timestamp": _time(decision.at),
        "endpoint": decision.endpoint,
        "deployment": decision.deployment,
        "setting": decision.setting,
        "profile": decision.profile,
        "action": decision.action,
        "reason": decision.reason,
        "message": decision.message,
        "fromCount": decision.from_count,
        "toCount": decision.to_count,
        "wantedCount": decision.wanted_count,
        "figures": [
            {
                "name": each.name,
                "value": each.value,
                "threshold": each.threshold,
                "note": each.note,
            }
            for each in decision.figures
        ],
    }


def simulation(workspace: str, body: Any) -> SimulateAutoscale:
    """What a body asks to be tried. Raises HeadgateError that names the field."""
    said = body if isinstance(body, Mapping) else {}
    setting = said.get("setting")
    name = str(setting.get("name", "")) if isinstance(setting, Mapping) else ""
    place, spec = setting_spec(name or "tried", setting, workspace)
    if place != workspace:
        raise HeadgateError(ErrorCode.BAD_ARGUMENT, "/setting: of another workspace")
    given = {ours: said[theirs] for theirs, ours in _SIMULATION.items() if theirs in said}
    try:
        return SimulateAutoscale.model_validate({**given, "workspace": workspace, "spec": spec})
    except ValidationError as error:
        first = error.errors()[0]
        field = "/".join(map(str, first["loc"]))
        raise HeadgateError(ErrorCode.BAD_ARGUMENT, f"/{field}: {first['msg']}") from None


_SIMULATION = {
    "load": "load", "durationS": "duration_s", "startsAt": "starts_at", "serviceS": "service_s",
    "startupS": "startup_s",
}  # fmt: skip


def simulation_resource(reply: SimulationReply) -> Json:
    """The outcome of a simulation; times are seconds after its beginning."""
    return {
        "requests": round(reply.requests),
        "refused": round(reply.refused),
        "instanceHours": round(reply.instance_s / 3_600, 3),
        "instancesMax": reply.instances_max,
        "changes": reply.changes_count,
        "moments": [each.model_dump(mode="json") for each in reply.moments],
        "decisions": [each.model_dump(mode="json") for each in reply.changes],
        "week": list(reply.week),
    }


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
