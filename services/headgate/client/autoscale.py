"""The client's calls about autoscale settings and decisions."""

from __future__ import annotations

from headgate.azure import arm_autoscale
from headgate.azure.arm_fields import Json
from headgate.client.api import Client, Found
from headgate.client.http import API_VERSION, Answer, not_understood
from headgate_contracts import limits
from headgate_contracts.autoscale import AutoscaleSpec
from headgate_contracts.errors import ErrorCode, HeadgateError


class Autoscale:
    """Settings of the client's workspace. Methods raise HeadgateError."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._context = client.context

    async def put(self, spec: AutoscaleSpec, etag: str = "") -> Found[AutoscaleSpec]:
        """Create or replace; with ``etag`` only that version, with ``*`` as one nothing at all."""
        headers = {"If-None-Match": "*"} if etag == "*" else {"If-Match": etag} if etag else {}
        body = arm_autoscale.setting_body(spec, self._context)
        return self._found(await self._send("PUT", spec.name, body=body, headers=headers))

    async def get(self, name: str) -> Found[AutoscaleSpec]:
        return self._found(await self._send("GET", name))

    async def list_all(self) -> list[Found[AutoscaleSpec]]:
        answer = await self._send("GET", "", count=str(limits.PAGE_SIZE_MAX))
        return [self._found(Answer(200, {}, item)) for item in _items(answer)]

    async def of(self, endpoint: str, deployment: str) -> Found[AutoscaleSpec]:
        """The setting of a deployment."""
        for found in await self.list_all():
            if (found.spec.endpoint, found.spec.deployment) == (endpoint, deployment):
                return await self.get(found.spec.name)
        raise HeadgateError(
            ErrorCode.RESOURCE_NOT_FOUND,
            f"the deployment {deployment!r} of {endpoint!r} has no autoscale setting; make one "
            "with 'headgate autoscale create'",
        )

    async def delete(self, name: str) -> bool:
        """Whether there was one."""
        return (await self._send("DELETE", name)).is_removal

    async def decisions(self, endpoint: str, deployment: str, since: str, limit: int) -> list[Json]:
        """Newest first."""
        query = {"endpoint": endpoint, "deployment": deployment, "since": since}
        answer = await self._client.http.send(
            "GET",
            f"{self._context.workspace_id}/autoscaleDecisions",
            query={
                "api-version": API_VERSION,
                "$top": str(limit),
                **{name: text for name, text in query.items() if text},
            },
        )
        return _items(answer)

    async def simulate(self, spec: AutoscaleSpec, trial: Json) -> Json:
        """What a setting would make of ``trial``: load, durationS, startsAt, serviceS, startupS."""
        setting = {"name": spec.name, **arm_autoscale.setting_body(spec, self._context)}
        answer = await self._client.http.send(
            "POST",
            f"{self._context.workspace_id}/autoscaleSimulations",
            query={"api-version": API_VERSION},
            body={"setting": setting, **trial},
            repeatable=True,
        )
        return answer.object

    async def _send(
        self,
        method: str,
        name: str,
        *,
        body: Json | None = None,
        headers: dict[str, str] | None = None,
        **query: str,
    ) -> Answer:
        return await self._client.http.send(
            method,
            arm_autoscale.setting_id(self._context, name).rstrip("/"),
            query={"api-version": API_VERSION, "workspace": self._context.workspace, **query},
            body=body,
            headers=headers or {},
        )

    def _found(self, answer: Answer) -> Found[AutoscaleSpec]:
        body = answer.object
        try:
            _, spec = arm_autoscale.setting_spec(str(body.get("name", "")), body)
        except HeadgateError:
            raise not_understood() from None
        return Found(spec, body, answer.headers.get("ETag", ""))


def _items(answer: Answer) -> list[Json]:
    items = answer.object.get("value")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise not_understood()
    return items
