"""What all deployments of a workspace do at this moment, in one answer: for pages and ``top``."""

from __future__ import annotations

from aiohttp import web
from pydantic import ValidationError

from headgate.azure.arm_answers import COUNT, TEXT, or_null, plain
from headgate.azure.arm_fields import Json
from headgate.gateway.backend import Backend
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.live_core import LiveLoad, LiveRow
from headgate.gateway.routes import WORKSPACE, Route
from headgate.runtime.bus import Msg
from headgate.runtime.log import Log
from headgate_contracts import subjects
from headgate_contracts.load import LoadReported

_AMOUNT: Json = {"type": "number", "minimum": 0}
_ROW = plain(
    "LiveDeployment",
    endpoint=TEXT,
    deployment=TEXT,
    requestsPerSecond=_AMOUNT,
    failuresPerSecond=_AMOUNT,
    mirroredPerSecond=_AMOUNT,
    requestBytesPerSecond=_AMOUNT,
    responseBytesPerSecond=_AMOUNT,
    p50Ms=or_null(_AMOUNT),
    p95Ms=or_null(_AMOUNT),
    p99Ms=or_null(_AMOUNT),
    inFlight=COUNT,
    waiting=COUNT,
    held=COUNT,
    readyInstances=COUNT,
    slots=COUNT,
)
_ROWS = plain(value={"type": "array", "items": _ROW})

_log = Log("gateway")


class Live:
    """Hears the load reports of the routers and serves the last few seconds of them."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.loads = LiveLoad()

    async def start(self) -> None:
        await self._backend.bus.subscribe(subjects.LOAD_ALL, self._hear)
        self._backend.routers = lambda: self.loads.routers(self._backend.clock.monotonic())

    async def _hear(self, message: Msg) -> None:
        try:
            said = LoadReported.model_validate_json(message.data)
        except ValidationError as error:
            _log.warning("bad_load_report", subject=message.subject, error=str(error)[:200])
            return
        self.loads.hear(said, self._backend.clock.monotonic())

    async def read(self, call: Call) -> web.StreamResponse:
        rows = self.loads.rows(call.workspace, self._backend.clock.monotonic())
        return answer({"value": [_body(row) for row in rows]})

    def routes(self) -> tuple[Route[Handle], ...]:
        return (
            Route(
                "GET",
                f"{WORKSPACE}/live",
                self.read,
                "What deployments do at this moment, over the last seconds",
                reply=_ROWS,
            ),
        )


def _body(row: LiveRow) -> Json:
    return {
        "endpoint": row.endpoint,
        "deployment": row.deployment,
        "requestsPerSecond": round(row.requests_per_s, 2),
        "failuresPerSecond": round(row.failures_per_s, 2),
        "mirroredPerSecond": round(row.mirrored_per_s, 2),
        "requestBytesPerSecond": round(row.request_bytes_per_s),
        "responseBytesPerSecond": round(row.response_bytes_per_s),
        "p50Ms": _rounded(row.quantile_ms(0.50)),
        "p95Ms": _rounded(row.quantile_ms(0.95)),
        "p99Ms": _rounded(row.quantile_ms(0.99)),
        "inFlight": row.in_flight,
        "waiting": row.waiting,
        "held": row.held,
        "readyInstances": row.ready_instances,
        "slots": row.slots,
    }


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 3)
