"""Routes of refreshes: environments made anew, and the deployments that are rolled for it."""

from __future__ import annotations

from aiohttp import web
from pydantic import Field

from headgate.azure import arm_schema
from headgate.azure.arm_answers import ERROR, TEXT, or_null, plain
from headgate.azure.arm_fields import Field as Row
from headgate.azure.arm_fields import Json, Problems, Shape, checked
from headgate.azure.arm_resources import error_body
from headgate.gateway.access import Action
from headgate.gateway.backend import POLL_AFTER_S, Backend
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.routes import WORKSPACE, Route
from headgate_contracts.envelope import Value
from headgate_contracts.errors import WireError
from headgate_contracts.refreshing import (
    EnvironmentLook,
    GetRefresh,
    LookState,
    Refresh,
    RefreshEnvironments,
    RefreshReply,
    Roll,
    RollState,
)

_ALL = f"{WORKSPACE}/environmentRefreshes"
_ONE = f"{_ALL}/{{refresh}}"
_LINES: Json = {"type": "array", "items": TEXT}
_TIME: Json = {"type": "number", "description": "Unix time in seconds"}
_FAULT = ERROR["properties"]["error"]
_ROLL = plain(
    "EnvironmentRefreshDeployment",
    optional=("error",),
    endpoint=TEXT,
    deployment=TEXT,
    state={"type": "string", "enum": [state.value for state in RollState]},
    error=_FAULT,
)
_LOOK = plain(
    "EnvironmentRefreshLook",
    optional=("error",),
    name=TEXT,
    version=TEXT,
    build=TEXT,
    state={"type": "string", "enum": [state.value for state in LookState]},
    changes=_LINES,
    unknown=_LINES,
    error=_FAULT,
    deployments={"type": "array", "items": _ROLL},
)
_REFRESH = plain(
    "EnvironmentRefresh",
    id=TEXT,
    dryRun={"type": "boolean"},
    startedAt=_TIME,
    endedAt=or_null(_TIME),
    environments={"type": "array", "items": _LOOK},
)


class RefreshRequest(Value):
    """What is to be refreshed: all environments, all versions of one, or one version."""

    name: str = Field("", max_length=255)
    version: str = Field("", max_length=64)
    dry_run: bool = False


_REQUEST = Shape(Row("name", "name"), Row("version", "version"), Row("dryRun", "dry_run"))


class Refreshes:
    """Handlers of refreshes."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def begin(self, call: Call) -> web.StreamResponse:
        problems = Problems()
        values = _REQUEST.load(await call.json(optional=True), problems)
        wanted = checked(RefreshRequest, values, _REQUEST, problems)
        command = RefreshEnvironments(workspace=call.workspace, **wanted.model_dump())
        found = (await self._backend.ask(command, RefreshReply)).refresh
        response = answer(_resource(found), 202)
        response.headers["Location"] = call.url(f"{call.request.path}/{found.id}")
        response.headers["Retry-After"] = str(POLL_AFTER_S)
        return response

    async def get(self, call: Call) -> web.StreamResponse:
        query = GetRefresh(workspace=call.workspace, refresh_id=call.params["refresh"])
        return answer(_resource((await self._backend.ask(query, RefreshReply)).refresh))

    def routes(self) -> tuple[Route[Handle], ...]:
        return (
            Route(
                "POST",
                _ALL,
                self.begin,
                "Look for newer base images and packages, and roll the deployments that use them",
                body=arm_schema.describe(_REQUEST, RefreshRequest),
                body_optional=True,
                reply=_REFRESH,
                answers={202: "begun"},
                action=Action.WRITE,
            ),
            Route("GET", _ONE, self.get, "Tell how far a refresh has come", reply=_REFRESH),
        )


def _resource(refresh: Refresh) -> Json:
    return {
        "id": refresh.id,
        "dryRun": refresh.dry_run,
        "startedAt": refresh.started_at,
        "endedAt": refresh.ended_at,
        "environments": [_look(each) for each in refresh.environments],
    }


def _look(look: EnvironmentLook) -> Json:
    return {
        "name": look.name,
        "version": look.version,
        "build": look.build,
        "state": look.state.value,
        "changes": list(look.changes),
        "unknown": list(look.unknown),
        **_fault(look.error),
        "deployments": [_roll(each) for each in look.deployments],
    }


def _roll(roll: Roll) -> Json:
    return {
        "endpoint": roll.endpoint,
        "deployment": roll.deployment,
        "state": roll.state.value,
        **_fault(roll.error),
    }


def _fault(error: WireError | None) -> Json:
    return {} if error is None else {"error": error_body(error)["error"]}
