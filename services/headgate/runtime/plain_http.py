"""What a TLS port answers to a client that forgot the ``s`` of ``https``: 400 and what to do.

Without it such a client sees its connection end, and nothing else. The answer is given within the
handshake, which fails in any case: what is encrypted passes through here once, and then no more.
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
_HTTP_REQUEST = "HTTP_REQUEST"  # OpenSSL's reason for what begins with GET, POST, HEAD or PUT


class _Handshake(ssl.SSLObject):
    """A connection that knows where its answers go."""

    outgoing: ssl.MemoryBIO
    is_answered = False

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except ssl.SSLError as error:
            if error.reason != _HTTP_REQUEST or self.is_answered:
                raise
            self.is_answered = True
            self.outgoing.write(ANSWER)
            # The caller sends what is outgoing and waits: for the end, or the handshake's time-out.
            raise ssl.SSLWantReadError from None


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
        wrapped.outgoing = outgoing
        return wrapped
