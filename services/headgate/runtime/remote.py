"""Reads files of other people's web servers, and none that they should not be able to reach.

An address is read when the administrator lists it and its host has public addresses only. The host
is looked up once and that very address is connected to, so what a name means cannot change between
the check and the use; each redirect is an address of its own. ``check`` and ``is_reachable`` are
pure.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import unquote, urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from headgate.runtime.networks import IpAddress, Network, is_within
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError

CHUNK_BYTES = 256 * 1024
RESOLVE_S = 10.0
PORTS = {"https": 443, "http": 80}

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

# A last label that begins with a digit is a number in one of the forms that resolvers understand.
_NAME = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_NAME_CHARS_MAX = 253
_NAT64 = IPv6Network("64:ff9b::/96")
# Of the clouds' services for their own machines, the one whose address counts as public (Azure).
_WIRE_SERVER = IPv4Address("168.63.129.16")
_REDIRECTS = (301, 302, 303, 307, 308)
_BUSY = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class Address:
    """An address that may be read, once its host is looked up. ``url`` is in its plainest form."""

    url: str
    host: str
    port: int

    @property
    def shown(self) -> str:
        """Without its query, which may hold a signature."""
        return _shown(self.url)


def check(uri: str, allowed: Sequence[str], networks: Sequence[Network] = ()) -> Address:
    """What ``uri`` says. Raises HeadgateError(UriNotAllowed) that tells what would be allowed.

    ``allowed`` lists ``https://host``, ``https://host:port/path`` and such; the host may be ``*``
    or begin with ``*.``. Without a port it is the scheme's own.
    """
    if not uri.isascii() or not uri.isprintable() or " " in uri or "\\" in uri:
        raise _refused(uri, "an address with such signs", allowed)
    try:
        parts = urlsplit(uri)
        scheme, host, port = parts.scheme.lower(), (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise _refused(uri, "this form of an address", allowed) from None
    if scheme not in PORTS:
        raise _refused(uri, "this kind of address", allowed)
    if "@" in parts.netloc or parts.fragment:
        raise _refused(uri, "an address with a user or a fragment", allowed)
    literal = _literal(host)
    if literal is None and (len(host) > _NAME_CHARS_MAX or not _NAME.fullmatch(host)):
        raise _refused(uri, "this form of a host", allowed)
    if literal is not None and not is_reachable(literal, networks):
        raise _refused(uri, "an address that is not public", allowed)
    path = parts.path or "/"
    if {".", ".."} & set(unquote(path).split("/")):
        raise _refused(uri, "a path with such parts", allowed)
    port = PORTS[scheme] if port is None else port
    if not any(_covers(entry, scheme, host, port, path) for entry in allowed):
        raise _refused(uri, "this address", allowed)
    bracketed = f"[{host}]" if isinstance(literal, IPv6Address) else host
    query = f"?{parts.query}" if parts.query else ""
    return Address(f"{scheme}://{bracketed}:{port}{path}{query}", host, port)


def is_reachable(address: IpAddress, networks: Sequence[Network] = ()) -> bool:
    """Whether connections may go there: to what is public, or lies in one of ``networks``.

    An IPv4 address within an IPv6 one is judged by itself. This machine's link, where clouds keep
    the credentials of their machines, is never reached.
    """
    if isinstance(address, IPv6Address):
        inner = _embedded(address)
        if inner is not None:
            return is_reachable(inner, networks)
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    if address == _WIRE_SERVER:
        return False
    return address.is_global or is_within(address, networks)


def file_name(uri: str) -> str:
    """The last part of the path: what a copy of the file is called; empty without one."""
    return unquote(urlsplit(uri).path).rpartition("/")[2]


def _shown(uri: str) -> str:
    return uri.partition("?")[0][:200]


def _literal(host: str) -> IpAddress | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


def _covers(entry: str, scheme: str, host: str, port: int, path: str) -> bool:
    parts = urlsplit(entry)
    if parts.scheme.lower() != scheme or (parts.port or PORTS[scheme]) != port:
        return False
    wanted = (parts.hostname or "").lower()
    is_host = wanted in ("*", host) or (wanted.startswith("*.") and host.endswith(wanted[1:]))
    prefix = parts.path.rstrip("/")
    return is_host and (path == prefix or path.startswith(f"{prefix}/"))


def _refused(uri: str, what: str, allowed: Sequence[str]) -> HeadgateError:
    listed = " ".join(each for each in allowed if each.partition(":")[0].lower() in PORTS)
    return HeadgateError(
        ErrorCode.URI_NOT_ALLOWED,
        f"{_shown(uri)!r}: {what} is not allowed here. Allowed are public https "
        f"addresses that the administrator lists in batch_inputs; listed: {listed or 'none'}",
        target="inputs.uri",
    )


async def leads_out(url: str, networks: Sequence[Network]) -> bool:
    """Whether every address of the host of ``url`` may be reached. Raises HeadgateError."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if (literal := _literal(host)) is not None:
        return is_reachable(literal, networks)
    found = await _found(host, parts.port or PORTS.get(parts.scheme, 0), _resolve)
    return bool(found) and all(is_reachable(ip_address(each), networks) for each in found)


# --- reading -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Remote:
    """Reads what ``allowed`` lists. ``networks`` may be reached although they are not public."""

    allowed: Sequence[str]
    networks: Sequence[Network] = ()
    bytes_max: int = limits.BATCH_HTTP_BYTES_MAX
    idle_s: float = limits.BATCH_HTTP_IDLE_S
    total_s: float = limits.BATCH_HTTP_TOTAL_S
    resolve: Resolve | None = None

    async def look_up(self, uri: str) -> tuple[Address, Sequence[str]]:
        """The address, and where it leads. Raises HeadgateError(UriNotAllowed)."""
        address = check(uri, self.allowed, self.networks)
        if _literal(address.host) is not None:
            return address, [address.host]
        found = await _found(address.host, address.port, self.resolve or _resolve)
        wrong = [each for each in found if not is_reachable(ip_address(each), self.networks)]
        if wrong or not found:  # not the address itself: who asks shall not map our network
            raise _refused(uri, "a host whose address is not public", self.allowed)
        return address, found

    async def size_bytes(self, uri: str) -> int:
        """How long the file is; one whose server does not say so is read for it."""
        async with self._opened(uri, 0, None) as response:
            said = response.content_length
            if said is not None:
                return said
            size = 0
            async for chunk in self._chunks(uri, response):
                size += len(chunk)
            return size

    async def read(
        self, uri: str, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """The bytes of the file from ``start`` up to, not including, ``end``.

        Raises HeadgateError: UriNotAllowed, ResourceNotFound, PayloadTooLarge, or
        ServiceUnavailable for what may be mended by trying again.
        """
        async with self._opened(uri, start, end) as response:
            at = start if response.status == 206 else 0
            async for chunk in self._chunks(uri, response):
                first, last = max(0, start - at), None if end is None else end - at
                at += len(chunk)
                if wanted := chunk[first:last]:
                    yield wanted
                if end is not None and at >= end:
                    return

    async def post(self, uri: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Send a body; the status of the answer, of which nothing else is read, nor followed.

        Raises HeadgateError: UriNotAllowed, ResourceNotFound or ServiceUnavailable.
        """
        address, found = await self.look_up(uri)
        try:
            async with (
                self._session(address, found) as session,
                session.post(
                    URL(address.url, encoded=True),
                    data=body,
                    headers={"User-Agent": "headgate", **headers},
                    allow_redirects=False,
                ) as response,
            ):
                return response.status
        except aiohttp.ClientResponseError:
            raise _failed(address.shown, "its server does not speak HTTP") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _failed(address.shown, str(error) or type(error).__name__) from None

    def _session(self, address: Address, found: Sequence[str]) -> aiohttp.ClientSession:
        """One that connects to the addresses that were checked, and to no other."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_Known(address.host, found), use_dns_cache=False, force_close=True
            ),
            timeout=aiohttp.ClientTimeout(
                total=self.total_s, sock_connect=self.idle_s, sock_read=self.idle_s
            ),
            auto_decompress=False,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=CHUNK_BYTES,
        )

    @asynccontextmanager
    async def _opened(
        self, uri: str, start: int, end: int | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, after at most three redirects, each of which is checked anew."""
        headers = {"Accept-Encoding": "identity", "User-Agent": "headgate"}
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        try:
            for _ in range(limits.BATCH_HTTP_REDIRECTS_MAX + 1):
                address, found = await self.look_up(uri)
                async with (
                    self._session(address, found) as session,
                    session.get(
                        URL(address.url, encoded=True), headers=headers, allow_redirects=False
                    ) as response,
                ):
                    if response.status not in _REDIRECTS:
                        self._judge(address, response, start)
                        yield response
                        return
                    uri = urljoin(address.url, response.headers.get("Location", ""))
            raise _refused(
                uri, f"more than {limits.BATCH_HTTP_REDIRECTS_MAX} redirects", self.allowed
            )
        except aiohttp.ClientResponseError:  # its text repeats the query
            raise _failed(_shown(uri), "its server does not speak HTTP") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            text = str(error) or type(error).__name__
            raise _failed(_shown(uri), text) from None

    def _judge(self, address: Address, response: aiohttp.ClientResponse, start: int) -> None:
        status = response.status
        if status >= 500 or status in _BUSY:
            raise _failed(address.shown, f"its server answered {status}")
        if status not in (200, 206):
            raise HeadgateError(
                ErrorCode.RESOURCE_NOT_FOUND,
                f"{address.shown}: its server answered {status}",
                target="inputs.uri",
            )
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"{address.shown}: its server sends it compressed for transport, although it was "
                "asked not to",
                target="inputs.uri",
            )
        if status == 206 and not response.headers.get("Content-Range", "").startswith(
            f"bytes {start}-"
        ):
            raise _failed(address.shown, "its server sent another part than it was asked for")
        if (response.content_length or 0) > self.bytes_max:
            raise self._too_large(address.shown)

    async def _chunks(self, uri: str, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            size += len(chunk)
            if size > self.bytes_max:
                raise self._too_large(_shown(uri))
            yield chunk

    def _too_large(self, shown: str) -> HeadgateError:
        return HeadgateError(
            ErrorCode.PAYLOAD_TOO_LARGE,
            f"{shown} is larger than {self.bytes_max} bytes, the most that is read from a web "
            "server; upload it to a datastore",
            target="inputs.uri",
        )


class _Known(AbstractResolver):
    """Answers with the addresses that were checked."""

    def __init__(self, host: str, found: Sequence[str]) -> None:
        self._host = host
        self._found = found

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if host != self._host:
            raise OSError("another host than the one that was checked")
        return [
            ResolveResult(
                hostname=host,
                host=each,
                port=port,
                family=socket.AF_INET6 if ":" in each else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for each in self._found
        ]

    async def close(self) -> None:
        """Nothing is open."""


async def _found(host: str, port: int, resolve: Resolve) -> Sequence[str]:
    try:
        async with asyncio.timeout(RESOLVE_S):
            return await resolve(host, port)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise _failed(host, "cannot be looked up now") from None
        raise HeadgateError(
            ErrorCode.RESOURCE_NOT_FOUND, f"there is no host {host!r}", target="inputs.uri"
        ) from None
    except (OSError, TimeoutError) as error:
        raise _failed(host, f"cannot be looked up: {error}") from None


async def _resolve(host: str, port: int) -> Sequence[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def _failed(shown: str, text: str) -> HeadgateError:
    return HeadgateError(ErrorCode.UNAVAILABLE, f"{shown}: {text}", retry_after_s=1)
