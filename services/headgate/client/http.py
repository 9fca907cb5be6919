"""HTTP under the client: TLS, token, typed errors, and retries where repeating is harmless."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from headgate.azure import arm_resources
from headgate.client.target import Target
from headgate_contracts.errors import ErrorCode, HeadgateError, http_status_of
from headgate_contracts.identity import ORIGIN_HEADER

API_VERSION = "2025-12-01"
ATTEMPTS_MAX = 4
RETRY_FIRST_S = 0.2
RETRY_MAX_S = 5.0
NO_CONTENT = 204
ANSWER_BYTES_MAX = 64 * 1024 * 1024
_CONTROL_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=5)
_UPLOAD_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=300)
_STREAM_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)

_BY_STATUS: dict[int, ErrorCode] = {}
for _code in (
    ErrorCode.BAD_ARGUMENT,
    ErrorCode.UNAUTHORIZED,
    ErrorCode.FORBIDDEN,
    ErrorCode.RESOURCE_NOT_FOUND,
    ErrorCode.RESOURCE_CONFLICT,
    ErrorCode.REVISION_MISMATCH,
    ErrorCode.PAYLOAD_TOO_LARGE,
    ErrorCode.UNAVAILABLE,
    ErrorCode.TIMED_OUT,
    ErrorCode.METHOD_NOT_ALLOWED,
):
    _BY_STATUS[http_status_of(_code)] = _code


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer; ``body`` is the JSON value, None when there is none."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def is_removal(self) -> bool:
        """Of a deletion: whether there was anything to delete."""
        return self.status != NO_CONTENT

    @property
    def object(self) -> dict[str, Any]:
        """The body, which must be an object."""
        if not isinstance(self.body, dict):
            raise not_understood()
        return self.body


def not_understood() -> HeadgateError:
    """The error for an answer in a form that we do not know."""
    return HeadgateError(
        ErrorCode.INTERNAL,
        "the answer is not what this client understands; is it a Headgate, and of this version?",
    )


class Http:
    """One session with one gateway."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._tls = _tls_context(target)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers=_headers(self.target),
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=8),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
    ) -> Answer:
        """One request and its answer; ``path`` may be a whole address of the same gateway.

        Raises HeadgateError for every answer from 400 on. Reading is repeated when the gateway
        cannot be reached or is busy; anything else only when ``repeatable`` says so.
        """
        if repeatable is None:
            repeatable = method in ("GET", "HEAD")
        wait_s = RETRY_FIRST_S
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                return await self._once(method, path, query, body, headers)
            except HeadgateError as error:
                if (
                    not repeatable
                    or attempt == ATTEMPTS_MAX
                    or error.error.code is not ErrorCode.UNAVAILABLE
                ):
                    raise
                wait_s = min(error.error.retry_after_s or wait_s, RETRY_MAX_S)
            await asyncio.sleep(wait_s)
            wait_s *= 2
        raise AssertionError("the last attempt returns or raises")

    async def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Any,
        headers: Mapping[str, str] | None,
    ) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        sent = dict(headers or {})
        if data is not None:
            sent["Content-Type"] = "application/json"
        async with self._request(
            method, path, query=query, data=data, headers=sent, timeout=_CONTROL_TIMEOUT
        ) as response:
            return await _answer(response)

    async def put_file(self, path: str, stream: AsyncIterator[bytes], headers: Any) -> Answer:
        """Sends a stream of bytes once; the caller knows how to begin it again."""
        async with self._request(
            "PUT", path, data=stream, headers=headers, timeout=_UPLOAD_TIMEOUT
        ) as response:
            return await _answer(response)

    @asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """The body of a long answer as it comes."""
        async with self._request(
            "GET", path, query=query, headers=headers, timeout=_STREAM_TIMEOUT
        ) as response:
            if response.status >= 400:
                await _answer(response)
            yield response.content

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None, "used outside 'async with'"
        url = path if path.startswith("http") else f"{self.target.url}{path}"
        if not url.startswith(f"{self.target.url}/"):
            raise HeadgateError(
                ErrorCode.INTERNAL, "the gateway referred to another address; not followed"
            )
        try:
            async with self._session.request(
                method,
                url,
                params=query,
                data=data,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(self.target, error) from None


async def _answer(response: aiohttp.ClientResponse) -> Answer:
    raw = b""
    async for chunk in response.content.iter_chunked(1 << 16):
        raw += chunk
        if len(raw) > ANSWER_BYTES_MAX:
            raise HeadgateError(ErrorCode.INTERNAL, "the gateway's answer is larger than allowed")
    body: Any = None
    if raw:
        try:
            body = json.loads(raw)
        except ValueError:
            if response.status < 400:
                raise HeadgateError(
                    ErrorCode.INTERNAL, f"the answer of {response.url.path} is not JSON"
                ) from None
    if response.status >= 300:
        raise refused(response.status, response.headers, body, response.reason or "")
    return Answer(response.status, response.headers, body)


def refused(status: int, headers: Mapping[str, str], body: Any, reason: str = "") -> HeadgateError:
    """The error that an answer means, in ARM's form or not."""
    retry_after = headers.get("Retry-After", "")
    retry_after_s = float(retry_after) if retry_after.isdigit() else None
    error = arm_resources.error_of(body)
    if error is None:
        code = _BY_STATUS.get(status, ErrorCode.INTERNAL)
        text = f"the gateway answered {status} {reason}".rstrip()
        return HeadgateError(code, text, retry_after_s=retry_after_s)
    if error.code is ErrorCode.INTERNAL and status in _BY_STATUS:
        error = error.model_copy(update={"code": _BY_STATUS[status]})
    return HeadgateError.of(error.model_copy(update={"retry_after_s": retry_after_s}))


def _headers(target: Target) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {target.token}"}
    return headers | ({ORIGIN_HEADER: target.origin} if target.origin else {})


def _tls_context(target: Target) -> ssl.SSLContext | bool:
    if not target.url.startswith("https") or target.ca is None:
        return True
    try:
        return ssl.create_default_context(cafile=target.ca)
    except (ssl.SSLError, OSError) as error:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT, f"the CA file {target.ca} cannot be used: {error}"
        ) from None


def _unreachable(target: Target, error: Exception) -> HeadgateError:
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        trusted = target.ca or "the system's authorities"
        return HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"the certificate of {target.url} is not to be trusted according to {trusted}; "
            "name the right authority with --ca",
        )
    if isinstance(error, TimeoutError):
        return HeadgateError(ErrorCode.TIMED_OUT, f"{target.url} did not answer in time")
    if isinstance(error, aiohttp.ClientConnectorError):
        return HeadgateError(
            ErrorCode.UNAVAILABLE,
            f"cannot reach Headgate at {target.url} ({error.os_error.strerror or error.os_error}); "
            "is it running? Start it with 'headgate up'",
        )
    return HeadgateError(
        ErrorCode.UNAVAILABLE, f"the connection to {target.url} broke off: {error or 'no reason'}"
    )
