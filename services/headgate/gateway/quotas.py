"""Routes of quotas: what is allowed, and how much of it is used."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from headgate.azure import arm_schema
from headgate.azure.arm_answers import TEXT, TIME, list_of, or_null, plain
from headgate.azure.arm_fields import SECONDS, Json, Problems, Shape, checked, choice
from headgate.azure.arm_fields import Field as Row
from headgate.azure.arm_ids import PROVIDER
from headgate.azure.arm_resources import page, timestamp
from headgate.gateway.access import Action
from headgate.gateway.backend import Backend
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.live_core import LiveLoad
from headgate.gateway.routes import WORKSPACE, Route
from headgate.gateway.things import REMOVALS, answer_removal
from headgate_contracts import limits
from headgate_contracts.envelope import Value
from headgate_contracts.errors import HeadgateError
from headgate_contracts.quotas import (
    EACH,
    RESOURCES,
    DeleteQuota,
    GetQuotaUse,
    ListQuotas,
    PutQuota,
    Quota,
    QuotaKind,
    QuotasReply,
    QuotaUse,
    QuotaUseReply,
)

_QUOTAS = f"{WORKSPACE}/quotas"
_QUOTA = f"{_QUOTAS}/{{name}}"
_USES_SHOWN = 100


# A name, * for each, or nothing for all together.
_Place = Annotated[
    str, Field(pattern=rf"^\*?$|{limits.NAME_PATTERN}", max_length=limits.NAME_CHARS_MAX)
]


class QuotaBody(Value):
    """A quota without its name and workspace, which the path says."""

    kind: QuotaKind
    limit: float = Field(ge=0, le=limits.QUOTA_LIMIT_MAX)
    endpoint: _Place = ""
    deployment: _Place = ""
    caller: str = Field("", max_length=limits.CALLER_CHARS_MAX)
    window_s: int = Field(0, ge=0, le=limits.QUOTA_WINDOW_S_MAX)


def _camel(word: str) -> str:
    return re.sub(r"_(.)", lambda match: match[1].upper(), word)


_KINDS = {each.value: _camel(each.value) for each in QuotaKind}
_PROPERTIES = Shape(
    Row("kind", "kind", choice(_KINDS)),
    Row("limit", "limit"),
    Row("endpoint", "endpoint"),
    Row("deployment", "deployment"),
    Row("caller", "caller"),
    Row("window", "window_s", SECONDS),
    ignored=("used", "freesAt", "uses"),
)
_BODY = Shape(Row("properties", "", _PROPERTIES), ignored=("id", "name", "type"))
_AMOUNT: Json = {"type": "number", "minimum": 0}
_USE = plain(
    "QuotaUse",
    endpoint=TEXT,
    deployment=TEXT,
    caller=TEXT,
    used=_AMOUNT,
    freesAt=or_null(TIME),
)
_RESOURCE = plain(
    "Quota",
    id=TEXT,
    name=TEXT,
    type=TEXT,
    properties=plain(
        "QuotaProperties",
        optional=("window",),
        kind={"type": "string", "enum": list(_KINDS.values())},
        limit=_AMOUNT,
        endpoint=TEXT,
        deployment=TEXT,
        caller=TEXT,
        window={"type": "string", "format": "duration"},
        used=or_null(_AMOUNT),
        freesAt=or_null(TIME),
        uses=or_null({"type": "array", "items": _USE}),
    ),
)


class Quotas:
    """Handlers of quotas."""

    def __init__(self, backend: Backend, loads: LiveLoad) -> None:
        self._backend = backend
        self._loads = loads

    async def list_all(self, call: Call) -> web.StreamResponse:
        query = ListQuotas(workspace=call.workspace)
        return answer(page(await self._described(call, query)))

    async def get(self, call: Call) -> web.StreamResponse:
        query = ListQuotas(workspace=call.workspace, name=call.params["name"])
        (found,) = await self._described(call, query)
        return answer(found)

    async def put(self, call: Call) -> web.StreamResponse:
        problems = Problems()
        values = _BODY.load(await call.json(), problems)
        given = checked(QuotaBody, values, _BODY, problems)
        about = {"workspace": call.workspace, "name": call.params["name"]}
        quota = checked(Quota, about | given.model_dump(mode="json"), _BODY, problems)
        await self._backend.ask(PutQuota(quota=quota), QuotasReply, _BODY)
        return await self.get(call)

    async def delete(self, call: Call) -> web.StreamResponse:
        command = DeleteQuota(workspace=call.workspace, name=call.params["name"])
        return await answer_removal(self._backend, command)

    async def _described(self, call: Call, query: ListQuotas) -> list[Json]:
        """Quotas as resources. What nobody can tell now of their use is null."""
        reply = await self._backend.ask(query, QuotasReply)
        uses: dict[str, list[QuotaUse] | None] = {
            quota.name: [use for use in reply.uses if use.quota == quota.name]
            if quota.kind in RESOURCES
            else self._rates(quota)
            for quota in reply.quotas
        }
        uses |= await self._counts([quota for quota in reply.quotas if quota.window_s])
        return [_resource(quota, uses[quota.name], call) for quota in reply.quotas]

    async def _counts(self, quotas: list[Quota]) -> dict[str, list[QuotaUse] | None]:
        """What the ledger has counted; it is a few seconds behind."""
        found: dict[str, list[QuotaUse] | None] = {quota.name: [] for quota in quotas}
        if not quotas:
            return found
        try:
            reply = await self._backend.ask(GetQuotaUse(quotas=tuple(quotas)), QuotaUseReply)
        except HeadgateError:
            return dict.fromkeys(found)
        for use in reply.uses:
            kept = found[use.quota]
            if kept is not None:
                kept.append(use)
        return found

    def _rates(self, quota: Quota) -> list[QuotaUse] | None:
        """What goes on at this moment; connections are not told by endpoint."""
        measure = _MEASURES.get(quota.kind)
        if measure is None:
            return None
        sums: dict[str, float] = {}
        for row in self._loads.rows(quota.workspace, self._backend.clock.monotonic()):
            if quota.endpoint in (EACH, row.endpoint):
                sums[row.endpoint] = sums.get(row.endpoint, 0.0) + measure(row)
        about = {"workspace": quota.workspace, "quota": quota.name}
        return [
            QuotaUse(**about, endpoint=endpoint, used=round(used, 2))
            for endpoint, used in sums.items()
        ]

    def routes(self) -> tuple[Route[Handle], ...]:
        return (
            Route("GET", _QUOTAS, self.list_all, "List quotas", reply=list_of(_RESOURCE)),
            Route("GET", _QUOTA, self.get, "Read a quota and its use", reply=_RESOURCE),
            Route(
                "PUT",
                _QUOTA,
                self.put,
                "Create or replace a quota",
                body=arm_schema.describe(_BODY, QuotaBody),
                reply=_RESOURCE,
                action=Action.LIMIT,
            ),
            Route(
                "DELETE",
                _QUOTA,
                self.delete,
                "Delete a quota",
                answers=REMOVALS,
            ),
        )


_MEASURES: dict[QuotaKind, Callable[[Any], float]] = {
    QuotaKind.REQUESTS_PER_SECOND: lambda row: row.requests_per_s,
    QuotaKind.BYTES_PER_SECOND: lambda row: row.request_bytes_per_s + row.response_bytes_per_s,
}


def _resource(quota: Quota, uses: Iterable[QuotaUse] | None, call: Call) -> Json:
    shown = None
    if uses is not None:
        most = sorted(uses, key=lambda use: -use.used)[:_USES_SHOWN]
        shown = [_use(quota, use) for use in most]
    first = shown[0] if shown else {"used": None if shown is None else 0.0, "freesAt": None}
    fields = {**quota.model_dump(mode="json"), "window_s": quota.window_s or None}
    return {
        "id": f"{call.context.workspace_id}/quotas/{quota.name}",
        "name": quota.name,
        "type": f"{PROVIDER}/workspaces/quotas",
        "properties": {
            **_PROPERTIES.dump(fields),
            "used": first["used"],
            "freesAt": first["freesAt"],
            "uses": shown,
        },
    }


def _use(quota: Quota, use: QuotaUse) -> Json:
    return {
        "endpoint": use.endpoint,
        "deployment": use.deployment,
        "caller": use.caller,
        "used": use.used,
        "freesAt": timestamp(use.since + quota.window_s) if quota.window_s else None,
    }
