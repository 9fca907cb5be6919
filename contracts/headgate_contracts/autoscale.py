"""Autoscale settings in Azure Monitor's words, and what the autoscaler hears, answers and says.

A setting belongs to one deployment. Words of enumerations are Azure's own (azure.md 5.1); times
are seconds, local times are ISO 8601 without an offset.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue

from headgate_contracts import limits, subjects
from headgate_contracts.envelope import Command, Event, Query, Reply, Value
from headgate_contracts.resources import Name, Resource, Tags

SERVICE = "autoscaler"
_RESOURCE = r"^(endpoints/[a-z0-9-]{1,32}(/deployments/[a-z0-9-]{1,32})?)?$"


class Statistic(StrEnum):
    """How the values of several instances become one value per grain."""

    AVERAGE = "Average"
    MIN = "Min"
    MAX = "Max"
    SUM = "Sum"
    COUNT = "Count"


class TimeAggregation(StrEnum):
    """How the grains of a window become one value."""

    AVERAGE = "Average"
    MINIMUM = "Minimum"
    MAXIMUM = "Maximum"
    TOTAL = "Total"
    COUNT = "Count"
    LAST = "Last"


class Operator(StrEnum):
    EQUALS = "Equals"
    NOT_EQUALS = "NotEquals"
    GREATER_THAN = "GreaterThan"
    GREATER_THAN_OR_EQUAL = "GreaterThanOrEqual"
    LESS_THAN = "LessThan"
    LESS_THAN_OR_EQUAL = "LessThanOrEqual"


class Direction(StrEnum):
    INCREASE = "Increase"
    DECREASE = "Decrease"


class ScaleType(StrEnum):
    CHANGE_COUNT = "ChangeCount"
    PERCENT_CHANGE_COUNT = "PercentChangeCount"
    EXACT_COUNT = "ExactCount"


class Weekday(StrEnum):
    """In the order of the week, Monday first, as Python counts."""

    MONDAY = "Monday"
    TUESDAY = "Tuesday"
    WEDNESDAY = "Wednesday"
    THURSDAY = "Thursday"
    FRIDAY = "Friday"
    SATURDAY = "Saturday"
    SUNDAY = "Sunday"


Count = Annotated[int, Field(ge=0, le=limits.INSTANCES_PER_DEPLOYMENT_MAX, strict=True)]
LocalTime = Annotated[str, Field(max_length=40)]
TimeZone = Annotated[str, Field(max_length=64)]


class Capacity(Value):
    """Bounds of the count. ``default`` is gone to from below when metrics cannot be read."""

    minimum: Count
    maximum: Count
    default: Count


class MetricDimension(Value):
    name: str = Field(min_length=1, max_length=64)
    operator: Literal["Equals", "NotEquals"] = "Equals"
    values: tuple[str, ...] = Field(min_length=1, max_length=20)


class MetricTrigger(Value):
    """``resource``: ``endpoints/<endpoint>[/deployments/<deployment>]``; empty is the target."""

    metric_name: str = Field(min_length=1, max_length=64)
    resource: str = Field("", pattern=_RESOURCE)
    metric_namespace: str = Field("", max_length=200)
    time_grain: Annotated[int, Field(ge=1, le=3_600, strict=True)] = 60
    statistic: Statistic = Statistic.AVERAGE
    time_window: Annotated[int, Field(ge=1, le=limits.SCALE_WINDOW_S_MAX, strict=True)] = 300
    time_aggregation: TimeAggregation = TimeAggregation.AVERAGE
    operator: Operator
    threshold: float = Field(allow_inf_nan=False)
    dimensions: tuple[MetricDimension, ...] = Field((), max_length=5)
    divide_per_instance: bool = False


class ScaleAction(Value):
    """``value``: instances, or percent of the present count, or the count itself."""

    direction: Direction
    type: ScaleType = ScaleType.CHANGE_COUNT
    value: Annotated[int, Field(ge=0, le=1_000, strict=True)] = 1
    cooldown: Annotated[int, Field(ge=0, le=limits.SCALE_COOLDOWN_S_MAX, strict=True)] = 300


class Rule(Value):
    trigger: MetricTrigger
    action: ScaleAction


class FixedDate(Value):
    """From ``start`` until ``end``, local times of the zone."""

    time_zone: TimeZone = "UTC"
    start: LocalTime
    end: LocalTime


class Recurrence(Value):
    """Weekly moments at which the profile begins; it lasts until another one begins."""

    frequency: Literal["Week"] = "Week"
    time_zone: TimeZone = "UTC"
    days: tuple[Weekday, ...] = Field(min_length=1, max_length=7)
    hours: tuple[Annotated[int, Field(ge=0, le=23)], ...] = Field(min_length=1, max_length=24)
    minutes: tuple[Annotated[int, Field(ge=0, le=59)], ...] = Field(min_length=1, max_length=60)


class Profile(Value):
    """With neither a fixed date nor a recurrence: the default profile."""

    name: str = Field(min_length=1, max_length=260)
    capacity: Capacity
    rules: tuple[Rule, ...] = Field((), max_length=limits.SCALE_RULES_MAX)
    fixed_date: FixedDate | None = None
    recurrence: Recurrence | None = None


class AutoscaleSpec(Value):
    """One setting. ``notifications`` are kept as given; whoever wants to know hears the events."""

    name: str = Field(pattern=limits.ASSET_NAME_PATTERN)
    endpoint: Name
    deployment: Name
    enabled: bool = True
    profiles: tuple[Profile, ...] = Field(min_length=1, max_length=limits.SCALE_PROFILES_MAX)
    notifications: tuple[dict[str, JsonValue], ...] = Field((), max_length=20)
    tags: Tags = {}


class AutoscaleSetting(Resource):
    spec: AutoscaleSpec


# --- decisions ---------------------------------------------------------------------------------


class Figure(Value):
    """A number that led to a decision. ``value`` None: it could not be read; ``note`` says why."""

    name: str
    value: float | None = None
    threshold: float | None = None
    note: str = ""


class ScaleDecision(Value):
    """What was decided about one deployment, and why.

    ``to_count`` is the count from now on; of a decision to hold, what was held back is in
    ``wanted_count``.
    """

    at: float
    workspace: str
    endpoint: str
    deployment: str
    setting: str = ""
    profile: str = ""
    action: Literal["scale_out", "scale_in", "hold"]
    reason: str
    message: str
    from_count: int
    to_count: int
    wanted_count: int
    figures: tuple[Figure, ...] = ()


# --- commands and queries ----------------------------------------------------------------------


class PutAutoscaleSetting(Command):
    """Create or replace a setting. A deployment has at most one."""

    TYPE: ClassVar[str] = "headgate.autoscaler.command.v1.put_autoscale_setting"

    workspace: str
    spec: AutoscaleSpec
    create_only: bool = False
    if_revision: int | None = None


class DeleteAutoscaleSetting(Command):
    TYPE: ClassVar[str] = "headgate.autoscaler.command.v1.delete_autoscale_setting"

    workspace: str
    name: str
    if_revision: int | None = None


class GetAutoscaleSetting(Query):
    TYPE: ClassVar[str] = "headgate.autoscaler.query.v1.get_autoscale_setting"

    workspace: str
    name: str


class ListAutoscaleSettings(Query):
    """Settings in the order of workspace and name; of all workspaces when none is named.

    Named as well: those of that name, or of that deployment. ``after`` is the cursor of the answer
    before, ``<workspace>/<name>``.
    """

    TYPE: ClassVar[str] = "headgate.autoscaler.query.v1.list_autoscale_settings"

    workspace: str = ""
    name: str = ""
    endpoint: str = ""
    deployment: str = ""
    after: str = ""
    limit: int = Field(limits.PAGE_SIZE_DEFAULT, ge=1, le=limits.PAGE_SIZE_MAX)


class ListDecisions(Query):
    """Decisions about one deployment, or all of the workspace, newest first."""

    TYPE: ClassVar[str] = "headgate.autoscaler.query.v1.list_decisions"

    workspace: str
    endpoint: str = ""
    deployment: str = ""
    since: float = 0.0
    limit: int = Field(limits.PAGE_SIZE_DEFAULT, ge=1, le=limits.PAGE_SIZE_MAX)


class AutoscaleSettingReply(Reply):
    TYPE: ClassVar[str] = "headgate.autoscaler.reply.v1.autoscale_setting"

    setting: AutoscaleSetting
    created: bool = False


class AutoscaleSettingsReply(Reply):
    TYPE: ClassVar[str] = "headgate.autoscaler.reply.v1.autoscale_settings"

    settings: tuple[AutoscaleSetting, ...] = ()
    after: str = ""


class DecisionsReply(Reply):
    TYPE: ClassVar[str] = "headgate.autoscaler.reply.v1.decisions"

    decisions: tuple[ScaleDecision, ...] = ()


# --- events ------------------------------------------------------------------------------------


class AutoscaleEvent(Event):
    """Base of events about the scaling of one deployment."""

    WHAT: ClassVar[str] = ""

    workspace: str
    endpoint: str
    deployment: str

    def subject(self) -> str:
        return subjects.event("autoscale", f"{self.endpoint}.{self.deployment}", self.WHAT)


class AutoscaleSettingPut(AutoscaleEvent):
    TYPE: ClassVar[str] = "headgate.autoscaler.event.v1.autoscale_setting_put"
    WHAT: ClassVar[str] = "setting_put"

    setting: str
    revision: int = 0


class AutoscaleSettingDeleted(AutoscaleEvent):
    TYPE: ClassVar[str] = "headgate.autoscaler.event.v1.autoscale_setting_deleted"
    WHAT: ClassVar[str] = "setting_deleted"

    setting: str


class Decided(AutoscaleEvent):
    """Base of events about decisions; ``reason`` is a word, ``message`` a sentence."""

    setting: str = ""
    profile: str = ""
    reason: str
    message: str
    from_count: int
    to_count: int
    wanted_count: int
    figures: tuple[Figure, ...] = ()


class ScaledOut(Decided):
    TYPE: ClassVar[str] = "headgate.autoscaler.event.v1.scaled_out"
    WHAT: ClassVar[str] = "scaled_out"


class ScaledIn(Decided):
    TYPE: ClassVar[str] = "headgate.autoscaler.event.v1.scaled_in"
    WHAT: ClassVar[str] = "scaled_in"


class ScalingHeld(Decided):
    """A change that was due is not made. Told when the reason changes, not at every look."""

    TYPE: ClassVar[str] = "headgate.autoscaler.event.v1.scaling_held"
    WHAT: ClassVar[str] = "held"


class ScalingFailed(Decided):
    """The count that was decided was refused, as by a quota. Told once until that changes."""

    TYPE: ClassVar[str] = "headgate.autoscaler.event.v1.scaling_failed"
    WHAT: ClassVar[str] = "failed"
