"""Which other sites may let browsers call this deployment: ``AML_CORS_ORIGINS``."""

from __future__ import annotations

import re
from typing import Union

from headgate_worker.request import Request

METHODS = "GET, POST"
_REGEX_SIGNS = frozenset("*\\]?$^[]()")

Pairs = list[tuple[str, str]]


class Cors:
    """Decides the headers of each answer. An origin with a regular expression's signs is one."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._any = "*" in origins
        self._origins: list[Union[str, re.Pattern[str]]] = [
            origin if _REGEX_SIGNS.isdisjoint(origin) else re.compile(origin, re.IGNORECASE)
            for origin in origins
            if origin != "*"
        ]

    def headers(self, request: Request) -> Pairs:
        allowed = self._allowed(request.header("origin"))
        if not allowed:
            return []
        found = [("Access-Control-Allow-Origin", allowed)]
        wanted = request.header("access-control-request-method").upper()
        if request.method == "OPTIONS" and wanted in ("GET", "POST"):
            asked = request.header("access-control-request-headers")
            if asked:
                names = ", ".join(sorted(name.strip() for name in asked.split(",")))
                found.append(("Access-Control-Allow-Headers", names))
            found.append(("Access-Control-Allow-Methods", METHODS))
        if allowed != "*" and self._depends_on_origin():
            found.append(("Vary", "Origin"))
        return found

    def _allowed(self, origin: str) -> str:
        """The origin that the answer names; empty for one that is not allowed."""
        if origin:
            return origin if self._any or any(_fits(a, origin) for a in self._origins) else ""
        return (
            "*" if self._any else min((o for o in self._origins if isinstance(o, str)), default="")
        )

    def _depends_on_origin(self) -> bool:
        patterns = any(isinstance(origin, re.Pattern) for origin in self._origins)
        return self._any or patterns or len(self._origins) > 1


def _fits(allowed: Union[str, re.Pattern[str]], origin: str) -> bool:
    if isinstance(allowed, str):
        return allowed.casefold() == origin.casefold()
    return allowed.match(origin) is not None
