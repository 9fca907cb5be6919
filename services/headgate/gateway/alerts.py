"""Routes of alert rules and their deliveries."""

from __future__ import annotations

from aiohttp import web
from pydantic import Field

from headgate.azure import arm_schema
from headgate.azure.arm_answers import COUNT, TEXT, TIME, list_of, or_null, plain
from headgate.azure.arm_fields import Field as Row
from headgate.azure.arm_fields import Form, Json, Problems, Shape, checked, choice
from headgate.azure.arm_ids import PROVIDER
from headgate.azure.arm_resources import page, timestamp
from headgate.gateway.backend import Backend
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.routes import WORKSPACE, Route
from headgate.gateway.things import REMOVALS, answer_removal
from headgate_contracts.alerts import (
    URL_CHARS_MAX,
    AlertRule,
    AlertRulesReply,
    AlertRuleStanding,
    DeleteAlertRule,
    DeliveriesReply,
    Delivery,
    DeliveryState,
    ListAlertRules,
    ListDeliveries,
    PutAlertRule,
    SendTestAlert,
    Topic,
)
from headgate_contracts.envelope import Value
from headgate_contracts.resources import OptionalName

_RULES = f"{WORKSPACE}/alertRules"
_RULE = f"{_RULES}/{{name}}"
_TOPICS = {each.value: each.value.replace("_", "-") for each in Topic}


class RuleBody(Value):
    """A rule without its name and workspace, which the path says; ``secret`` goes in only."""

    topics: tuple[Topic, ...] = Field(min_length=1, max_length=len(Topic))
    url: str = Field(min_length=1, max_length=URL_CHARS_MAX)
    endpoint: OptionalName = ""
    is_enabled: bool = True
    secret: str = Field("", max_length=256)


def _topics() -> Form:
    one = choice(_TOPICS)

    def load(value: object) -> list[str]:
        if not isinstance(value, list):
            raise ValueError("a list of topics is expected")
        return [one.load(each) for each in value]

    schema = {"type": "array", "items": one.schema, "minItems": 1, "maxItems": len(Topic)}
    return Form(lambda words: [one.dump(word) for word in words], load, schema)


_PROPERTIES = Shape(
    Row("topics", "topics", _topics()),
    Row("url", "url"),
    Row("endpoint", "endpoint"),
    Row("enabled", "is_enabled"),
    Row("secret", "secret"),
    ignored=("waiting", "delivered", "givenUp"),
)
_BODY = Shape(Row("properties", "", _PROPERTIES), ignored=("id", "name", "type"))
_RESOURCE = plain(
    "AlertRule",
    id=TEXT,
    name=TEXT,
    type=TEXT,
    properties=plain(
        "AlertRuleProperties",
        optional=("secret",),
        topics={"type": "array", "items": {"type": "string", "enum": list(_TOPICS.values())}},
        url=TEXT,
        endpoint=TEXT,
        enabled={"type": "boolean"},
        secret=TEXT,
        waiting=COUNT,
        delivered=COUNT,
        givenUp=COUNT,
    ),
)
_DELIVERY = plain(
    "AlertDelivery",
    id=TEXT,
    rule=TEXT,
    topic=TEXT,
    eventId=TEXT,
    state={"type": "string", "enum": [each.value for each in DeliveryState]},
    createdAt=TIME,
    attempts=COUNT,
    dueAt=or_null(TIME),
    endedAt=or_null(TIME),
    status=COUNT,
    error=TEXT,
)


class Alerts:
    """Handlers of alert rules."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def list_all(self, call: Call) -> web.StreamResponse:
        found = await self._rules(call, "")
        return answer(page([_resource(each, call) for each in found]))

    async def get(self, call: Call) -> web.StreamResponse:
        (found,) = await self._rules(call, call.params["name"])
        return answer(_resource(found, call))

    async def put(self, call: Call) -> web.StreamResponse:
        problems = Problems()
        values = _BODY.load(await call.json(), problems)
        given = checked(RuleBody, values, _BODY, problems)
        about = {"workspace": call.workspace, "name": call.params["name"]}
        fields = given.model_dump(mode="json", exclude={"secret"})
        rule = checked(AlertRule, about | fields, _BODY, problems)
        command = PutAlertRule(rule=rule, secret=given.secret)
        reply = await self._backend.ask(command, AlertRulesReply, _BODY)
        return answer(_resource(reply.rules[0], call, reply.secret))

    async def delete(self, call: Call) -> web.StreamResponse:
        command = DeleteAlertRule(workspace=call.workspace, name=call.params["name"])
        return await answer_removal(self._backend, command)

    async def send_test(self, call: Call) -> web.StreamResponse:
        command = SendTestAlert(workspace=call.workspace, name=call.params["name"])
        reply = await self._backend.ask(command, DeliveriesReply)
        return answer(_delivery(reply.deliveries[0]), 202)

    async def list_deliveries(self, call: Call) -> web.StreamResponse:
        await self._rules(call, call.params["name"])
        query = ListDeliveries(workspace=call.workspace, rule=call.params["name"])
        reply = await self._backend.ask(query, DeliveriesReply)
        return answer(page([_delivery(each) for each in reply.deliveries]))

    async def _rules(self, call: Call, name: str) -> tuple[AlertRuleStanding, ...]:
        query = ListAlertRules(workspace=call.workspace, name=name)
        return (await self._backend.ask(query, AlertRulesReply)).rules

    def routes(self) -> tuple[Route[Handle], ...]:
        return (
            Route("GET", _RULES, self.list_all, "List alert rules", reply=list_of(_RESOURCE)),
            Route("GET", _RULE, self.get, "Read an alert rule", reply=_RESOURCE),
            Route(
                "PUT",
                _RULE,
                self.put,
                "Create or replace an alert rule; tells the secret that it made",
                body=arm_schema.describe(_BODY, RuleBody),
                reply=_RESOURCE,
            ),
            Route(
                "DELETE",
                _RULE,
                self.delete,
                "Delete an alert rule with its deliveries",
                answers=REMOVALS,
            ),
            Route(
                "POST",
                f"{_RULE}/test",
                self.send_test,
                "Send a test to the address of an alert rule",
                reply=_DELIVERY,
                answers={202: "on its way"},
            ),
            Route(
                "GET",
                f"{_RULE}/deliveries",
                self.list_deliveries,
                "List deliveries of an alert rule, the latest first",
                reply=list_of(_DELIVERY),
            ),
        )


def _resource(standing: AlertRuleStanding, call: Call, secret: str = "") -> Json:
    rule = standing.rule
    return {
        "id": f"{call.context.workspace_id}/alertRules/{rule.name}",
        "name": rule.name,
        "type": f"{PROVIDER}/workspaces/alertRules",
        "properties": {
            **_PROPERTIES.dump(rule.model_dump(mode="json")),
            **({"secret": secret} if secret else {}),
            "waiting": standing.waiting,
            "delivered": standing.delivered,
            "givenUp": standing.given_up,
        },
    }


def _delivery(found: Delivery) -> Json:
    return {
        "id": found.id,
        "rule": found.rule,
        "topic": _TOPICS[found.topic.value],
        "eventId": found.event_id,
        "state": found.state.value,
        "createdAt": timestamp(found.created_at),
        "attempts": found.attempts,
        "dueAt": None if found.due_at is None else timestamp(found.due_at),
        "endedAt": None if found.ended_at is None else timestamp(found.ended_at),
        "status": found.status,
        "error": found.error,
    }
