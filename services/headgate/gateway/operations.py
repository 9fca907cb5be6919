"""Routes of long-running operations."""

from __future__ import annotations

from aiohttp import web

from headgate.azure import arm_answers
from headgate.azure.arm_resources import operation_resource
from headgate.gateway.backend import Backend, add_operation_headers, retry_after_s
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.routes import WORKSPACE, Route
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.registry import GetOperation, OperationReply
from headgate_contracts.resources import Operation, OperationStatus

_PLACE = f"{WORKSPACE}/locations/{{location}}"


class Operations:
    """Handlers of operations."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def _find(self, call: Call) -> Operation:
        query = GetOperation(workspace=call.workspace, operation_id=call.params["operation"])
        found = (await self._backend.ask(query, OperationReply)).operation
        if found is None:
            raise HeadgateError(ErrorCode.RESOURCE_NOT_FOUND, "there is no such operation")
        return found

    async def status(self, call: Call) -> web.StreamResponse:
        """How the operation goes: what ``Azure-AsyncOperation`` points to."""
        found = await self._find(call)
        wait_s = str(retry_after_s(found))
        return answer(operation_resource(found, call.context), Retry_After=wait_s)

    async def result(self, call: Call) -> web.StreamResponse:
        """202 until it has ended: what ``Location`` points to."""
        found = await self._find(call)
        if found.status is OperationStatus.IN_PROGRESS:
            response = web.Response(status=202)
            add_operation_headers(call, response, found)
            return response
        if found.error is not None:
            raise HeadgateError.of(found.error)
        return web.Response(status=204)

    def routes(self) -> tuple[Route[Handle], ...]:
        return (
            Route(
                "GET",
                f"{_PLACE}/mfeOperationsStatus/{{operation}}",
                self.status,
                "Tell how a long-running operation goes",
                reply=arm_answers.OPERATION,
            ),
            Route(
                "GET",
                f"{_PLACE}/mfeOperationResults/{{operation}}",
                self.result,
                "Tell whether a long-running operation has ended",
                answers={202: "still at work", 204: "succeeded"},
                refusals=(409,),
            ),
        )
