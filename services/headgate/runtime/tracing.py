"""Trace contexts after W3C (https://www.w3.org/TR/trace-context/), and spans as plain values.

Nothing here needs OpenTelemetry: contexts travel in headers, spans are told to a :class:`Sink`,
and only ``runtime.otlp`` knows who exports them.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from headgate.runtime.clock import Clock
from headgate_contracts.errors import HeadgateError, http_status_of

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
EVENT_TRACEPARENT = "ce-traceparent"  # of CloudEvents' extension for distributed tracing
STATE_CHARS_MAX = 512  # what the recommendation wants passed on at least

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 0x01
_dice = random.Random()  # noqa: S311 - ids of traces are no secret

Scalar = str | bool | int | float


class Context(NamedTuple):
    """A span that others can be children of. Ids are lower-case hexadecimal."""

    trace_id: str
    span_id: str
    is_sampled: bool = True
    state: str = ""

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{_SAMPLED if self.is_sampled else 0:02x}"


@dataclass(frozen=True, slots=True)
class Span:
    """What somebody did from ``began`` to ``ended`` (Unix seconds).

    ``kind`` is OpenTelemetry's in lower case; ``service`` and ``instance`` say who it was.
    ``error`` says why it failed; empty: it did not.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    began: float
    ended: float
    service: str
    instance: str = ""
    state: str = ""
    attributes: Mapping[str, Scalar] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of somebody's log, and the span during which it was written (or "")."""

    at: float
    service: str
    instance: str
    level: str
    text: str
    trace_id: str = ""
    span_id: str = ""
    attributes: Mapping[str, Scalar] = field(default_factory=dict)


class Sink(Protocol):
    """Takes spans and lines at once, and loses those for which it has no room."""

    def spans(self, spans: Iterable[Span]) -> None: ...

    def lines(self, lines: Iterable[Line]) -> None: ...


def parse(traceparent: str, tracestate: str = "") -> Context | None:
    """The context that headers tell of; None when they say nothing that counts."""
    found = _TRACEPARENT.fullmatch(traceparent.strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    is_valid = version != "ff" and (version != "00" or more is None)
    if not is_valid or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return Context(trace_id, span_id, bool(int(flags, 16) & _SAMPLED), tracestate[:STATE_CHARS_MAX])


def new_context(parent: Context | None = None) -> Context:
    """A new span below ``parent``, or at the top of a trace of its own; sampled."""
    span_id = f"{_dice.getrandbits(64) or 1:016x}"
    if parent is not None:
        return Context(parent.trace_id, span_id, state=parent.state)
    return Context(f"{_dice.getrandbits(128) or 1:032x}", span_id)


def derived_id(span_id: str, name: str) -> str:
    """The id of a part of a span: whoever knows the span and the part knows it."""
    return hashlib.blake2b(f"{span_id}/{name}".encode(), digest_size=8).hexdigest()


def headers() -> dict[str, str]:
    """What a message to another service says of the span that is under way here."""
    context = _current.get()
    if context is None:
        return {}
    told = {TRACEPARENT: context.traceparent}
    return {**told, TRACESTATE: context.state} if context.state else told


def of_headers(headers: Mapping[str, str] | None) -> Context | None:
    """The context that the headers of a message or an HTTP request tell of."""
    if not headers or TRACEPARENT not in headers:
        return None
    return parse(headers[TRACEPARENT], headers.get(TRACESTATE, ""))


_current: ContextVar[Context | None] = ContextVar("headgate_span", default=None)


def current() -> Context | None:
    """The span that is under way here, when what happens here is traced."""
    return _current.get()


class Doing:
    """A span under way. ``attributes`` and ``error`` may be set until it ends."""

    __slots__ = ("attributes", "context", "error")

    def __init__(self, context: Context, attributes: Mapping[str, Scalar]) -> None:
        self.context = context
        self.attributes = dict(attributes)
        self.error = ""


class Tracer:
    """Makes the spans of one service of the control plane.

    ``share`` of the requests is traced that come without a context.
    """

    def __init__(self, service: str, clock: Clock, sink: Sink, share: float = 0.0) -> None:
        self.sink = sink
        self._service = service
        self._clock = clock
        self._share = share

    def wants(self, parent: Context | None) -> bool:
        """Whether what arrives with this context is traced: as its caller says, or by dice."""
        return parent.is_sampled if parent is not None else _dice.random() < self._share

    @contextlib.contextmanager
    def span(
        self, name: str, kind: str, parent: Context | None = None, **attributes: Scalar
    ) -> Iterator[Doing]:
        """What is done inside is a span; an exception that leaves it is its error.

        What a caller has done wrong is told as ``error.type`` alone, as with HTTP.
        """
        doing = Doing(new_context(parent), attributes)
        began, token = self._clock.now(), _current.set(doing.context)
        try:
            yield doing
        except HeadgateError as error:
            code = error.error.code
            doing.attributes["error.type"] = code.value
            doing.error = str(error) if http_status_of(code) >= 500 else ""
            raise
        except Exception as error:
            doing.error = doing.error or str(error) or type(error).__name__
            raise
        finally:
            _current.reset(token)
            context = doing.context
            span = Span(
                context.trace_id,
                context.span_id,
                parent.span_id if parent else "",
                name,
                kind,
                began,
                self._clock.now(),
                f"headgate-{self._service}",
                state=context.state,
                attributes=doing.attributes,
                error=doing.error,
            )
            self.sink.spans((span,))
