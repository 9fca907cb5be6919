"""Answers instances that ask for a token of their managed identity.

Who asks is known from the subject: the bus lets an instance speak on its own subject only. What it
may have follows from its endpoint, as the registry knows it at this moment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from headgate.identity import core, state
from headgate.identity.signer import Signer
from headgate.runtime.bus import Bus, Msg
from headgate.runtime.clock import new_id
from headgate.runtime.log import Log
from headgate.runtime.tables import Database
from headgate_contracts import identity, limits, registry, subjects
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import Endpoint, Identity, ProvisioningState

REQUEST_BYTES_MAX = 8 * 1024
QUEUE = "identity"
ANY = ""  # the registry takes it as: in whichever workspace


class Instances:
    """Hears all instances; one process of this service answers each question."""

    def __init__(self, bus: Bus, database: Database, signer: Signer) -> None:
        self._bus = bus
        self._database = database
        self._signer = signer
        self._log = Log(bus.service)

    async def start(self) -> None:
        await self._bus.subscribe(subjects.IDENTITY_ALL, self._hear, queue=QUEUE)

    async def _hear(self, message: Msg) -> None:
        if not message.reply:
            return
        try:
            answer = await self._answer(message)
        except HeadgateError as error:
            said = {"code": error.error.code.value, "message": error.error.message}
            answer = {"error": said}
        except Exception:
            self._log.exception("identity_request_failed", subject=message.subject)
            said = {"code": ErrorCode.INTERNAL.value, "message": "the identity service failed"}
            answer = {"error": said}
        await self._bus.respond(message, json.dumps(answer).encode())

    async def _answer(self, message: Msg) -> dict[str, Any]:
        endpoint_name, deployment_name, instance = message.subject.split(".")[-3:]
        wanted = _read(message.data)
        audience = core.audience_of(wanted.get("resource", ""))
        if audience is None:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"resource is one of {', '.join(identity.AUDIENCES)}",
                target="resource",
            )
        endpoint = await self._endpoint(endpoint_name, deployment_name)
        chosen = core.chosen(wanted, *await self._identities(endpoint))
        if chosen is None:
            raise HeadgateError(
                ErrorCode.RESOURCE_NOT_FOUND,
                f"the endpoint {endpoint_name!r} has no identity of that id",
                target="client_id",
            )
        lifetime_s = limits.SHORT_TOKEN_LIFETIME_S_DEFAULT
        token, expires_at = self._signer.sign(
            subject=core.subject_of(chosen),
            name=f"{endpoint_name}/{deployment_name}/{instance}",
            audiences=(audience,),
            grants=chosen.grants,
            token_id=new_id(),
            lifetime_s=lifetime_s,
        )
        return {
            "access_token": token,
            "expires_on": int(expires_at),
            "resource": audience,
            "client_id": chosen.client_id,
            "token_type": "Bearer",
        }

    async def _endpoint(self, name: str, deployment: str) -> Endpoint:
        """The asker's endpoint; refused when its deployment is on its way out."""
        query = registry.GetDeployment(workspace=ANY, endpoint=name, name=deployment)
        found = (await self._bus.ask(query, registry.DeploymentReply)).deployment
        if found.provisioning_state is ProvisioningState.DELETING:
            raise HeadgateError(
                ErrorCode.FORBIDDEN, f"the deployment {deployment!r} is being deleted"
            )
        asked = registry.GetEndpoint(workspace=ANY, name=name)
        return (await self._bus.ask(asked, registry.EndpointReply)).endpoint

    async def _identities(
        self, endpoint: Endpoint
    ) -> tuple[identity.ManagedIdentity | None, list[identity.ManagedIdentity]]:
        """The system-assigned identity, and the named ones that the endpoint lists."""
        setting = endpoint.spec.identity or Identity()
        workspace, name = endpoint.workspace, endpoint.spec.name
        async with self._database.reading() as session:
            stored = await state.managed(session, workspace, "system", name)
            everyone = await state.all_managed(session, workspace)
        installation = self._signer.installation
        system = None
        if setting.type == "system_assigned":
            system = core.managed(installation, workspace, name, "system", stored)
        listed = {_short(item) for item in setting.user_assigned_identities}
        named = [
            core.managed(installation, workspace, each.name, each.kind, each)
            for each in everyone
            if each.kind == "user" and each.name in listed
        ]
        return system, [each for each in named if each is not None]


def _short(item: Mapping[str, str] | str) -> str:
    """The name at the end of a resource id, which clients write in several ways."""
    text = item if isinstance(item, str) else item.get("resource_id", "")
    return text.rstrip("/").rpartition("/")[2].lower()


def _read(data: bytes) -> dict[str, str]:
    try:
        value = json.loads(data) if len(data) <= REQUEST_BYTES_MAX else None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise HeadgateError(ErrorCode.INVALID_MESSAGE, "the request is no small JSON object")
    return {str(key): text for key, text in value.items() if isinstance(text, str)}
