"""One service's connection to the bus, over nats-py and FastStream.

Owns the traps of both libraries so that nobody else meets them: the flush that is no barrier, the
endless first connect, requests buffered while the bus is down, typed error replies, handlers that
raise. The scoring path does not pass through here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.client import JetStreamContext
from pydantic import ValidationError

from headgate.runtime import tracing
from headgate.runtime.clock import Clock, new_id
from headgate.runtime.log import Log
from headgate_contracts import rpc, subjects
from headgate_contracts.envelope import (
    CLOUDEVENTS_SPEC_VERSION,
    Command,
    Event,
    Query,
    Refused,
    Reply,
)
from headgate_contracts.errors import ErrorCode, HeadgateError

__all__ = ["Bus", "Handler", "Msg", "Subscription", "connection_options", "event_headers"]

R = TypeVar("R", bound=Reply)
Handler = Callable[[Any], Awaitable[Reply]]

ERROR_CODE_HEADER = "Nats-Service-Error-Code"
ERROR_TEXT_HEADER = "Nats-Service-Error"

CONNECT_TIMEOUT_S = 5.0
ASK_TIMEOUT_S = 5.0


def connection_options(service: str, url: str) -> dict[str, Any]:
    """nats-py options of a service's connection.

    Nothing is buffered while the bus is down (``pending_size=0``): a caller that got an error
    must be sure that its request is not executed later.
    """
    return {
        "servers": url.split(","),
        "name": f"headgate-{service}",
        "inbox_prefix": subjects.inbox_prefix(service).encode(),
        "pending_size": 0,
        "ping_interval": 2,
        "max_outstanding_pings": 2,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.2,
        "connect_timeout": 2,
        "drain_timeout": 30,
    }


class Bus:
    """A connection that asks, tells and listens; answering is in ``runtime.answers``."""

    def __init__(self, service: str, url: str, creds: Path | None, clock: Clock) -> None:
        self.service = service
        self.url = url
        self.creds = creds
        self.clock = clock
        self.nc = Client()
        self.tracer: tracing.Tracer | None = None  # where traces are exported
        self.closed = asyncio.Event()
        self._log = Log(service)
        self._on_reconnect: list[Callable[[], Awaitable[None]]] = []
        self._on_disconnect: list[Callable[[], None]] = []

    @classmethod
    async def connect(cls, service: str, url: str, creds: Path | None, clock: Clock) -> Bus:
        """Connect, or fail with HeadgateError(ServiceUnavailable) within a few seconds."""
        bus = cls(service, url, creds, clock)
        try:
            await asyncio.wait_for(
                bus.nc.connect(
                    **connection_options(service, url),
                    user_credentials=str(creds) if creds else None,
                    error_cb=bus._note_error,
                    disconnected_cb=bus._note_disconnect,
                    reconnected_cb=bus._note_reconnect,
                    closed_cb=bus._note_closed,
                ),
                CONNECT_TIMEOUT_S,
            )
        except (TimeoutError, OSError, NatsError) as error:
            raise HeadgateError(
                ErrorCode.UNAVAILABLE, f"the bus at {url} does not answer: {error or 'time-out'}"
            ) from None
        return bus

    @property
    def js(self) -> JetStreamContext:
        return self.nc.jetstream(timeout=ASK_TIMEOUT_S)

    async def sync(self) -> None:
        """Return when the server has seen everything sent before (flush alone does not wait)."""
        await asyncio.sleep(0)
        await self.nc.flush()

    async def ask(self, request: Command | Query, reply: type[R], *, timeout_s: float = 0) -> R:
        """Ask the service that answers this type of message.

        Raises HeadgateError with the service's own error, with ServiceUnavailable when nobody
        listens or the bus is down, or with RequestTimeout when the outcome is unknown.
        """
        subject = rpc.subject_of(type(request))
        message = request.stamped(id=new_id(), at=self.clock.now())
        if not self.nc.is_connected:
            raise HeadgateError(ErrorCode.UNAVAILABLE, "the bus is down", retry_after_s=1)
        try:
            answer = await self.nc.request(
                subject,
                message.model_dump_json().encode(),
                timeout=timeout_s or ASK_TIMEOUT_S,
                headers=tracing.headers() or None,
            )
        except NoRespondersError:
            raise HeadgateError(
                ErrorCode.UNAVAILABLE, f"nobody answers {subject}", retry_after_s=1
            ) from None
        except NatsTimeoutError:
            raise HeadgateError(
                ErrorCode.TIMED_OUT, f"no answer from {subject} in time; the outcome is unknown"
            ) from None
        except NatsError as error:
            raise HeadgateError(
                ErrorCode.UNAVAILABLE, f"the bus refused {subject}: {error}", retry_after_s=1
            ) from None
        return _read_reply(answer, reply)

    async def ask_raw(self, subject: str, payload: bytes) -> bytes:
        """Ask a subject that is not one of our own, such as the server's."""
        return (await self.nc.request(subject, payload, timeout=ASK_TIMEOUT_S)).data

    async def ask_all(
        self, request: Command | Query, reply: type[R], *, wait_s: float = 0.3, enough: int = 0
    ) -> list[R]:
        """Ask every process that answers this type; the replies that came within ``wait_s``.

        Nobody knows how many there are: a caller who does says what is ``enough``.
        """
        subject = rpc.subject_of(type(request))
        message = request.stamped(id=new_id(), at=self.clock.now())
        inbox = self.nc.new_inbox()
        answers: list[R] = []
        subscription = await self.nc.subscribe(inbox)
        try:
            await self.nc.publish(subject, message.model_dump_json().encode(), reply=inbox)
            deadline = self.clock.monotonic() + wait_s
            while (left := deadline - self.clock.monotonic()) > 0:
                if enough and len(answers) >= enough:
                    break
                try:
                    answer = await subscription.next_msg(timeout=left)
                except NatsTimeoutError:
                    break
                if answer.headers and answer.headers.get("Status") == "503":
                    break
                answers.append(_read_reply(answer, reply))
        finally:
            await subscription.unsubscribe()
        return answers

    async def subscribe(
        self, subject: str, callback: Callable[[Msg], Awaitable[None]], *, queue: str = ""
    ) -> Subscription:
        """Hear a subject. One message at a time per subscription; keep the callback short."""
        return await self.nc.subscribe(subject, queue=queue, cb=callback)

    async def publish(self, subject: str, payload: bytes) -> None:
        """Tell, at most once."""
        await self.nc.publish(subject, payload)

    async def tell(self, event: Event) -> None:
        """An event of a service without a database: at most once, nobody waits for the stream."""
        event = event.stamped(id=new_id(), at=self.clock.now())
        headers = event_headers(event, self.service)
        await self.nc.publish(event.subject(), event.model_dump_json().encode(), headers=headers)

    async def respond(self, question: Msg, payload: bytes) -> None:
        """Answer a message, at most once: an answer that cannot leave is lost."""
        try:
            await question.respond(payload)
        except NatsError as error:
            lost = str(error) or type(error).__name__
            self._log.warning("answer_lost", subject=question.subject, error=lost)

    async def publish_stored_event(
        self, subject: str, payload: bytes, headers: Mapping[str, str]
    ) -> None:
        """Publish an event into its stream and wait until it is stored. Repeats are harmless."""
        await self.js.publish(subject, payload, headers=dict(headers), timeout=ASK_TIMEOUT_S)

    def on_reconnect(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Call back after every reconnect (re-create KV watchers there)."""
        self._on_reconnect.append(callback)

    def on_disconnect(self, callback: Callable[[], None]) -> None:
        self._on_disconnect.append(callback)

    async def close(self) -> None:
        """Drain and close."""
        if self.nc.is_closed:
            return
        if self.nc.is_connected:
            await self.nc.drain()
        else:
            await self.nc.close()

    async def _note_error(self, error: Exception) -> None:
        self._log.warning("bus_error", error=str(error) or type(error).__name__)

    async def _note_disconnect(self) -> None:
        if not self.nc.is_draining and not self.nc.is_closed:
            self._log.warning("bus_disconnected", url=self.url)
        for callback in self._on_disconnect:
            callback()

    async def _note_reconnect(self) -> None:
        self._log.info("bus_reconnected", url=self.url)
        for callback in self._on_reconnect:
            await callback()

    async def _note_closed(self) -> None:
        self.closed.set()


def event_headers(event: Event, source: str) -> dict[str, str]:
    """CloudEvents attributes of an event in binary mode, and the stream's de-duplication id."""
    headers = {
        "ce-specversion": CLOUDEVENTS_SPEC_VERSION,
        "ce-id": event.id,
        "ce-type": event.TYPE,
        "ce-source": f"/headgate/{source}",
        "ce-time": _rfc3339(event.at),
        "content-type": "application/json",
        "Nats-Msg-Id": event.id,
    }
    if context := tracing.current():
        headers[tracing.EVENT_TRACEPARENT] = context.traceparent
    return headers


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _read_reply(answer: Msg, reply: type[R]) -> R:
    try:
        if answer.headers and ERROR_CODE_HEADER in answer.headers:
            raise HeadgateError.of(Refused.model_validate_json(answer.data).error)
        return reply.model_validate_json(answer.data)
    except ValidationError as error:
        raise HeadgateError(
            ErrorCode.INTERNAL, f"an answer of the wrong form arrived: {error.errors()[0]['msg']}"
        ) from None
