"""What handlers work with: the services behind the bus, and the answers common to resources."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from aiohttp import web

from headgate.azure.arm_fields import Json, Shape
from headgate.azure.arm_resources import instance_resource, page
from headgate.gateway import core, traffic_core
from headgate.gateway.authentication import CALLER, REQUEST
from headgate.gateway.cursors import Position, place_of
from headgate.gateway.http import Call, answer
from headgate.runtime import tokens
from headgate.runtime.bus import Bus
from headgate.runtime.clock import Clock
from headgate.runtime.store import Store
from headgate.runtime.trust import TrustFollower
from headgate_contracts import limits
from headgate_contracts.envelope import Command, Query, Reply
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.provisioning import InstancesReply, ListInstances
from headgate_contracts.registry import (
    DeploymentReply,
    EndpointReply,
    EndpointsReply,
    GetDeployment,
    GetEndpoint,
    ListEndpoints,
)
from headgate_contracts.resources import Deployment, Endpoint, Operation, OperationStatus, Resource
from headgate_contracts.routing import GetTraffic, TrafficReply

T = TypeVar("T", bound=Reply)
R = TypeVar("R", bound=Resource)

OPERATION_TIMEOUT = "PT1H"
POLL_AFTER_S = 1


@dataclass
class Backend:
    """The gateway's side of the bus and of the object store."""

    bus: Bus
    clock: Clock
    store: Store
    trust: TrustFollower
    routers: Callable[[], int] = lambda: 0
    """How many there are, as far as they have told lately; 0: not known."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, request: Command | Query, reply: type[T], shape: Shape | None = None) -> T:
        """Ask a service. With ``shape``, the field an error is about gets its JSON pointer.

        A command says who gave it: whoever is being served.
        """
        about = {"cause": REQUEST.get()}
        if isinstance(request, Command):
            about["by"] = CALLER.get()
        request = request.model_copy(update=about)
        try:
            return await self.bus.ask(request, reply)
        except HeadgateError as error:
            wire = error.error
            pointer = shape.locate(wire.target.split(".")) if shape and wire.target else None
            if pointer is None:
                raise
            raise HeadgateError.of(wire.model_copy(update={"target": pointer})) from None

    async def endpoints(self, workspace: str) -> list[Endpoint]:
        """All endpoints of a workspace, in the order of their names."""

        async def part(after: str, limit: int) -> tuple[Sequence[Endpoint], str]:
            query = ListEndpoints(workspace=workspace, after=after, limit=limit)
            reply = await self.ask(query, EndpointsReply)
            return reply.endpoints, reply.after

        return await all_of(part)

    async def endpoint(self, call: Call) -> Endpoint:
        """The endpoint named in the path, if it is of this workspace."""
        query = GetEndpoint(workspace=call.workspace, name=call.params["endpoint"])
        return (await self.ask(query, EndpointReply)).endpoint

    async def deployment(self, call: Call) -> Deployment:
        """The deployment named in the path, if it is of this workspace."""
        query = GetDeployment(
            workspace=call.workspace,
            endpoint=call.params["endpoint"],
            name=call.params["deployment"],
        )
        return (await self.ask(query, DeploymentReply)).deployment

    async def instances(self, endpoint: str, deployment: str = "") -> list[Json]:
        """What runs, from the provisioner, and what of it routers leave out."""
        query = ListInstances(endpoint=endpoint, deployment=deployment)
        reply, traffic = await asyncio.gather(
            self.ask(query, InstancesReply),
            self.traffic(endpoint),
        )
        out: dict[tuple[str, str], float] = {}
        for name, part in traffic_core.summed(traffic).items():
            for lane, seconds in part.quarantined.items():
                place = (name, lane.partition("-")[0])
                out[place] = max(seconds, out.get(place, 0.0))
        return [
            instance_resource(item, out.get((item.deployment, item.id))) for item in reply.instances
        ]

    async def traffic(self, endpoint: str) -> list[TrafficReply]:
        """What each router has to tell of an endpoint."""
        query = GetTraffic(endpoint=endpoint)
        return await self.bus.ask_all(query, TrafficReply, enough=self.routers())

    @property
    def tenant_id(self) -> str:
        """The directory that everybody is in, for clients that want one."""
        return tokens.installation_id(self.trust.trust)

    def principal_id(self, endpoint: Endpoint) -> str:
        """Who the system-assigned identity of an endpoint is; empty before that can be known."""
        if not self.tenant_id:
            return ""
        place = ("system", endpoint.workspace, endpoint.spec.name)
        return tokens.identity_uuids(self.tenant_id, *place)[0]

    async def closes_within(self, wait_s: float) -> bool:
        """Wait that long; True at once when the gateway is about to stop."""
        try:
            async with asyncio.timeout(wait_s):
                await self.closing.wait()
        except TimeoutError:
            return False
        return True


async def all_of(part: Callable[[str, int], Awaitable[tuple[Sequence[R], str]]]) -> list[R]:
    """Everything that a service lists in parts; ``part`` takes cursor and size, as queries do."""
    found: list[R] = []
    after, limit = "", limits.PAGE_SIZE_DEFAULT
    while True:
        try:
            items, after = await part(after, limit)
        except HeadgateError as error:
            # Descriptions and tags may be long: so many do not fit one message.
            if error.error.code is not ErrorCode.QUOTA_EXCEEDED or limit == 1:
                raise
            limit //= 2
            continue
        found += items
        if not after:
            return found


async def require_existing(found: Callable[[Call], Awaitable[Resource]], call: Call) -> None:
    """``If-Match`` on something that is not there fails its condition, as HTTP wants it."""
    try:
        await found(call)
    except HeadgateError as error:
        if error.error.code is not ErrorCode.RESOURCE_NOT_FOUND:
            raise
        raise HeadgateError(
            ErrorCode.REVISION_MISMATCH, "If-Match was given, but there is no such resource"
        ) from None


async def deletion_revision(found: Callable[[Call], Awaitable[Resource]], call: Call) -> int | None:
    """The revision that alone may be deleted; None for any."""
    if call.condition.must_exist and call.condition.if_revision is None:
        await require_existing(found, call)
    return call.condition.if_revision


def operation_url(call: Call, operation: Operation | None) -> str:
    return "" if operation is None else call.url(call.context.operation_id(operation.id))


def resource_answer(
    call: Call,
    body: Json,
    revision: int,
    *,
    created: bool = False,
    operation: Operation | None = None,
) -> web.Response:
    """A resource with its ETag and, when it is being worked on, where to ask how that goes."""
    response = answer(body, 201 if created else 200, ETag=core.etag(revision))
    if operation is not None:
        add_operation_headers(call, response, operation)
    return response


def add_operation_headers(call: Call, response: web.Response, operation: Operation) -> None:
    """Azure's long-running pattern."""
    response.headers["Azure-AsyncOperation"] = operation_url(call, operation)
    response.headers["Location"] = call.url(call.context.operation_result_id(operation.id))
    response.headers["Retry-After"] = str(retry_after_s(operation))
    response.headers["x-ms-async-operation-timeout"] = OPERATION_TIMEOUT


def retry_after_s(operation: Operation) -> int:
    return POLL_AFTER_S if operation.status is OperationStatus.IN_PROGRESS else 0


def deletion_answer(call: Call, operation: Operation | None) -> web.Response:
    """202 with the operation, or 204 when there was nothing to delete."""
    if operation is None:
        return web.Response(status=204)
    return accepted(call, operation)


def accepted(call: Call, operation: Operation | None) -> web.Response:
    """202 with the operation that was begun."""
    response = web.Response(status=202)
    if operation is not None:
        add_operation_headers(call, response, operation)
    return response


def read_page(call: Call) -> core.Page:
    """Which part of a list is wanted: by number, or by the cursor of the page before."""
    text = call.query.get("$skip", "")
    if not text or text.lstrip("-").isdigit():
        return core.read_page(call.query)
    position = call.cursors.read(place_of(call.request.path, call.query), text)
    sized = core.read_page({key: value for key, value in call.query.items() if key != "$skip"})
    return replace(sized, skip=position.skip, after=position.after)


def list_answer(call: Call, resources: list[R], describe: Callable[[R], Json]) -> web.Response:
    """One page of a list that is known as a whole, ordered and cut as the query says."""
    items, next_skip = read_page(call).cut(core.ordered(resources, call.query))
    following = None if next_skip is None else Position(skip=next_skip)
    return page_answer(call, [describe(item) for item in items], following)


def page_answer(call: Call, items: list[Json], following: Position | None) -> web.Response:
    """One page, with the address of the next if there is one."""
    link = ""
    if following is not None:
        cursor = call.cursors.sign(place_of(call.request.path, call.query), following)
        link = call.url(call.request.path, **{**call.query, "$skip": cursor})
    return answer(page(items, link))
