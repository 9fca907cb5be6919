"""What a TLS port answers to a client that forgot the ``s`` of ``https``: 400 and what to do.

Without it such a client sees its connection end, and nothing else. The first byte says which it is:
records of TLS begin with a number below 32, requests of HTTP with a letter of their method. Each
connection is looked at once, and then no more.
"""

from __future__ import annotations

import ssl

_BODY = (
    b'{"error": {"code": "BadArgument", "message": '
    b'"this port speaks TLS: write https:// instead of http://"}}\n'
)
ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(_BODY), _BODY)
)


class _Handshake(ssl.SSLObject):
    """A connection that sees what comes before it is taken for TLS."""

    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    is_plain: bool | None = None  # None: nothing has come

    def do_handshake(self) -> None:
        if self.is_plain is None and self.incoming.pending:
            first = self.incoming.read()
            self.is_plain = first[:1].isalpha()
            if self.is_plain:
                self.outgoing.write(ANSWER)
            else:
                self.incoming.write(first)
        if not self.is_plain:
            return super().do_handshake()
        self.incoming.read()  # the rest of the request is of no use
        # The caller sends what is outgoing and waits: for the end, or the handshake's time-out.
        raise ssl.SSLWantReadError


class ServerContext(ssl.SSLContext):
    """A listener's context that answers plain HTTP."""

    sslobject_class = _Handshake

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        wrapped = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        assert isinstance(wrapped, _Handshake)
        wrapped.incoming, wrapped.outgoing = incoming, outgoing
        return wrapped
