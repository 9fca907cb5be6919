"""Routes of autoscale settings, as Azure Monitor has them, and of the decisions made by them.

A setting's address names no workspace: that of its target counts, and who has no role there sees
nothing of it. Where two workspaces have a setting of one name, ``?workspace=`` says which is meant.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from headgate.azure import arm_autoscale, arm_schema
from headgate.azure.arm_answers import COUNT, TEXT, TIME, list_of, or_null, plain, resource
from headgate.azure.arm_fields import Json
from headgate.azure.arm_ids import Context
from headgate.azure.arm_resources import page
from headgate.gateway import core
from headgate.gateway.access import Action
from headgate.gateway.backend import Backend, all_of, list_answer, resource_answer
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.patches import patch_stored, patched
from headgate.gateway.routes import WORKSPACE, Route
from headgate.gateway.things import REMOVALS, removal_answer
from headgate_contracts import limits
from headgate_contracts.autoscale import (
    AutoscaleSetting,
    AutoscaleSettingReply,
    AutoscaleSettingsReply,
    AutoscaleSpec,
    DecisionsReply,
    DeleteAutoscaleSetting,
    ListAutoscaleSettings,
    ListDecisions,
    PutAutoscaleSetting,
)
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.simulations import SimulationReply
from headgate_contracts.storage import RemovedReply

_TAIL = f"/providers/{arm_autoscale.TYPE}"
_SUBSCRIPTION = "/subscriptions/{subscription}"
_GROUP = f"{_SUBSCRIPTION}/resourceGroups/{{resourceGroup}}"
_LIST = f"{_GROUP}{_TAIL}"
_ONE = f"{_LIST}/{{name}}"
_PATCHABLE = ("tags", "properties")
_BODY = arm_schema.describe(arm_autoscale.SETTING, AutoscaleSpec)
_LOCATED: Json = {"location": TEXT}
_SETTING = resource(
    "AutoscaleSetting",
    arm_autoscale.SETTING,
    AutoscaleSpec,
    _LOCATED,
    {"name": TEXT, "targetResourceUri": TEXT},
)
_NUMBER = or_null({"type": "number"})
_DECISION = plain(
    "ScaleDecision",
    timestamp=TIME,
    endpoint=TEXT,
    deployment=TEXT,
    setting=TEXT,
    profile=TEXT,
    reason=TEXT,
    message=TEXT,
    action={"type": "string", "enum": ["scale_out", "scale_in", "hold"]},
    fromCount=COUNT,
    toCount=COUNT,
    wantedCount=COUNT,
    figures={
        "type": "array",
        "items": plain(name=TEXT, value=_NUMBER, threshold=_NUMBER, note=TEXT),
    },
)


_TRIED: Json = {
    "type": "object",
    "required": ["setting", "load", "durationS"],
    "properties": {
        "setting": {**_BODY, "description": "an autoscale setting, with its name"},
        "load": {
            "type": "array",
            "minItems": 1,
            "maxItems": limits.SIMULATION_POINTS_MAX,
            "items": plain(at_s={"type": "number"}, requests_per_s={"type": "number"}),
        },
        "durationS": {"type": "number", "exclusiveMinimum": 0, "maximum": limits.SIMULATION_S_MAX},
        "startsAt": {"type": "number", "description": "Unix time, for schedules"},
        "serviceS": {"type": "number", "description": "what one request takes"},
        "startupS": {"type": "number", "description": "what the start of an instance takes"},
    },
}


class Autoscale:
    """Handlers of settings and decisions."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def _visible(self, call: Call, name: str = "") -> list[AutoscaleSetting]:
        """Those whose workspace the caller has a role in."""
        workspace = call.query.get("workspace", "").lower()

        async def part(after: str, limit: int) -> tuple[Sequence[AutoscaleSetting], str]:
            query = ListAutoscaleSettings(workspace=workspace, name=name, after=after, limit=limit)
            reply = await self._backend.ask(query, AutoscaleSettingsReply)
            return reply.settings, reply.after

        role_in = call.principal.role_in
        return [each for each in await all_of(part) if role_in(each.workspace) is not None]

    async def _read(self, call: Call) -> AutoscaleSetting:
        name = call.params["name"]
        found = await self._visible(call, name)
        if not found:
            raise HeadgateError(
                ErrorCode.RESOURCE_NOT_FOUND,
                f"there is no autoscale setting {name[:80]!r}",
                target="name",
            )
        if len(found) > 1:
            places = ", ".join(each.workspace for each in found)
            raise HeadgateError(
                ErrorCode.RESOURCE_CONFLICT,
                f"several workspaces ({places}) have a setting {name[:80]!r}; say which with "
                "?workspace=",
                target="workspace",
            )
        return found[0]

    async def list_all(self, call: Call) -> web.StreamResponse:
        found = await self._visible(call)
        return list_answer(call, found, lambda each: _described(call, each))

    async def get(self, call: Call) -> web.StreamResponse:
        found = await self._read(call)
        return resource_answer(call, _described(call, found), found.revision)

    async def put(self, call: Call) -> web.StreamResponse:
        workspace, spec = arm_autoscale.setting_spec(call.params["name"], await call.json())
        call.require(Action.WRITE, workspace)
        condition = call.condition
        revision = condition.if_revision
        if condition.must_exist and revision is None:
            revision = (await self._read(call)).revision
        command = PutAutoscaleSetting(
            workspace=workspace,
            spec=spec,
            create_only=condition.create_only,
            if_revision=revision,
        )
        return await self._store(call, command)

    async def patch(self, call: Call) -> web.StreamResponse:
        patch = await call.json()

        async def store(found: AutoscaleSetting, revision: int) -> web.StreamResponse:
            call.require(Action.WRITE, found.workspace)
            body = patched(_described(call, found), patch, _PATCHABLE)
            workspace, spec = arm_autoscale.setting_spec(found.spec.name, body)
            call.require(Action.WRITE, workspace)
            command = PutAutoscaleSetting(workspace=workspace, spec=spec, if_revision=revision)
            return await self._store(call, command)

        return await patch_stored(call, self._read, store)

    async def _store(self, call: Call, command: PutAutoscaleSetting) -> web.StreamResponse:
        shape = arm_autoscale.SETTING
        reply = await self._backend.ask(command, AutoscaleSettingReply, shape)
        body = _described(call, reply.setting)
        return resource_answer(call, body, reply.setting.revision, created=reply.created)

    async def delete(self, call: Call) -> web.StreamResponse:
        condition = call.condition
        try:
            found = await self._read(call)
        except HeadgateError as error:
            is_absent = error.error.code is ErrorCode.RESOURCE_NOT_FOUND
            if not is_absent or condition.must_exist or condition.if_revision is not None:
                raise
            return removal_answer(False)
        call.require(Action.DELETE, found.workspace)
        command = DeleteAutoscaleSetting(
            workspace=found.workspace, name=found.spec.name, if_revision=condition.if_revision
        )
        return removal_answer((await self._backend.ask(command, RemovedReply)).existed)

    async def decisions(self, call: Call) -> web.StreamResponse:
        query, now = call.query, self._backend.clock.now()
        since = core.read_since(query["since"], now) if query.get("since") else 0.0
        asked = ListDecisions(
            workspace=call.workspace,
            endpoint=query.get("endpoint", ""),
            deployment=query.get("deployment", ""),
            since=since or 0.0,
            limit=core.read_page(query).size,
        )
        reply = await self._backend.ask(asked, DecisionsReply)
        return answer(page([arm_autoscale.decision_resource(each) for each in reply.decisions]))

    async def simulate(self, call: Call) -> web.StreamResponse:
        query = arm_autoscale.simulation(call.workspace, await call.json())
        reply = await self._backend.ask(query, SimulationReply)
        return answer(arm_autoscale.simulation_resource(reply))

    def routes(self) -> tuple[Route[Handle], ...]:
        paged = ("$skip", "$top", "count", "workspace")
        return (
            Route(
                "GET",
                _LIST,
                self.list_all,
                "List autoscale settings",
                query=paged,
                reply=list_of(_SETTING),
                action=Action.ANY,
            ),
            Route(
                "GET",
                f"{_SUBSCRIPTION}{_TAIL}",
                self.list_all,
                "List autoscale settings, whatever their resource group",
                query=paged,
                reply=list_of(_SETTING),
                action=Action.ANY,
            ),
            Route(
                "GET",
                _ONE,
                self.get,
                "Read an autoscale setting",
                query=("workspace",),
                reply=_SETTING,
                tagged=True,
                action=Action.ANY,
            ),
            Route(
                "PUT",
                _ONE,
                self.put,
                "Create or replace an autoscale setting",
                query=("workspace",),
                body=_BODY,
                reply=_SETTING,
                tagged=True,
                conditional=True,
                answers={200: "updated", 201: "created"},
                action=Action.ANY,
            ),
            Route(
                "PATCH",
                _ONE,
                self.patch,
                "Change tags or properties of an autoscale setting",
                query=("workspace",),
                body=arm_schema.only(_BODY, _PATCHABLE),
                reply=_SETTING,
                tagged=True,
                conditional=True,
                action=Action.ANY,
            ),
            Route(
                "DELETE",
                _ONE,
                self.delete,
                "Delete an autoscale setting",
                query=("workspace",),
                conditional=True,
                answers=REMOVALS,
                action=Action.ANY,
            ),
            Route(
                "GET",
                f"{WORKSPACE}/autoscaleDecisions",
                self.decisions,
                "List what was decided about the number of instances, newest first",
                query=("endpoint", "deployment", "since", "$top", "count"),
                reply=list_of(_DECISION),
            ),
            Route(
                "POST",
                f"{WORKSPACE}/autoscaleSimulations",
                self.simulate,
                "Tell what a setting would make of a load; nothing is changed",
                body=_TRIED,
                reply={"type": "object"},
                action=Action.READ,
            ),
        )


def _described(call: Call, setting: AutoscaleSetting) -> Json:
    context = Context(
        workspace=setting.workspace,
        subscription=call.params["subscription"],
        resource_group=call.params.get("resourceGroup", "local"),
    )
    return arm_autoscale.setting_resource(setting, context)
