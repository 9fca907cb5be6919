"""One scoring request as it came off the bus, and the answer that goes back."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional
from uuid import uuid4

from headgate_worker.streams import Stream

ID_CHARS_MAX = 100


class Request:
    """A frame that was taken: what to answer, until when, and the HTTP request itself."""

    __slots__ = (
        "_index",
        "body",
        "came_ms",
        "came_s",
        "deadline_ms",
        "headers",
        "id",
        "left",
        "method",
        "path",
        "query",
        "reply",
        "window",
    )

    def __init__(self, reply: str, meta: dict[str, Any], body: bytes, deadline_ms: float) -> None:
        self.reply = reply
        self.id = meta["id"]
        self.deadline_ms = deadline_ms
        self.came_ms = 0.0  # when, of a request that is traced
        self.left = False  # nobody waits for its answer any more
        # How far an answer in parts may go at first, in bytes; 0: it has to come as a whole.
        self.window = int(meta.get("w") or 0)
        self.method = str(meta.get("m") or "POST").upper()
        self.path = str(meta.get("p") or "/score")
        self.query = str(meta.get("q") or "")
        self.headers: list[tuple[str, str]] = [
            (str(name), str(value)) for name, value in meta.get("h") or ()
        ]
        self.body = body
        self.came_s = 0.0  # when it came (monotonic), where that matters
        self._index: Optional[dict[str, str]] = None

    def header(self, name: str, default: str = "") -> str:
        """The last value of a header; ``name`` in lower case."""
        if self._index is None:
            self._index = {key.lower(): value for key, value in self.headers}
        return self._index.get(name, default)

    def header_dict(self) -> dict[str, str]:
        """As scripts get them: ``X-Request-Id``, repeated ones joined by commas."""
        joined: dict[str, str] = {}
        for name, value in self.headers:
            title = name.title()
            joined[title] = f"{joined[title]},{value}" if title in joined else value
        return joined

    @property
    def is_json(self) -> bool:
        kind = self.header("content-type").partition(";")[0].strip().lower()
        return kind == "application/json" or (
            kind.startswith("application/") and kind.endswith("+json")
        )


class Answer(NamedTuple):
    """What the model's server would say over HTTP. ``run_ms`` is negative if run() was not.

    With a ``stream`` the body is still to come from there.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    run_ms: float = -1.0
    stream: Optional[Stream] = None


class Ids(NamedTuple):
    """The ids of a request: its own, its client's, and the name that once meant either."""

    request: str = ""
    client: str = ""
    legacy: str = ""
    refusal: str = ""

    def headers(self) -> list[tuple[str, str]]:
        found = [("x-request-id", self.request)] if self.request else []
        if self.legacy:
            found.append(("x-ms-request-id", self.legacy))
        if self.client:
            found.append(("x-ms-client-request-id", self.client))
        return found


def identify(request: Request) -> Ids:
    """Azure's matrix: who sends which id gets which back."""
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
