"""The part of Azure's blob protocol that uploads and downloads need, over our object store.

Clients reach it at ``/<workspace>.blob.core.windows.net/<container>/<blob>`` of the gateway. It has
ways of its own with paths, rights and errors, so it is served apart from the table of routes.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from headgate.gateway import storage_core as core
from headgate.gateway.authentication import AUDIENCES, Authenticator
from headgate.gateway.backend import Backend
from headgate.gateway.core import whole_seconds
from headgate.gateway.incoming import Incoming
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
from headgate.gateway.storage_objects import SMALL_BYTES_MAX, Objects
from headgate.runtime.tokens import Principal
from headgate_contracts.errors import HeadgateError
from headgate_contracts.identity import STORAGE_AUDIENCE

BLOCK_LIST_BYTES_MAX = 8 * 1024 * 1024
SWEEP_EVERY_S = 86_400.0
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
            ("GET", "metadata", False): (self._head, "r"),
            ("HEAD", "metadata", False): (self._head, "r"),
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
        """Once a day, remove what was begun and never finished; until the gateway stops."""
        while not await self._backend.closes_within(SWEEP_EVERY_S):
            await self._objects.sweep()

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
            return self._authenticator.check(request, signature, (STORAGE_AUDIENCE,))
        return self._authenticator.bearer(request, (STORAGE_AUDIENCE, *AUDIENCES))

    # --- reading -------------------------------------------------------------------------------

    async def _found(self, asked: Asked, *, reading: bool) -> Stored:
        stored = await self._objects.find(asked.place)
        if stored is None:
            raise not_found()
        core.check_conditions(asked.request.headers, stored, reading=reading)
        return stored

    async def _head(self, asked: Asked) -> web.StreamResponse:
        return web.Response(headers=_headers(await self._found(asked, reading=True)))

    async def _get(self, asked: Asked) -> web.StreamResponse:
        stored = await self._found(asked, reading=True)
        given, size_bytes = asked.request.headers, stored.blob.size_bytes
        span = core.read_range(given.get("x-ms-range") or given.get("Range"), size_bytes)
        start, end = span or (0, size_bytes)
        opened = await self._objects.open(stored, start, end) if end > start else None
        headers = _headers(stored) | {"Content-Length": str(end - start)}
        if span:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size_bytes}"
            headers["x-ms-blob-content-md5"] = headers.pop("Content-MD5", "")
        response = web.StreamResponse(status=206 if span else 200, headers=headers)
        await response.prepare(asked.request)
        if opened is not None:
            async for chunk in opened.chunks:
                await response.write(chunk)
        await response.write_eof()
        return response

    # --- writing -------------------------------------------------------------------------------

    async def _may_write(self, asked: Asked) -> bool:
        """Check the conditions of a write; whether it may only create."""
        present = await self._objects.find(asked.place)
        core.check_conditions(asked.request.headers, present)
        is_new = asked.request.headers.get("If-None-Match", "").strip() == "*"
        return is_new or asked.rights.creates_only

    async def _put(self, asked: Asked) -> web.StreamResponse:
        """A whole blob at once."""
        request = asked.request
        if request.headers.get("x-ms-blob-type", "BlockBlob").lower() != "blockblob":
            raise bad_header("x-ms-blob-type", "only block blobs can be stored here")
        note = _note(request)
        create_only = await self._may_write(asked)
        incoming = Incoming(request, always_md5=True)
        is_small = 0 <= _length(request) <= SMALL_BYTES_MAX
        with incoming.told():
            stored = await self._objects.write(
                asked.place, incoming, note, is_small=is_small, create_only=create_only
            )
        return _written(stored)

    async def _put_metadata(self, asked: Asked) -> web.StreamResponse:
        metadata = core.read_metadata(asked.request.headers.items())
        stored = await self._found(asked, reading=False)
        return _written(await self._objects.annotate(stored, metadata=metadata), status=200)

    async def _put_properties(self, asked: Asked) -> web.StreamResponse:
        content_type = core.read_content_type(asked.request.headers)
        stored = await self._found(asked, reading=False)
        return _written(await self._objects.annotate(stored, content_type=content_type), status=200)

    async def _put_block(self, asked: Asked) -> web.StreamResponse:
        block_id = core.check_block_id(asked.request.query.get("blockid"))
        incoming = Incoming(asked.request, always_md5=True)
        with incoming.told():
            await self._objects.write_block(asked.place, block_id, incoming)
        md5 = base64.b64encode(incoming.md5).decode()
        return web.Response(status=201, headers={"Content-MD5": md5, "x-ms-version": VERSION})

    async def _put_block_list(self, asked: Asked) -> web.StreamResponse:
        note = _note(asked.request)
        create_only = await self._may_write(asked)
        raw = await Incoming(asked.request).whole(BLOCK_LIST_BYTES_MAX)
        block_ids = core.read_block_list(raw.decode("utf-8", "replace"))
        stored = await self._objects.commit(asked.place, block_ids, note, create_only=create_only)
        return _written(stored)

    async def _delete(self, asked: Asked) -> web.StreamResponse:
        await self._found(asked, reading=False)
        await self._objects.delete(asked.place)
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
    )


def _written(stored: Stored, *, status: int = 201) -> web.Response:
    headers = {
        "ETag": stored.etag,
        "Last-Modified": core.http_date(stored.blob.modified_at),
        "x-ms-request-server-encrypted": "false",
        "x-ms-version": VERSION,
    }
    if status == 201:
        headers["Content-MD5"] = stored.note.md5
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
