"""Where requests come from, also those that the studio sends for somebody.

The studio hears from the gateway who it is that asks, as a text that only this gateway can have
written, and sends it along. Nobody else is believed anything about an address: the text is handed
to the studio alone, over its socket, and a header of that name from outside is dropped there.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from aiohttp import web

from headgate_contracts.identity import ORIGIN_HEADER

_KEY_BYTES = 32


class Origins:
    """Written and read with a key of this process: after a restart older ones say nothing."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(_KEY_BYTES)

    def vouched(self, address: str) -> str:
        """``address`` as a text that :meth:`of` believes."""
        return f"{address} {self._mark(address)}"

    def of(self, request: web.BaseRequest) -> str:
        """The address of whoever is behind a request."""
        address, _, mark = request.headers.get(ORIGIN_HEADER, "").rpartition(" ")
        if address and hmac.compare_digest(mark.encode(), self._mark(address).encode()):
            return address
        return request.remote or ""

    def _mark(self, address: str) -> str:
        told = address.encode("utf-8", "surrogatepass")
        return hmac.new(self._key, told, hashlib.sha256).hexdigest()
