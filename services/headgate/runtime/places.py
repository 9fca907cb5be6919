"""Where the data of jobs lies: our own store, another one by URL, a datastore's, a web server's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from headgate.runtime.bus import Bus
from headgate.runtime.datastores import Datastores
from headgate.runtime.networks import networks_of
from headgate.runtime.remote import Remote
from headgate.runtime.settings import Settings
from headgate.runtime.store import Store
from headgate_contracts.nodes import Place


class Places:
    """Opens files of a place. Stores are made once for each URL."""

    def __init__(self, own: Store, web: Remote, datastores: Datastores) -> None:
        self._own = own
        self._others: dict[str, Store] = {}
        self._datastores = datastores
        self.web = web

    async def store_of(self, place: Place) -> Store:
        """The store that a place is in; it must not be on the web.

        Raises HeadgateError(BadArgument) for an unusable URL, and what is wrong with a datastore.
        """
        if place.datastore:
            return await self._datastores.open(place.workspace, place.datastore)
        if not place.url:
            return self._own
        found = self._others.get(place.url)
        if found is None:
            found = self._others[place.url] = Store(place.url)
        return found

    async def folder_of(self, place: Place) -> Path | None:
        """The folder of this machine that the store of a place is, if it is one."""
        return None if place.is_web else (await self.store_of(place)).folder

    async def read(
        self, place: Place, path: str, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """The bytes of a file of the place from ``start`` up to, not including, ``end``."""
        if place.is_web:
            chunks = self.web.read(place.url, start=start, end=end)
        else:
            store = await self.store_of(place)
            chunks = store.get(joined(place.path, path), start=start, end=end)
        async for chunk in chunks:
            yield chunk


def open_places(settings: Settings, own: Store, bus: Bus) -> Places:
    """The places that a service's settings allow. Raises HeadgateError for what they cannot be."""
    networks = networks_of(settings.batch_networks)
    web = Remote(settings.batch_inputs.split(), networks)
    return Places(own, web, Datastores(bus, networks))


def joined(prefix: str, path: str) -> str:
    """The key of a file below a prefix; either may be empty."""
    return "/".join(part for part in (prefix.strip("/"), path) if part)
