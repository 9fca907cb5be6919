"""Request-reply through FastStream: binds a table of message types to handlers.

Every failure becomes a typed :class:`Refused` reply with the micro-service error headers; a
handler that raises never leaves its caller waiting.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from faststream import BaseMiddleware, ExceptionMiddleware, StreamMessage
from faststream.nats import NatsBroker, NatsCredentials, NatsResponse
from pydantic import ValidationError

from headgate.runtime import tracing
from headgate.runtime.bus import ERROR_CODE_HEADER, ERROR_TEXT_HEADER, Handler, connection_options
from headgate.runtime.log import Log
from headgate_contracts import rpc
from headgate_contracts.envelope import Command, Query, Refused
from headgate_contracts.errors import ErrorCode, ErrorDetail, HeadgateError, WireError

Request = type[Command] | type[Query]
CONCURRENT_REQUESTS_MAX = 16


class EndpointStats:
    """Counts of one operation, as the discovery protocol reports them (times in nanoseconds)."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.requests = 0
        self.errors = 0
        self.last_error = ""
        self.processing_ns = 0

    def note_error(self, error: WireError) -> None:
        """Count a request that was refused or failed."""
        self.errors += 1
        self.last_error = f"{error.number}:{error.message}"


class Answers:
    """The answering side of a service."""

    def __init__(self, broker: NatsBroker, service: str) -> None:
        self.broker = broker
        self.stats: dict[str, EndpointStats] = {}
        self._log = Log(service)
        self._service = service

    def bind(self, request: Request, handler: Handler, *, shared: bool = True) -> None:
        """Answer one type of message. ``shared``: one process of the service answers, not all."""
        subject = rpc.subject_of(request)
        op = rpc.op_of(request)
        stats = self.stats[op] = EndpointStats(subject)
        reply = rpc.reply_of(request)

        async def answer(message: Any) -> Any:
            begun_ns = time.perf_counter_ns()
            stats.requests += 1
            try:
                return await handler(message)
            except HeadgateError as error:
                stats.note_error(error.error)
                raise
            except Exception as error:
                self._log.exception("handler_failed", op=op)
                text = f"{self._service} failed at {op}: {type(error).__name__}"
                failure = HeadgateError(ErrorCode.INTERNAL, text)
                stats.note_error(failure.error)
                raise failure from error
            finally:
                stats.processing_ns += time.perf_counter_ns() - begun_ns

        answer.__name__ = op
        answer.__doc__ = request.__doc__
        answer.__annotations__ = {"message": request, "return": reply}
        self.broker.subscriber(
            subject,
            queue=self._service if shared else "",
            max_workers=CONCURRENT_REQUESTS_MAX,
            title=request.__name__,
            description=request.__doc__,
        )(answer)


class _Traced(BaseMiddleware[Any, Any]):
    """What a caller asks within a trace is a span of that trace."""

    def __init__(self, tracer: tracing.Tracer, message: Any, /, *, context: Any) -> None:
        super().__init__(message, context=context)
        self._tracer = tracer

    async def consume_scope(
        self, call_next: Callable[[Any], Awaitable[Any]], msg: StreamMessage[Any]
    ) -> Any:
        parent = tracing.of_headers(msg.headers)
        if parent is None or not parent.is_sampled:
            return await call_next(msg)
        subject = msg.raw_message.subject
        about = {"messaging.system": "nats", "messaging.destination.name": subject}
        with self._tracer.span(subject.rpartition(".")[2], "server", parent, **about):
            return await call_next(msg)


def make(
    service: str,
    url: str,
    creds: Path | None,
    handlers: Mapping[Request, Handler],
    *,
    shared: bool = True,
    tracer: tracing.Tracer | None = None,
) -> Answers:
    """The answers of one service, bound but not started (``answers.broker.start()`` starts)."""
    exceptions = ExceptionMiddleware()

    @exceptions.add_handler(ValidationError, publish=True)
    def malformed(error: ValidationError) -> NatsResponse:
        return _refusal(_describe_malformed(error))

    options = {**connection_options(service, url), "name": f"headgate-{service}-rpc"}

    @exceptions.add_handler(HeadgateError, publish=True)
    def refused(error: HeadgateError) -> NatsResponse:
        return _refusal(error.error)

    broker = NatsBroker(
        middlewares=(exceptions,) if tracer is None else (exceptions, partial(_Traced, tracer)),
        logger=None,
        security=NatsCredentials(str(creds)) if creds else None,
        **options,
    )
    answers = Answers(broker, service)
    for request, handler in handlers.items():
        answers.bind(request, handler, shared=shared)
    return answers


def _refusal(error: WireError) -> NatsResponse:
    text = error.message.encode("ascii", "replace").decode().replace("\n", " ")[:512]
    return NatsResponse(
        Refused(error=error),
        headers={ERROR_CODE_HEADER: str(error.number), ERROR_TEXT_HEADER: text},
    )


def _describe_malformed(error: ValidationError) -> WireError:
    details = tuple(
        ErrorDetail(
            code=ErrorCode.INVALID_MESSAGE,
            message=item["msg"],
            target=".".join(str(part) for part in item["loc"]),
        )
        for item in error.errors()[:20]
    )
    first = details[0]
    return WireError(
        code=ErrorCode.INVALID_MESSAGE,
        message=f"{first.target}: {first.message}",
        target=first.target,
        details=details,
    )
