"""One scoring request as it came off the bus, and the answer that goes back."""

from __future__ import annotations

from typing import Any, Optional
from uuid import uuid4

from headgate_worker.kinds import Kind
from headgate_worker.streams import Stream

FAILED_HEADER = "x-ms-run-function-failed"
JSON = ("Content-Type", "application/json")
NOT_FAILED = (FAILED_HEADER, "False")
ID_CHARS_MAX = 100
ID_HEADERS = frozenset(("x-request-id", "x-ms-client-request-id", "x-ms-request-id"))


class Request:
    """A frame that was taken: what to answer, until when, and the HTTP request itself.

    ``meta`` has all of it, or lacks what its ``kind`` tells. ``ids`` are those that a router has
    found valid; without them they are among the headers, if anywhere.
    """

    __slots__ = (
        "body",
        "came_ms",
        "came_s",
        "deadline_ms",
        "id",
        "ids",
        "kind",
        "left",
        "method",
        "path",
        "query",
        "reply",
        "size",
        "window",
    )

    def __init__(
        self,
        reply: str,
        meta: dict[str, Any],
        body: bytes,
        deadline_ms: float,
        kind: Optional[Kind] = None,
    ) -> None:
        self.reply = reply
        self.id = meta["id"]
        self.deadline_ms = deadline_ms
        self.came_ms = 0.0  # when, of a request that is traced
        self.came_s = 0.0  # when it came (monotonic), where that matters
        self.left = False  # nobody waits for its answer any more
        self.body = body
        self.size: Any = meta.get("size")  # of a body that comes in parts, in bytes
        self.ids = Ids.told(meta) if "rid" in meta else None
        if kind is None:
            kind = Kind(meta)
        self.kind = kind
        self.window = kind.window
        self.method = kind.method
        self.path = kind.path
        self.query = kind.query

    @property
    def headers(self) -> list[tuple[str, str]]:
        """All of them; nobody changes this list."""
        given = self.kind.headers
        return given if self.ids is None else [*given, *self.ids.headers()]

    def header(self, name: str, default: str = "") -> str:
        """The last value of a header; ``name`` in lower case."""
        if self.ids is not None and name in ID_HEADERS:
            return dict(self.ids.headers()).get(name, default)
        return self.kind.index.get(name, default)

    def header_dict(self) -> dict[str, str]:
        """As scripts get them: ``X-Request-Id``, repeated ones joined by commas."""
        joined: dict[str, str] = {}
        for name, value in self.headers:
            title = name.title()
            joined[title] = f"{joined[title]},{value}" if title in joined else value
        return joined


class Ids:
    """The ids of a request: its own, its client's, and the name that once meant either."""

    __slots__ = ("client", "legacy", "refusal", "request")

    def __init__(
        self, request: str = "", client: str = "", legacy: str = "", refusal: str = ""
    ) -> None:
        self.request = request
        self.client = client
        self.legacy = legacy
        self.refusal = refusal

    @staticmethod
    def told(meta: dict[str, Any]) -> Ids:
        """Those that a router has said besides the headers."""
        own, client = str(meta["rid"]), str(meta.get("cid") or "")
        return Ids(own, client, client or own)

    def headers(self) -> list[tuple[str, str]]:
        found = [("x-request-id", self.request)] if self.request else []
        if self.client:
            found.append(("x-ms-client-request-id", self.client))
        if self.legacy:
            found.append(("x-ms-request-id", self.legacy))
        return found


class Answer:
    """What the model's server would say over HTTP. ``run_ms`` is negative if run() was not called.

    With a ``stream`` the body is still to come from there. ``ids`` are the request's: a router says
    them itself and takes none from us, so only ``all_headers`` has them.
    """

    __slots__ = ("_headers", "body", "ids", "run_ms", "status", "stream")

    def __init__(
        self,
        status: int,
        headers: Optional[list[tuple[str, str]]],
        body: bytes,
        run_ms: float = -1.0,
        stream: Optional[Stream] = None,
    ) -> None:
        """``headers`` is None for a result in JSON that has those of all such results."""
        self.status = status
        self._headers = headers
        self.body = body
        self.run_ms = run_ms
        self.stream = stream
        self.ids: Optional[Ids] = None

    @property
    def is_ordinary(self) -> bool:
        """Whether nobody has asked for its headers, so that they are those of all results."""
        return self._headers is None

    @property
    def headers(self) -> list[tuple[str, str]]:
        """To be read and added to."""
        if self._headers is None:
            self._headers = [JSON, NOT_FAILED, exec_ms(self.run_ms)]
        return self._headers

    @headers.setter
    def headers(self, headers: list[tuple[str, str]]) -> None:
        self._headers = headers

    def with_body(self, body: bytes) -> Answer:
        """The same answer once all parts of its body are known."""
        answer = Answer(self.status, self.headers, body, self.run_ms, self.stream)
        answer.ids = self.ids
        return answer

    def all_headers(self) -> list[tuple[str, str]]:
        """What a client gets that asks without a router. A script cannot set the ids."""
        theirs = self.ids.headers() if self.ids is not None else []
        names = [name for name, _ in theirs]
        return [pair for pair in self.headers if pair[0].lower() not in names] + theirs


def exec_ms(run_ms: float) -> tuple[str, str]:
    """The header that tells how long run() took."""
    return ("x-ms-run-fn-exec-ms", f"{run_ms:.3f}")


def identify(request: Request) -> Ids:
    """Azure's matrix: who sends which id gets which back."""
    if request.ids is not None:
        return request.ids
    own = request.header("x-request-id") or str(uuid4())
    if len(own) > ID_CHARS_MAX:
        return Ids(refusal=f"x-request-id must not exceed {ID_CHARS_MAX} characters")
    legacy = request.header("x-ms-request-id")
    client = request.header("x-ms-client-request-id") or legacy
    legacy = legacy or client or own
    if max(len(legacy), len(client)) > ID_CHARS_MAX:
        return Ids(
            request=own,
            refusal="x-ms-request-id and x-ms-client-request-id must not exceed "
            f"{ID_CHARS_MAX} characters",
        )
    return Ids(own, client, legacy)
