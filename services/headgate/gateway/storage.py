"""The part of Azure's blob protocol that uploads and downloads need, over our object store.

Clients reach it at ``/<workspace>.blob.core.windows.net/<container>/<blob>`` of the gateway. It has
ways of its own with paths, rights and errors, so it is served apart from the table of routes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from headgate.gateway import storage_core as core
from headgate.gateway.authentication import AUDIENCES, Authenticator
from headgate.gateway.backend import Backend
from headgate.gateway.core import whole_seconds
from headgate.gateway.incoming import Incoming, read_md5
from headgate.gateway.storage_core import Note, Place, Rights, Stored
from headgate.gateway.storage_errors import (
    StorageError,
    bad_header,
    bad_query,
    error_xml,
    not_found,
    refusal_of,
)
from headgate.gateway.storage_lists import list_xml, read_wanted
from headgate.gateway.storage_objects import SMALL_BYTES_MAX, Change, Objects
from headgate.runtime.store import Opened
from headgate.runtime.tokens import Principal
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.identity import STORAGE_AUDIENCE

BLOCK_LIST_BYTES_MAX = 8 * 1024 * 1024
SWEEP_FIRST_S, SWEEP_EVERY_S = 300.0, 86_400.0
RANGE_MD5_BYTES_MAX = 4 * 1024 * 1024  # Azure's limit
READ_TRIES = 5
BLOB_MD5 = "x-ms-blob-content-md5"
VERSION = "2023-11-03"
_VERBS = ("GET", "HEAD", "PUT", "DELETE")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, what it is about, and what its caller may do there."""

    request: web.BaseRequest
    place: Place
    rights: Rights


Handle = Callable[[Asked], Awaitable[web.StreamResponse]]


class Storage:
    """Serves blobs of all workspaces to those who may have them."""

    def __init__(self, backend: Backend, authenticator: Authenticator) -> None:
        self._backend = backend
        self._objects = Objects(backend.store, backend.clock)
        self._authenticator = authenticator
        # (verb, comp, restype is container) -> handler, and letters of which one is needed
        self._operations: dict[tuple[str, str, bool], tuple[Handle, str]] = {
            ("GET", "", False): (self._get, "r"),
            ("HEAD", "", False): (self._head, "r"),
            ("GET", "metadata", False): (self._metadata, "r"),
            ("HEAD", "metadata", False): (self._metadata, "r"),
            ("PUT", "", False): (self._put, "wc"),
            ("PUT", "metadata", False): (self._put_metadata, "w"),
            ("PUT", "properties", False): (self._put_properties, "w"),
            ("PUT", "block", False): (self._put_block, "wc"),
            ("PUT", "blocklist", False): (self._put_block_list, "wc"),
            ("DELETE", "", False): (self._delete, "d"),
            ("GET", "list", True): (self._list, "l"),
            ("GET", "", True): (self._container, "rl"),
            ("HEAD", "", True): (self._container, "rl"),
            ("PUT", "", True): (self._create_container, "wc"),
        }

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Any request of the protocol, with refusals in its own form."""
        try:
            return await self._answer(request)
        except StorageError as error:
            return _refusal(error)
        except HeadgateError as error:
            return _refusal(refusal_of(error.error))

    async def sweep(self) -> None:
        """Once a day, remove what was begun and never finished; until the gateway stops.

        Soon after the start for the first time, for not every gateway runs for a day.
        """
        wait_s = SWEEP_FIRST_S
        while not await self._backend.closes_within(wait_s):
            await self._objects.sweep()
            wait_s = SWEEP_EVERY_S

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        who = self._caller(request)
        place = core.read_place(request.raw_path)
        rights = core.rights_of(who, place)
        query = request.query
        key = (request.method, query.get("comp", ""), query.get("restype") == "container")
        handler, letters = self._operations.get(key, (None, ""))
        if handler is None and request.method not in _VERBS:
            raise StorageError(405, "UnsupportedHttpVerb", f"There are {', '.join(_VERBS)} here.")
        if handler is None or key[2] == bool(place.blob):
            raise StorageError(400, "InvalidUri", "This operation is not known here.")
        for name in ("snapshot", "versionid"):
            if query.get(name):
                raise bad_query(name, "only the present state of a blob is kept.")
        core.check_headers(request.headers)
        rights.require(*letters)
        return await handler(Asked(request, place, rights))

    def _caller(self, request: web.BaseRequest) -> Principal:
        """Whose signature it is, or whose token."""
        if signature := request.query.get("sig", ""):
            who = self._authenticator.check(request, signature, (STORAGE_AUDIENCE,))
            if who.storage is None:  # addresses are written down in many places
                raise StorageError(
                    403, "AuthenticationFailed", "A token goes into the header Authorization."
                )
            return who
        return self._authenticator.bearer(request, (STORAGE_AUDIENCE, *AUDIENCES))

    # --- reading -------------------------------------------------------------------------------

    async def _found(self, asked: Asked) -> Stored:
        stored = await self._objects.find(asked.place)
        if stored is None:
            raise not_found()
        core.check_conditions(asked.request.headers, stored, reading=True)
        return stored

    async def _head(self, asked: Asked) -> web.StreamResponse:
        return web.Response(headers=_headers(await self._found(asked)))

    async def _metadata(self, asked: Asked) -> web.StreamResponse:
        return web.Response(headers=_headers(await self._found(asked)) | {"Content-Length": "0"})

    async def _get(self, asked: Asked) -> web.StreamResponse:
        for _ in range(READ_TRIES):
            stored = await self._found(asked)
            given, size_bytes = asked.request.headers, stored.blob.size_bytes
            span = core.read_range(given.get("x-ms-range") or given.get("Range"), size_bytes)
            start, end = span or (0, size_bytes)
            opened = await self._objects.open(stored, start, end)
            if opened is not None:
                break
        else:
            raise HeadgateError(
                ErrorCode.UNAVAILABLE, "the blob is replaced all the time; read it again"
            )
        headers = _headers(stored) | {"Content-Length": str(end - start)}
        if span:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size_bytes}"
            if whole := headers.pop("Content-MD5", ""):
                headers[BLOB_MD5] = whole
        if given.get("x-ms-range-get-content-md5", "").lower() == "true":
            return await _with_md5(opened, headers, end - start)
        response = web.StreamResponse(status=206 if span else 200, headers=headers)
        await response.prepare(asked.request)
        await send(asked.request, response, opened, end - start)
        return response

    # --- writing -------------------------------------------------------------------------------

    def _change(self, asked: Asked) -> Change:
        """What a request wants to change, if its conditions are met."""
        headers = asked.request.headers
        is_new = headers.get("If-None-Match", "").strip() == "*"
        return Change(
            asked.place,
            partial(core.check_conditions, headers),
            create_only=is_new or asked.rights.creates_only,
        )

    async def _put(self, asked: Asked) -> web.StreamResponse:
        """A whole blob at once."""
        request = asked.request
        if request.headers.get("x-ms-blob-type", "BlockBlob").lower() != "blockblob":
            raise bad_header("x-ms-blob-type", "only block blobs can be stored here")
        note = _note(request)
        incoming = Incoming(request, of_azure=True, blob_md5=request.headers.get(BLOB_MD5))
        is_small = 0 <= _length(request) <= SMALL_BYTES_MAX
        with incoming.told():
            stored = await self._objects.write(
                self._change(asked), incoming, note, is_small=is_small
            )
        return _written(stored, md5=stored.note.md5)

    async def _put_metadata(self, asked: Asked) -> web.StreamResponse:
        metadata = core.read_metadata(asked.request.headers.items())
        stored = await self._objects.annotate(self._change(asked), metadata=metadata)
        return _written(stored, status=200)

    async def _put_properties(self, asked: Asked) -> web.StreamResponse:
        content_type = core.read_content_type(asked.request.headers)
        kept = core.read_kept(asked.request.headers)
        change = self._change(asked)
        stored = await self._objects.annotate(change, content_type=content_type, kept=kept)
        return _written(stored, status=200)

    async def _put_block(self, asked: Asked) -> web.StreamResponse:
        block_id = core.check_block_id(asked.request.query.get("blockid"))
        incoming = Incoming(asked.request, of_azure=True)
        with incoming.told():
            await self._objects.write_block(asked.place, block_id, incoming)
        md5 = base64.b64encode(incoming.md5).decode()
        return web.Response(status=201, headers={"Content-MD5": md5, "x-ms-version": VERSION})

    async def _put_block_list(self, asked: Asked) -> web.StreamResponse:
        """The answer's digest is that of the list, as clients check what they have sent."""
        note, announced = _note(asked.request), asked.request.headers.get(BLOB_MD5)
        incoming = Incoming(asked.request, of_azure=True)
        raw = await incoming.whole(BLOCK_LIST_BYTES_MAX)
        block_ids = core.read_block_list(raw.decode("utf-8", "replace"))
        blob_md5 = None if announced is None else read_md5(announced)
        stored = await self._objects.commit(self._change(asked), block_ids, note, md5=blob_md5)
        return _written(stored, md5=base64.b64encode(incoming.md5).decode())

    async def _delete(self, asked: Asked) -> web.StreamResponse:
        await self._objects.delete(self._change(asked))
        return web.Response(status=202, headers={"x-ms-version": VERSION})

    # --- containers ----------------------------------------------------------------------------

    async def _container(self, _: Asked) -> web.StreamResponse:
        """Containers are there as soon as somebody may address them."""
        return web.Response(headers=_CONTAINER_HEADERS)

    async def _create_container(self, _: Asked) -> web.StreamResponse:
        return web.Response(status=201, headers=_CONTAINER_HEADERS)

    async def _list(self, asked: Asked) -> web.StreamResponse:
        request, place = asked.request, asked.place
        wanted = read_wanted(request.query)
        if not wanted.prefix.startswith(asked.rights.prefix):
            raise StorageError(
                403, "AuthorizationFailure", "The signature opens only names below its prefix."
            )
        page, blobs = await self._objects.page(place, wanted)
        address = f"{request.scheme}://{request.host}/"
        text = list_xml(address, place.container, wanted, page, blobs)
        return web.Response(
            text=text, content_type="application/xml", headers={"x-ms-version": VERSION}
        )


_CONTAINER_HEADERS = {
    "ETag": '"0x0"',
    "Last-Modified": core.http_date(0),
    "x-ms-lease-status": "unlocked",
    "x-ms-lease-state": "available",
    "x-ms-version": VERSION,
}


def _length(request: web.BaseRequest) -> int:
    """The announced length; -1 when it is not."""
    return -1 if request.content_length is None else request.content_length


def _note(request: web.BaseRequest) -> Note:
    """What a request says of the blob that it writes."""
    return Note(
        content_type=core.read_content_type(request.headers),
        metadata=core.read_metadata(request.headers.items()),
        kept=core.read_kept(request.headers),
    )


async def send(
    request: web.BaseRequest, response: web.StreamResponse, opened: Opened, size_bytes: int
) -> None:
    """The bytes of an answer that has begun.

    When they break off, so does the connection: nothing else may be written where the client
    expects the rest of its blob.
    """
    try:
        async for chunk in opened.chunks:
            size_bytes -= len(chunk)
            await response.write(chunk)
        if size_bytes:
            raise ConnectionError("the object store had fewer bytes than it said")
    except (HeadgateError, ConnectionError) as error:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionError(f"an answer broke off: {error}") from error
    await response.write_eof()


async def _with_md5(opened: Opened, headers: dict[str, str], size_bytes: int) -> web.Response:
    """A small part with a digest of its own, for clients that check what they get."""
    if size_bytes > RANGE_MD5_BYTES_MAX:
        raise bad_header("x-ms-range-get-content-md5", "the range may have 4 MiB")
    body = b"".join([chunk async for chunk in opened.chunks])
    md5 = hashlib.md5(body, usedforsecurity=False).digest()
    headers["Content-MD5"] = base64.b64encode(md5).decode()
    return web.Response(
        status=206 if "Content-Range" in headers else 200, headers=headers, body=body
    )


def _written(stored: Stored, *, status: int = 201, md5: str = "") -> web.Response:
    headers = {
        "ETag": stored.etag,
        "Last-Modified": core.http_date(stored.blob.modified_at),
        "x-ms-request-server-encrypted": "false",
        "x-ms-version": VERSION,
    }
    if md5:
        headers["Content-MD5"] = md5
    return web.Response(status=status, headers=headers)


def _headers(stored: Stored) -> dict[str, str]:
    blob, note = stored.blob, stored.note
    headers = {
        "Content-Length": str(blob.size_bytes),
        "Content-Type": note.content_type,
        "ETag": stored.etag,
        "Last-Modified": core.http_date(blob.modified_at),
        "Accept-Ranges": "bytes",
        "x-ms-blob-type": "BlockBlob",
        "x-ms-lease-status": "unlocked",
        "x-ms-lease-state": "available",
        "x-ms-server-encrypted": "false",
        "x-ms-version": VERSION,
        "x-ms-creation-time": core.http_date(stored.created_at),
        # Whatever a blob says it is, a browser must not take it for a page of ours.
        "Content-Disposition": "attachment",
    }
    if note.md5:
        headers["Content-MD5"] = note.md5
    headers |= note.kept
    return headers | {f"{core.META_PREFIX}{name}": text for name, text in note.metadata.items()}


def _refusal(error: StorageError) -> web.Response:
    headers = {"x-ms-error-code": error.code, "x-ms-version": VERSION}
    if error.retry_after_s is not None:
        headers["Retry-After"] = whole_seconds(error.retry_after_s)
    if error.status == 304:
        return web.Response(status=304, headers=headers)
    text = error_xml(error)
    return web.Response(
        status=error.status, text=text, content_type="application/xml", headers=headers
    )
