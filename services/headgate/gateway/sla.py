"""Routes of service levels: the objective of an endpoint, and how it is kept."""

from __future__ import annotations

from aiohttp import web
from pydantic import Field

from headgate.azure import arm_schema
from headgate.azure.arm_answers import COUNT, TEXT, TIME, list_of, or_null, plain
from headgate.azure.arm_fields import Field as Row
from headgate.azure.arm_fields import Json, Problems, Shape, checked, write_duration
from headgate.azure.arm_ids import PROVIDER
from headgate.azure.arm_resources import page, timestamp
from headgate.gateway.backend import Backend
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.routes import WORKSPACE, Route
from headgate.gateway.things import REMOVALS, answer_removal
from headgate_contracts import limits
from headgate_contracts.envelope import Value
from headgate_contracts.sla import (
    AVAILABILITY_PERCENT,
    LATENCY_PERCENT,
    WINDOW_DAYS,
    DeleteObjective,
    GetSla,
    Indicator,
    Objective,
    PutObjective,
    Severity,
    SlaReply,
    SlaStanding,
    SlaWindow,
)

_SLAS = f"{WORKSPACE}/slas"
_SLA = f"{WORKSPACE}/onlineEndpoints/{{endpoint}}/sla"


class ObjectiveBody(Value):
    """An objective without its endpoint, which the path says."""

    availability_percent: float = Field(AVAILABILITY_PERCENT, gt=0, lt=100)
    latency_ms: float = Field(0.0, ge=0, le=limits.REQUEST_TIMEOUT_MS_MAX)
    latency_percent: float = Field(LATENCY_PERCENT, gt=0, lt=100)
    window_days: int = Field(WINDOW_DAYS, ge=1, le=limits.SLA_WINDOW_DAYS_MAX)


_READ_ONLY = (
    *("endpoint", "isDefault", "availabilityBudgetLeftPercent", "latencyBudgetLeftPercent"),
    *("alerts", "windows"),
)
_PROPERTIES = Shape(
    Row("availabilityTargetPercent", "availability_percent"),
    Row("latencyTargetMs", "latency_ms"),
    Row("latencyTargetPercent", "latency_percent"),
    Row("windowDays", "window_days"),
    ignored=_READ_ONLY,
)
_BODY = Shape(Row("properties", "", _PROPERTIES), ignored=("id", "name", "type"))
_AMOUNT: Json = {"type": "number", "minimum": 0}
_MAYBE = or_null(_AMOUNT)
_WINDOW = plain(
    "SlaWindow",
    window={"type": "string", "format": "duration"},
    good=COUNT,
    bad=COUNT,
    excluded=COUNT,
    availabilityPercent=_MAYBE,
    availabilityBurnRate=_MAYBE,
    measured=COUNT,
    fast=_AMOUNT,
    latencyPercent=_MAYBE,
    latencyBurnRate=_MAYBE,
)
_ALERT = plain(
    "SlaAlert",
    indicator={"type": "string", "enum": [each.value for each in Indicator]},
    severity={"type": "string", "enum": [each.value for each in Severity]},
    since=TIME,
)
_RESOURCE = plain(
    "Sla",
    id=TEXT,
    name=TEXT,
    type=TEXT,
    properties=plain(
        "SlaProperties",
        availabilityTargetPercent=_AMOUNT,
        latencyTargetMs=_AMOUNT,
        latencyTargetPercent=_AMOUNT,
        windowDays=COUNT,
        endpoint=TEXT,
        isDefault={"type": "boolean"},
        availabilityBudgetLeftPercent=or_null({"type": "number"}),
        latencyBudgetLeftPercent=or_null({"type": "number"}),
        alerts={"type": "array", "items": _ALERT},
        windows={"type": "array", "items": _WINDOW},
    ),
)


class Slas:
    """Handlers of service levels."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def list_all(self, call: Call) -> web.StreamResponse:
        """Every endpoint of the workspace, those without requests among them."""
        found = await self._backend.endpoints(call.workspace)
        names = tuple(endpoint.spec.name for endpoint in found)
        standings = await self._standings(call, names) if names else ()
        return answer(page([_resource(each, call) for each in standings]))

    async def get(self, call: Call) -> web.StreamResponse:
        endpoint = await self._backend.endpoint(call)
        (found,) = await self._standings(call, (endpoint.spec.name,))
        return answer(_resource(found, call))

    async def put(self, call: Call) -> web.StreamResponse:
        problems = Problems()
        values = _BODY.load(await call.json(), problems)
        given = checked(ObjectiveBody, values, _BODY, problems)
        endpoint = await self._backend.endpoint(call)
        objective = Objective(
            workspace=call.workspace, endpoint=endpoint.spec.name, **given.model_dump()
        )
        reply = await self._backend.ask(PutObjective(objective=objective), SlaReply, _BODY)
        return answer(_resource(reply.standings[0], call))

    async def delete(self, call: Call) -> web.StreamResponse:
        command = DeleteObjective(workspace=call.workspace, endpoint=call.params["endpoint"])
        return await answer_removal(self._backend, command)

    async def _standings(self, call: Call, names: tuple[str, ...]) -> tuple[SlaStanding, ...]:
        query = GetSla(workspace=call.workspace, endpoints=names)
        return (await self._backend.ask(query, SlaReply)).standings

    def routes(self) -> tuple[Route[Handle], ...]:
        return (
            Route("GET", _SLAS, self.list_all, "List service levels", reply=list_of(_RESOURCE)),
            Route("GET", _SLA, self.get, "Read how an endpoint keeps its", reply=_RESOURCE),
            Route(
                "PUT",
                _SLA,
                self.put,
                "Set the objective of an endpoint",
                body=arm_schema.describe(_BODY, ObjectiveBody),
                reply=_RESOURCE,
            ),
            Route(
                "DELETE",
                _SLA,
                self.delete,
                "Give an endpoint the usual objective again",
                answers=REMOVALS,
            ),
        )


def _resource(standing: SlaStanding, call: Call) -> Json:
    objective = standing.objective
    name = objective.endpoint
    return {
        "id": f"{call.context.workspace_id}/onlineEndpoints/{name}/sla",
        "name": name,
        "type": f"{PROVIDER}/workspaces/onlineEndpoints/sla",
        "properties": {
            **_PROPERTIES.dump(objective.model_dump()),
            "endpoint": name,
            "isDefault": standing.is_default,
            "availabilityBudgetLeftPercent": standing.availability_budget_left_percent,
            "latencyBudgetLeftPercent": standing.latency_budget_left_percent,
            "alerts": [
                {
                    "indicator": alert.indicator.value,
                    "severity": alert.severity.value,
                    "since": timestamp(alert.since),
                }
                for alert in standing.alerts
            ],
            "windows": [_window(each) for each in standing.windows],
        },
    }


def _window(window: SlaWindow) -> Json:
    return {
        "window": write_duration(window.seconds * 10**9),
        "good": window.good,
        "bad": window.bad,
        "excluded": window.excluded,
        "availabilityPercent": window.availability_percent,
        "availabilityBurnRate": window.availability_burn,
        "measured": window.measured,
        "fast": window.fast,
        "latencyPercent": window.latency_percent,
        "latencyBurnRate": window.latency_burn,
    }
