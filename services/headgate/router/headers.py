"""Which headers pass the edge, in which direction. Pure.

Towards the model: content, negotiation, tracing and ``x-*``; never credentials, cookies, or
anything that steers a connection or the bus. Towards the client: what a model may decide about
its own answer; never cookies, redirects, framing, or the headers that the router itself speaks.
"""

from __future__ import annotations

import re

from headgate.router.core import Refusal
from headgate.router.frames import encode_pairs
from headgate.runtime import tracing
from headgate_contracts import limits

Pairs = list[tuple[str, str]]

_FORWARDED = frozenset(
    [
        "accept",
        "accept-charset",
        "accept-encoding",
        "accept-language",
        "access-control-request-headers",
        "access-control-request-method",
        "baggage",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "origin",
        "range",
        "traceid",
        "traceparent",
        "tracestate",
        "user-agent",
    ]
)
_FORWARDED_PREFIXES = ("x-", "azureml-", "ms-azureml-", "inference-")

# Read by the router itself: header name -> attribute of Head.
_READ = {
    "authorization": "authorization",
    "azureml-model-deployment": "deployment",
    "content-length": "content_length",
    "expect": "expect",
    "hg-parts": "parts",
    "host": "host",
    "transfer-encoding": "transfer_coding",
    "x-headgate-trace": "trace",
    "x-ms-client-request-id": "client_request_id",
    "x-ms-request-id": "legacy_request_id",
    "x-request-id": "request_id",
    "x-request-timeout-ms": "timeout_ms",
}

_ANSWERED = frozenset(
    [
        "accept-ranges",
        "age",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "etag",
        "expires",
        "last-modified",
        "traceid",
        "vary",
    ]
)
_ANSWERED_PREFIXES = ("x-", "access-control-", "inference-")
_OURS = frozenset(("x-request-id", "x-ms-request-id", "x-ms-client-request-id"))
_ANSWER_HEADER_BYTES_MAX = 16 * 1024

_NAMES_MAX = 1_000
_NAME_CHARS_MAX = 100

_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,64}")
_CLIENT_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]+")
_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Head:
    """The header block of one request: what the router reads, and what the model may see."""

    __slots__ = (
        "_caller",
        "_encoded",
        "bytes",
        "count",
        "forwarded",
        "forwarded_bytes",
        "is_known",
        *_READ.values(),
    )

    authorization: str
    client_request_id: str
    content_length: str
    deployment: str
    expect: str
    host: str
    parts: str
    legacy_request_id: str
    request_id: str
    timeout_ms: str
    trace: str
    transfer_coding: str

    def __init__(self) -> None:
        self.bytes = 0
        self.count = 0
        self.forwarded: Pairs = []
        self.forwarded_bytes = 0
        self.is_known = False  # it was looked at before, on the same connection, and accepted
        self._encoded: str | None = None
        self._caller: tuple[tracing.Context | None] | None = None
        for attribute in _READ.values():
            setattr(self, attribute, "")

    def add(self, name: str, value: str) -> None:
        """Take one header in. A name that comes twice counts as a list, which no rule accepts."""
        self.count += 1
        self.bytes += len(name) + len(value) + 4
        name = name.lower()
        attribute = _READ.get(name)
        if attribute:
            before = getattr(self, attribute)
            setattr(self, attribute, f"{before},{value}" if before else value)
        elif self.count <= limits.REQUEST_HEADERS_MAX and (
            name in _FORWARDED or name.startswith(_FORWARDED_PREFIXES)
        ):
            self.forwarded.append((name, value))
            self.forwarded_bytes += len(name) + len(value)

    @property
    def encoded(self) -> str:
        """What is forwarded, for the frame."""
        if self._encoded is None:
            self._encoded = encode_pairs(self.forwarded)
        return self._encoded

    @property
    def caller(self) -> tracing.Context | None:
        """The span of whoever asks, if exactly one is named; read once for blocks that repeat."""
        if self._caller is None:
            parents = [value for name, value in self.forwarded if name == tracing.TRACEPARENT]
            states = [value for name, value in self.forwarded if name == tracing.TRACESTATE]
            known = len(parents) == 1
            self._caller = (tracing.parse(parents[0], ",".join(states)) if known else None,)
        return self._caller[0]

    def refusal(self) -> Refusal | None:
        """Whether the block as a whole is acceptable."""
        if self.count > limits.REQUEST_HEADERS_MAX:
            return _too_large(f"more than {limits.REQUEST_HEADERS_MAX} headers")
        if self.bytes > limits.REQUEST_HEADER_BYTES_MAX:
            return _too_large(f"more than {limits.REQUEST_HEADER_BYTES_MAX} bytes of headers")
        if self.forwarded_bytes > limits.FORWARDED_HEADER_BYTES_MAX:
            return _too_large(
                f"more than {limits.FORWARDED_HEADER_BYTES_MAX} bytes of headers for the model"
            )
        if len(self.client_request_id) > limits.CLIENT_REQUEST_ID_CHARS_MAX:
            return _too_large(
                "x-ms-client-request-id is longer than "
                f"{limits.CLIENT_REQUEST_ID_CHARS_MAX} characters"
            )
        return None


class Ids:
    """The ids of one request: ours, the client's own (or ""), and Azure's legacy alias."""

    __slots__ = ("client", "request")

    def __init__(self, head: Head, fresh: str) -> None:
        """``fresh`` becomes the request id unless the client sent a harmless one."""
        given = head.request_id
        self.request = given if given and _REQUEST_ID.fullmatch(given) else fresh
        client = head.client_request_id or head.legacy_request_id
        known = client and len(client) <= limits.CLIENT_REQUEST_ID_CHARS_MAX
        self.client = client if known and _CLIENT_REQUEST_ID.fullmatch(client) else ""

    @property
    def lines(self) -> str:
        """As headers of the answer; the model sees the same."""
        own, client = self.request, self.client
        if client:
            return (
                f"x-request-id: {own}\r\nx-ms-client-request-id: {client}\r\n"
                f"x-ms-request-id: {client}\r\n"
            )
        return f"x-request-id: {own}\r\nx-ms-request-id: {own}\r\n"

    @property
    def told(self) -> str:
        """For the frame, which ends with a comma: no character of an id needs an escape."""
        if self.client:
            return f'"rid":"{self.request}","cid":"{self.client}",'
        return f'"rid":"{self.request}",'


def answered(pairs: object) -> str:
    """The headers of a model's answer that reach the client, as lines."""
    passed = ""
    size = 0
    if not isinstance(pairs, list):
        return passed
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            continue
        given, value = pair[0], str(pair[1])
        name = _answered_as.get(given) if type(given) is str else None
        if name is None:
            name = _learn(str(given))
        if not name:
            continue
        size += len(name) + len(value)
        if size > _ANSWER_HEADER_BYTES_MAX:
            break
        plain = value.isascii() and value.isprintable()
        if plain or (not _CONTROL.search(value) and _is_latin(value)):
            passed += f"{name}: {value}\r\n"
    return passed


# Header names of models -> how they reach the client, or "" for those that do not.
_answered_as: dict[str, str] = {}


def _learn(given: str) -> str:
    """Decide on a name, once for the many answers that will have it."""
    name = given.lower()
    passes = name in _ANSWERED or name.startswith(_ANSWERED_PREFIXES)
    if not passes or name in _OURS or not _NAME.fullmatch(name):
        name = ""
    if len(_answered_as) < _NAMES_MAX and len(given) <= _NAME_CHARS_MAX:
        _answered_as[given] = name
    return name


def _is_latin(value: str) -> bool:
    return value.isascii() or all(ord(char) < 256 for char in value)


def _too_large(what: str) -> Refusal:
    return Refusal(431, "RequestHeaderFieldsTooLarge", f"{what}: send fewer or shorter headers")
