"""Random UUIDs (version 4) as text, for ids that are given by the thousand a second."""

from __future__ import annotations

import random
import secrets
from typing import Final

_BLOCK = 512
_TELLING: Final = [f"{n:04x}" for n in random.sample(range(16**4), _BLOCK)]


class Uuids:
    """Draws chance for many of them at once.

    Those of a block share 18 random digits, and a group of four tells them apart for certain.
    """

    __slots__ = ("_drawn", "_next", "_shared")

    def __init__(self) -> None:
        self._next = _BLOCK
        self._drawn = self._shared = ""

    def new(self) -> str:
        at = self._next
        if at >= _BLOCK:
            at = 0
            self._drawn = secrets.token_hex(4 * _BLOCK)
            d = secrets.token_hex(9)
            self._shared = f"4{d[:3]}-a{d[3:6]}-{d[6:]}"
        self._next = at + 1
        return f"{self._drawn[8 * at : 8 * at + 8]}-{_TELLING[at]}-{self._shared}"
