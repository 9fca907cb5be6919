"""Bodies on their way into the object store: never held as a whole, hashed as they pass."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterator

from aiohttp import ClientPayloadError, web

from headgate.gateway.http import check_length, too_large
from headgate.gateway.storage_errors import MD5, NO_MD5
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError

CHUNK_BYTES = 1024 * 1024
CHUNK_ARRIVAL_S = 60.0


class Incoming:
    """A body on its way: counted, hashed, and checked at its end against what was announced."""

    def __init__(
        self, request: web.BaseRequest, *, of_azure: bool = False, blob_md5: str | None = None
    ) -> None:
        """``of_azure``: in Azure's protocol metadata is the client's own, and MD5 what counts.

        ``blob_md5`` is announced beside ``Content-MD5``, with the same meaning.
        """
        check_length(request, limits.UPLOAD_FILE_BYTES_MAX)
        self._request = request
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        announced = "" if of_azure else request.headers.get("x-ms-meta-sha256", "")
        self._announced_sha256 = announced.lower()
        given = (request.headers.get("Content-MD5"), blob_md5)
        self._announced_md5 = {read_md5(text) for text in given if text is not None}
        self._wants_md5 = of_azure or bool(self._announced_md5)
        self.failure: HeadgateError | ConnectionError | None = None

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def md5(self) -> bytes:
        """Of what has come so far, when it is wanted at all."""
        return self._md5.digest()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes. A failure is also kept, for writers that lose what an iterator raises."""
        try:
            async for chunk in self._checked():
                yield chunk
        except (HeadgateError, ConnectionError) as error:
            self.failure = error
            raise

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Around a writer: whatever it makes of a failure on the way here, that one is raised."""
        try:
            yield
        except BaseException:
            if self.failure is not None:
                raise self.failure from None
            raise

    async def whole(self, bytes_max: int) -> bytes:
        """A small body at once."""
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > bytes_max:
                raise too_large(bytes_max)
        return bytes(body)

    async def _checked(self) -> AsyncIterator[bytes]:
        size_bytes = 0
        while chunk := await self._next():
            size_bytes += len(chunk)
            if size_bytes > limits.UPLOAD_FILE_BYTES_MAX:
                raise too_large(limits.UPLOAD_FILE_BYTES_MAX)
            await asyncio.to_thread(self._hash, chunk)
            yield chunk
        if self._announced_sha256 not in ("", self.sha256):
            raise _differs("x-ms-meta-sha256", self._announced_sha256, self.sha256)
        if self._announced_md5 - {self._md5.digest()}:
            raise md5_differs()

    async def _next(self) -> bytes:
        """Up to one chunk, gathered from what the network delivers in small pieces."""
        gathered = bytearray()
        try:
            async with asyncio.timeout(CHUNK_ARRIVAL_S):
                while len(gathered) < CHUNK_BYTES:
                    piece = await self._request.content.readany()
                    if not piece:
                        break
                    gathered += piece
        except TimeoutError:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT, f"nothing arrived within {CHUNK_ARRIVAL_S:g} s"
            ) from None
        except ClientPayloadError:
            raise HeadgateError(ErrorCode.BAD_ARGUMENT, "the body ended before it was whole") from (
                None
            )
        return bytes(gathered)

    def _hash(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        if self._wants_md5:
            self._md5.update(chunk)


def read_md5(text: str) -> bytes:
    """A digest as HTTP writes it."""
    with contextlib.suppress(ValueError):
        digest = base64.b64decode(text, validate=True)
        if len(digest) == hashlib.md5(usedforsecurity=False).digest_size:
            return digest
    raise HeadgateError(
        ErrorCode.BAD_ARGUMENT, "the MD5 digest is not base64 of 16 bytes", target=NO_MD5
    )


def md5_differs() -> HeadgateError:
    return _differs(MD5, "the one announced", "another")


def _differs(header: str, announced: str, found: str) -> HeadgateError:
    return HeadgateError(
        ErrorCode.BAD_ARGUMENT,
        f"the content is not what {header} announced ({announced[:64]}, but {found} arrived); "
        "send it again",
        target=header,
    )
