"""The HTTP edge: routing, authentication, bodies, errors. Knows no resource.

Every request passes :meth:`Edge.serve`: credential first, then the route, then the right to it,
then the body.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, quote

from aiohttp import ClientPayloadError, web

from headgate.azure.arm_fields import Json, pointer
from headgate.azure.arm_ids import Context
from headgate.azure.arm_resources import error_body
from headgate.gateway import access, bodies, core, parameters
from headgate.gateway.access import NOBODY, Action
from headgate.gateway.audit import Tell, audited
from headgate.gateway.authentication import CALLER, REQUEST, Authenticator
from headgate.gateway.cursors import Cursors
from headgate.gateway.idempotency import Repeater
from headgate.gateway.routes import Match, RouteTable
from headgate.gateway.storage_core import is_storage
from headgate.gateway.studio import is_studio, wants_page
from headgate.runtime import tracing
from headgate.runtime.clock import Clock, new_id
from headgate.runtime.log import Log
from headgate.runtime.tokens import Principal
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError, WireError, http_status_of

CLIENT_REQUEST_ID = "x-ms-client-request-id"
BODY_ARRIVAL_S = 30.0

_HOST = re.compile(r"[A-Za-z0-9.\-_]{1,253}(:\d{1,5})?\Z|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?\Z")
_ID = re.compile(rf"[!-~]{{1,{limits.CLIENT_REQUEST_ID_CHARS_MAX}}}\Z")
_SCOPE = re.compile(r"[A-Za-z0-9._()-]{1,90}\Z")
_JSON_TYPES = ("application/json", "application/merge-patch+json")
_FORM_TYPE = "application/x-www-form-urlencoded"
_FORM_FIELDS_MAX = 20
_NO_PAGE = "default-src 'none'; frame-ancestors 'none'; sandbox"
_HSTS = f"max-age={365 * 86_400}"


Handle = Callable[["Call"], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Call:
    """One authenticated request on its route."""

    request: web.BaseRequest
    match: Match[Handle]
    id: str
    scoring_url: str
    cursors: Cursors
    principal: Principal = NOBODY
    address: str = ""
    """Where the request came from; of what the studio sends, who it is sent for."""
    authenticate: Callable[[], Principal] = lambda: NOBODY
    """Tells again who is calling, for answers that go on for long."""
    creates_only: bool = False
    """Without a condition of its own the request must not touch what exists."""
    _body: bytes | None = None

    @property
    def params(self) -> Mapping[str, str]:
        return self.match.params

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query

    @property
    def workspace(self) -> str:
        return self.context.workspace

    @property
    def context(self) -> Context:
        """Where the request was addressed; ids in the answer repeat it."""
        subscription, group = self.params["subscription"], self.params["resourceGroup"]
        workspace = self.params["workspace"].lower()
        if not all(_SCOPE.match(part) for part in (subscription, group, workspace)):
            raise access.nothing_here()
        return Context(
            workspace=workspace,
            subscription=subscription,
            resource_group=group,
            scoring_url=self.scoring_url,
        )

    @property
    def origin(self) -> str:
        """Scheme and authority as the client addressed us."""
        if not _HOST.match(self.request.host):
            raise HeadgateError(ErrorCode.BAD_ARGUMENT, "the Host header is not a host name")
        return f"{self.request.scheme}://{self.request.host}"

    def url(self, path: str, **query: str) -> str:
        """An absolute address on this gateway."""
        rest = "&".join(f"{quote(key, '$')}={quote(text, '')}" for key, text in query.items())
        return f"{self.origin}{quote(path)}{'?' if rest else ''}{rest}"

    def require(self, action: Action, workspace: str) -> None:
        """For routes whose path does not say the workspace: refuse who may not do that there."""
        access.require(self.principal, action, workspace)

    @property
    def condition(self) -> core.Condition:
        headers = self.request.headers
        given = core.read_condition(headers.get("If-Match"), headers.get("If-None-Match"))
        return replace(given, create_only=True) if self.creates_only else given

    async def json(self, *, optional: bool = False) -> Any:
        """The body. ``optional``: no body at all counts as an empty object."""
        raw = await self.body()
        if optional and not raw:
            return {}
        if self.request.content_type not in _JSON_TYPES or "Content-Type" not in (
            self.request.headers
        ):
            raise HeadgateError(
                ErrorCode.UNSUPPORTED_MEDIA_TYPE,
                "the body must be JSON and say so: Content-Type: application/json",
            )
        if (self.request.charset or "utf-8").lower() not in ("utf-8", "utf8"):
            raise HeadgateError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "JSON is sent in UTF-8")
        return bodies.parse(raw)

    async def fields(self, *, numbers: Container[str] = ()) -> Mapping[str, str]:
        """The body of an OAuth request: a form, or JSON with texts and some ``numbers``."""
        if self.request.content_type != _FORM_TYPE:
            body = await self.json(optional=True)
            if not isinstance(body, dict):
                raise HeadgateError(ErrorCode.BAD_ARGUMENT, "the body must be an object")
            for name, value in body.items():
                is_number = name in numbers and type(value) in (int, float)
                if not (is_number or isinstance(value, str)):
                    raise HeadgateError(
                        ErrorCode.BAD_ARGUMENT, "a text is expected", target=pointer("", name)
                    )
            return {name: str(value) for name, value in body.items()}
        raw = await self._read(limits.TOKEN_CHARS_MAX)
        try:
            return dict(
                parse_qsl(raw.decode(), strict_parsing=True, max_num_fields=_FORM_FIELDS_MAX)
            )
        except ValueError:
            raise HeadgateError(ErrorCode.BAD_ARGUMENT, "the body is no valid form") from None

    async def body(self) -> bytes:
        """The whole body as it came; read once, so that several may look at it."""
        if self._body is None:
            self._body = await self._read(limits.CONTROL_BODY_BYTES_MAX)
        return self._body

    async def _read(self, bytes_max: int) -> bytes:
        check_length(self.request, bytes_max)
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_ARRIVAL_S):
                async for chunk in self.request.content.iter_any():
                    body += chunk
                    if len(body) > bytes_max:
                        raise too_large(bytes_max)
        except TimeoutError:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT, f"the body did not arrive within {BODY_ARRIVAL_S:g} s"
            ) from None
        except ClientPayloadError:
            raise HeadgateError(ErrorCode.BAD_ARGUMENT, "the body ended before it was whole") from (
                None
            )
        return bytes(body)


_REQUEST_ID = web.RequestKey("request_id", str)


def request_id(request: web.BaseRequest) -> str:
    """The id that we gave to a request."""
    if _REQUEST_ID not in request:
        request[_REQUEST_ID] = new_id()
    return request[_REQUEST_ID]


def add_common_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """What every answer says; and what none says: which server software this is."""
    headers = response.headers
    headers.popall("Server", None)
    headers["x-request-id"] = request_id(request)
    given = request.headers.get(CLIENT_REQUEST_ID, "")
    if _ID.match(given):
        headers[CLIENT_REQUEST_ID] = given
    headers["X-Content-Type-Options"] = "nosniff"
    # The studio has this origin, too: no blob or answer may run as a page of it.
    headers.setdefault("Content-Security-Policy", _NO_PAGE)
    headers.setdefault("Cache-Control", "no-store")
    if request.secure:
        headers["Strict-Transport-Security"] = _HSTS


def check_length(request: web.BaseRequest, bytes_max: int) -> None:
    """Refuse a body by its announced size or its encoding, before any of it is read."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise HeadgateError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "send the body uncompressed")
    if (request.content_length or 0) > bytes_max:
        raise too_large(bytes_max)


def too_large(bytes_max: int) -> HeadgateError:
    return HeadgateError(
        ErrorCode.PAYLOAD_TOO_LARGE, f"the body is larger than the {bytes_max} bytes allowed here"
    )


def url_too_long() -> HeadgateError:
    return HeadgateError(
        ErrorCode.URI_TOO_LONG, f"the address is longer than {limits.URL_BYTES_MAX} bytes"
    )


def answer(body: Json, status: int = 200, **headers: str) -> web.Response:
    """A JSON answer. Header names are given with ``_`` for ``-``."""
    return web.Response(
        body=json.dumps(body).encode(),
        status=status,
        content_type="application/json",
        charset="utf-8",
        headers={name.replace("_", "-"): text for name, text in headers.items()},
    )


def refusal(error: WireError) -> web.Response:
    """An error as an HTTP answer."""
    response = answer(error_body(error), http_status_of(error.code))
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = core.whole_seconds(error.retry_after_s)
    if error.code is ErrorCode.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="headgate"'
    return response


@dataclass
class Edge:
    """Serves the routes of a table to those who may use them."""

    table: RouteTable[Handle]
    authenticator: Authenticator
    cursors: Cursors
    clock: Clock
    scoring_url: str
    repeater: Repeater
    storage: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
    studio: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
    tell: Tell
    require_if_match: bool = False
    tracer: tracing.Tracer | None = None
    log: Log = field(default_factory=lambda: Log("gateway"))

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        parent = tracing.of_headers(request.headers) if self.tracer else None
        if self.tracer is None or not self.tracer.wants(parent):
            return await self._serve(request)
        about = {"http.request.method": request.method, "url.path": request.path}
        with self.tracer.span(request.method, "server", parent, **about) as doing:
            response = await self._serve(request)
            doing.attributes["http.response.status_code"] = response.status
            doing.attributes["headgate.request_id"] = request_id(request)
            doing.error = str(response.status) if response.status >= 500 else ""
            response.headers.setdefault("traceresponse", doing.context.traceparent)
            return response

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        begun = self.clock.monotonic()
        try:
            response = await self._answer(request)
        except HeadgateError as error:
            response = refusal(error.error)
            if error.error.code is ErrorCode.RESOURCE_EXISTS and "If-None-Match" in request.headers:
                response.set_status(412)
            if error.error.code is ErrorCode.METHOD_NOT_ALLOWED:
                response.headers["Allow"] = error.error.target
        except ConnectionError:
            raise  # the client has gone; there is nobody to answer
        except Exception:
            self.log.exception("request_failed", request_id=request_id(request))
            response = refusal(
                WireError(
                    code=ErrorCode.INTERNAL,
                    message="the gateway failed; its log has the cause under the request id "
                    f"{request_id(request)}",
                )
            )
        self._note(request, response.status, begun)
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if len(request.raw_path) > limits.URL_BYTES_MAX:
            raise url_too_long()
        if is_storage(request.raw_path):
            return await self.storage(request)
        if is_studio(request.raw_path) or wants_page(request):
            return await self.studio(request)
        segments = core.split_path(request.raw_path)
        match, answering = self.table.find_exempt(request.method, segments), self._handled
        if match is None:
            self.authenticator.bearer(request)  # before anything is told about paths
            match, answering = self.table.find(request.method, segments), self._permitted
            call = self._call(request, match, lambda: self.authenticator.bearer(request))
        elif guard := match.route.guard:
            params = match.params
            call = self._call(request, match, lambda: guard(self.authenticator, request, params))
        else:
            call = self._call(request, match, lambda: NOBODY)
        handled = answering(call, segments)
        return await (audited(call, handled, self.tell) if match.route.is_audited else handled)

    async def _permitted(self, call: Call, segments: Sequence[str]) -> web.StreamResponse:
        workspace = call.workspace if "workspace" in call.params else None
        access.require(call.principal, call.match.route.needs, workspace)
        parameters.check(call.params, call.query, call.match.route.query)
        return await self._handled(call, segments)

    async def _handled(self, call: Call, segments: Sequence[str]) -> web.StreamResponse:
        request, match = call.request, call.match
        caller, provoked = CALLER.set(call.principal.subject), REQUEST.set(call.id)
        try:
            if self.require_if_match and match.route.conditional:
                call = await self._conditional(call, segments)
            return await self.repeater.serve(
                request,
                match.route.repeats,
                call.principal.subject,
                call.body,
                lambda: match.route.handler(call),
            )
        finally:
            CALLER.reset(caller)
            REQUEST.reset(provoked)

    async def _conditional(self, call: Call, segments: Sequence[str]) -> Call:
        """The call when it may go on: it has a condition, or there is nothing yet."""
        headers = call.request.headers
        if "If-Match" in headers or (call.request.method == "PUT" and "If-None-Match" in headers):
            return call
        reading = self.table.find("GET", segments)
        try:
            await reading.route.handler(replace(call, match=reading))
        except HeadgateError as error:
            if error.error.code is not ErrorCode.RESOURCE_NOT_FOUND:
                raise
            return replace(call, creates_only=True)
        raise HeadgateError(
            ErrorCode.PRECONDITION_REQUIRED,
            "this exists, and changing it needs the header If-Match with the ETag that it was "
            "read with; this gateway has the setting require_if_match",
            target="If-Match",
        )

    def _call(
        self,
        request: web.BaseRequest,
        match: Match[Handle],
        authenticate: Callable[[], Principal],
    ) -> Call:
        return Call(
            request,
            match,
            request_id(request),
            self.scoring_url,
            self.cursors,
            authenticate(),
            self.authenticator.address(request),
            authenticate,
        )

    def _note(self, request: web.BaseRequest, status: int, begun: float) -> None:
        note = (
            self.log.debug
            if status < 400 and request.method in ("GET", "HEAD")
            else (self.log.info)
        )
        note(
            "request",
            verb=request.method,
            path=request.path[:200],
            status=status,
            ms=round((self.clock.monotonic() - begun) * 1000, 1),
            request_id=request_id(request),
        )
