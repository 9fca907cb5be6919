"""Keeps the answers of requests with an ``Idempotency-Key``, for all gateways and restarts.

They lie in a bucket of the bus under a digest of caller, address and key, sealed like every
secret, because one of them may hold a token. The bucket forgets them after a day.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from pydantic import ValidationError

from headgate.gateway import repeats
from headgate.gateway.repeats import KEPT_HEADERS, Record, Repeats
from headgate.runtime.buckets import BucketWriter
from headgate.runtime.bus import Bus
from headgate.runtime.clock import Clock
from headgate.runtime.log import Log
from headgate.runtime.vault import SealedWithAnotherKeyError, Vault
from headgate_contracts import limits, streams
from headgate_contracts.errors import HeadgateError

REPLAYED_HEADER = "Idempotent-Replayed"
RESULT_HEADER = "Repeatability-Result"


class Repeater:
    """Lets the first request with a key through, and answers the others like it."""

    def __init__(self, bus: Bus, vault: Vault, clock: Clock) -> None:
        self._bucket = BucketWriter(bus, streams.REPEATS.name)
        self._vault = vault
        self._clock = clock
        self._log = Log(bus.service)

    async def serve(
        self,
        request: web.BaseRequest,
        rule: Repeats,
        subject: str,
        read_body: Callable[[], Awaitable[bytes]],
        handle: Callable[[], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """The answer of ``handle``, or of the first request that had the same key."""
        key = repeats.read_key(request.headers, rule)
        if key is None:
            return await handle()
        place = repeats.place(subject, request.method, request.path, key)
        fingerprint = repeats.fingerprint(request.query_string, await read_body())
        found = await self._bucket.get(place)
        begun_at = self._clock.now()
        stored = repeats.decide(self._open(place, found.value), fingerprint, begun_at)
        if stored is not None:
            return _marked(request, _replayed(stored))
        running = Record(fingerprint=fingerprint, begun_at=begun_at)
        if not await self._bucket.replace(place, found, self._sealed(place, running)):
            raise repeats.still_running()
        try:
            response = await handle()
        except Exception:
            await self._settle(place, None)
            raise
        await self._settle(place, _record(running, response))
        return _marked(request, response)

    async def _settle(self, place: str, record: Record | None) -> None:
        """Keep the answer. That is never a reason to withhold it."""
        try:
            value = self._sealed(place, record) if record is not None else None
            await self._bucket.replace(place, await self._bucket.get(place), value)
        except HeadgateError as error:
            self._log.warning("answer_not_kept", error=str(error))

    def _sealed(self, place: str, record: Record) -> bytes:
        return self._vault.seal(_sealed_place(place), record.model_dump_json()).encode()

    def _open(self, place: str, sealed: bytes | None) -> Record | None:
        if sealed is None:
            return None
        try:
            text = self._vault.unseal(_sealed_place(place), sealed.decode())
            return Record.model_validate_json(text)
        except (SealedWithAnotherKeyError, ValidationError, UnicodeDecodeError):
            # Written before the master key changed: whether it was done cannot be told any more.
            raise repeats.reused("was used before, and its answer cannot be read") from None


def _sealed_place(place: str) -> str:
    return f"{streams.REPEATS.name}/{place}"


def _record(running: Record, response: web.StreamResponse) -> Record | None:
    """What to keep of an answer; None for what need not or cannot be said again."""
    body = response.body if isinstance(response, web.Response) else None
    if response.status >= 400 or not isinstance(body, bytes | None):
        return None
    if body is not None and len(body) > limits.REPEAT_ANSWER_BYTES_MAX:
        return None
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    text = (body or b"").decode()
    return running.model_copy(update={"status": response.status, "headers": headers, "body": text})


def _replayed(record: Record) -> web.Response:
    response = web.Response(status=record.status, headers=record.headers)
    if record.body:
        response.body = record.body.encode()
    response.headers[REPLAYED_HEADER] = "true"
    return response


def _marked(request: web.BaseRequest, response: web.StreamResponse) -> web.StreamResponse:
    """Azure's clients want to hear that their header was understood."""
    if repeats.AZURE_HEADER in request.headers and not response.prepared:
        response.headers[RESULT_HEADER] = "accepted"
    return response
