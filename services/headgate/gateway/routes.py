"""The route table: which handler serves which verb on which path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from headgate.azure.arm_fields import Json
from headgate.azure.arm_ids import PROVIDER
from headgate.gateway.access import Action, action_of, nothing_here
from headgate.gateway.repeats import Repeats
from headgate_contracts.errors import ErrorCode, HeadgateError

if TYPE_CHECKING:
    from headgate.gateway.authentication import Guard

H = TypeVar("H")

WORKSPACE = (
    "/subscriptions/{subscription}/resourceGroups/{resourceGroup}"
    f"/providers/{PROVIDER}/workspaces/{{workspace}}"
)


@dataclass(frozen=True, slots=True)
class Route(Generic[H]):
    """One row. ``path`` has ``{name}`` for one segment and, at its end, ``{name...}`` for the rest.

    ``action`` is what a caller must be allowed to do, where that does not follow from the verb.
    ``guard`` is the route's own way to tell who is calling; it answers for their rights too.
    ``conditional`` routes honour ``If-Match``, and the same path can be read with GET;
    ``repeats`` says what becomes of an ``Idempotency-Key``; ``audited`` is False for the pieces of
    an upload, of which there are many.

    For the OpenAPI document: the schemas ``body`` (which may be left out when it is
    ``body_optional``) and ``reply`` (None: an empty answer), the ``media`` type of the reply,
    ``answers`` (status -> what it means), ``refusals`` that do not follow from the rest, and
    whether an answer is ``tagged`` with a revision.
    """

    verb: str
    path: str
    handler: H
    summary: str
    query: tuple[str, ...] = ()
    body: Json | None = None
    body_optional: bool = False
    reply: Json | None = None
    media: str = "application/json"
    answers: Mapping[int, str] = field(default_factory=lambda: {200: "done"})
    refusals: tuple[int, ...] = ()
    tagged: bool = False
    public: bool = False
    action: Action | None = None
    guard: Guard | None = None
    conditional: bool = False
    repeats: Repeats = Repeats.IGNORED
    audited: bool = True

    @property
    def needs(self) -> Action:
        """What a caller must be allowed to do; follows from the verb unless it is said."""
        return self.action or action_of(self.verb)

    @property
    def is_audited(self) -> bool:
        """Whether who asks for it is kept: it changes something, or reads a secret."""
        if self.public or self.guard or self.verb in ("GET", "HEAD"):
            return False
        is_change = self.verb != "POST" or self.needs not in (Action.READ, Action.ANY)
        return is_change and self.audited


@dataclass(frozen=True, slots=True)
class Match(Generic[H]):
    """A route with the values of its path's names."""

    route: Route[H]
    params: Mapping[str, str]


class RouteTable(Generic[H]):
    """Finds routes. Fixed segments match whatever their case, as ARM wants it."""

    def __init__(self, routes: Iterable[Route[H]]) -> None:
        self.routes = tuple(routes)
        self._patterns = [
            ([part for part in route.path.split("/") if part], route) for route in self.routes
        ]

    def find_exempt(self, verb: str, segments: Sequence[str]) -> Match[H] | None:
        """The route, when it is public or has a guard of its own."""
        for match in self._matches(segments):
            if match.route.verb == verb and (match.route.public or match.route.guard):
                return match
        return None

    def find(self, verb: str, segments: Sequence[str]) -> Match[H]:
        """The route, or HeadgateError(ResourceNotFound or MethodNotAllowed)."""
        matches = self._matches(segments)
        for match in matches:
            if match.route.verb == verb:
                return match
        if matches:
            allowed = ", ".join(sorted({match.route.verb for match in matches}))
            raise HeadgateError(
                ErrorCode.METHOD_NOT_ALLOWED,
                f"{verb[:20]} is not possible here; {allowed} is",
                target=allowed,
            )
        raise nothing_here()

    def _matches(self, segments: Sequence[str]) -> list[Match[H]]:
        found = []
        for pattern, route in self._patterns:
            params = _match(pattern, segments)
            if params is not None:
                found.append(Match(route, params))
        return found


def _match(pattern: Sequence[str], segments: Sequence[str]) -> dict[str, str] | None:
    params: dict[str, str] = {}
    takes_rest = bool(pattern) and pattern[-1].endswith("...}")
    if len(segments) < len(pattern) or (len(segments) > len(pattern) and not takes_rest):
        return None
    for part, segment in zip(pattern, segments, strict=False):
        if part.endswith("...}"):
            params[part[1:-4]] = "/".join(segments[len(pattern) - 1 :])
        elif part.startswith("{"):
            params[part[1:-1]] = segment
        elif part.lower() != segment.lower():
            return None
    return params
