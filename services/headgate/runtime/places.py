"""Where the data of jobs lies: our own store, another one by URL, or one file by its address."""

from __future__ import annotations

from collections.abc import AsyncIterator

from headgate.runtime.store import Store
from headgate_contracts.nodes import Place


class Places:
    """Opens files of a place. Stores are made once for each URL."""

    def __init__(self, own: Store) -> None:
        self._own = own
        self._others: dict[str, Store] = {}

    def store_of(self, place: Place) -> Store:
        """The store that a place is in. Raises HeadgateError(BadArgument) for an unusable URL."""
        if not place.url:
            return self._own
        found = self._others.get(place.url)
        if found is None:
            found = self._others[place.url] = Store(place.url)
        return found

    def read(
        self, place: Place, path: str, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """The bytes of a file of the place from ``start`` up to, not including, ``end``."""
        return self.store_of(place).get(joined(place.path, path), start=start, end=end)


def joined(prefix: str, path: str) -> str:
    """The key of a file below a prefix; either may be empty."""
    return "/".join(part for part in (prefix.strip("/"), path) if part)
