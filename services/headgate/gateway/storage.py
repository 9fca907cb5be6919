"""The part of Azure's blob protocol that uploads and downloads need, over our object store.

Clients reach it at ``/<workspace>.blob.core.windows.net/<container>/<blob>`` of the gateway. It has
ways of its own with paths, rights and errors, so it is served apart from the table of routes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web
from pydantic import ValidationError

from headgate.gateway import storage_core as core
from headgate.gateway.authentication import AUDIENCES, Authenticator
from headgate.gateway.backend import Backend
from headgate.gateway.incoming import Incoming
from headgate.gateway.storage_core import Listed, Note, Place, StorageError
from headgate.runtime.store import Blob
from headgate.runtime.tokens import Principal
from headgate_contracts.errors import HeadgateError
from headgate_contracts.identity import STORAGE_AUDIENCE

NOTE_BYTES_MAX = 64 * 1024
BLOCK_LIST_BYTES_MAX = 8 * 1024 * 1024
LISTED_MAX = 200_000
VERSION = "2023-11-03"

Handle = Callable[[web.BaseRequest, Place], Awaitable[web.StreamResponse]]


class Storage:
    """Serves blobs of all workspaces to those who may have them."""

    def __init__(self, backend: Backend, authenticator: Authenticator) -> None:
        self._backend = backend
        self._store = backend.store
        self._authenticator = authenticator
        # (verb, comp, restype is container) -> handler and the permission that it needs
        self._operations: dict[tuple[str, str, bool], tuple[Handle, str]] = {
            ("GET", "", False): (self._get, "r"),
            ("HEAD", "", False): (self._get, "r"),
            ("GET", "metadata", False): (self._head, "r"),
            ("HEAD", "metadata", False): (self._head, "r"),
            ("PUT", "", False): (self._put, "w"),
            ("PUT", "metadata", False): (self._put_metadata, "w"),
            ("PUT", "properties", False): (self._put_metadata, "w"),
            ("PUT", "block", False): (self._put_block, "w"),
            ("PUT", "blocklist", False): (self._put_block_list, "w"),
            ("DELETE", "", False): (self._delete, "d"),
            ("GET", "list", True): (self._list, "l"),
            ("GET", "", True): (self._container, "r"),
            ("HEAD", "", True): (self._container, "r"),
            ("PUT", "", True): (self._create_container, "w"),
        }

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Any request of the protocol, with refusals in its own form."""
        try:
            return await self._answer(request)
        except StorageError as error:
            return _refusal(error)
        except HeadgateError as error:
            return _refusal(core.error_of(error.error.code, error.error.message))

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        who = self._caller(request)
        place = core.read_place(request.raw_path)
        query = request.query
        key = (request.method, query.get("comp", ""), query.get("restype") == "container")
        handler, letter = self._operations.get(key, (None, ""))
        if handler is None or key[2] == bool(place.blob):
            raise StorageError(
                405 if request.method not in ("GET", "HEAD", "PUT", "DELETE") else 400,
                "UnsupportedHttpVerb" if handler is None else "InvalidUri",
                "This operation is not known here.",
            )
        core.check_right(who, place, letter)
        response = await handler(request, place)
        if not response.prepared:
            response.headers.setdefault("x-ms-version", VERSION)
        return response

    def _caller(self, request: web.BaseRequest) -> Principal:
        """Whose signature it is, or whose token."""
        if signature := request.query.get("sig", ""):
            return self._authenticator.check(request, signature, (STORAGE_AUDIENCE,))
        return self._authenticator.bearer(request, (STORAGE_AUDIENCE, *AUDIENCES))

    # --- reading -------------------------------------------------------------------------------

    async def _found(self, place: Place) -> tuple[Blob, Note]:
        blob = await self._store.head(place.key)
        if blob is None:
            raise core.not_found()
        return blob, await self._note(place)

    async def _note(self, place: Place) -> Note:
        try:
            raw = await self._store.read(place.note_key, bytes_max=NOTE_BYTES_MAX)
            return Note.model_validate_json(raw)
        except (HeadgateError, ValidationError):
            return Note()  # put there by other means than this protocol

    async def _head(self, request: web.BaseRequest, place: Place) -> web.StreamResponse:
        blob, note = await self._found(place)
        return web.Response(headers=_headers(blob, note))

    async def _get(self, request: web.BaseRequest, place: Place) -> web.StreamResponse:
        blob, note = await self._found(place)
        headers = request.headers
        if headers.get("If-None-Match", "") == core.plain_etag(blob.etag):
            return web.Response(status=304, headers=_headers(blob, note))
        if headers.get("If-Match", "*") not in ("*", core.plain_etag(blob.etag)):
            raise StorageError(412, "ConditionNotMet", "The blob has changed.")
        span = core.read_range(headers.get("x-ms-range") or headers.get("Range"), blob.size_bytes)
        start, end = span or (0, blob.size_bytes)
        response = web.StreamResponse(status=206 if span else 200, headers=_headers(blob, note))
        if span:
            response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{blob.size_bytes}"
            response.headers.popall("Content-MD5", None)  # that is the whole blob's
            response.headers["x-ms-blob-content-md5"] = note.md5
        response.content_length = end - start
        await response.prepare(request)
        if request.method == "GET" and end > start:
            async for chunk in self._store.get(place.key, start=start, end=end):
                await response.write(chunk)
        await response.write_eof()
        return response

    # --- writing -------------------------------------------------------------------------------

    async def _put(self, request: web.BaseRequest, place: Place) -> web.StreamResponse:
        """A whole blob at once."""
        if request.headers.get("x-ms-blob-type", "BlockBlob").lower() != "blockblob":
            raise core.bad_header("x-ms-blob-type", "only block blobs can be stored here")
        metadata = core.read_metadata(request.headers.items())
        await self._check_condition(request, place)
        incoming = Incoming(request, always_md5=True)
        await self._write(place, incoming)
        note = Note(
            content_type=_content_type(request),
            md5=base64.b64encode(incoming.md5).decode(),
            sha256=incoming.sha256,
            metadata=metadata,
            created_at=self._backend.clock.now(),
        )
        return await self._noted(place, note)

    async def _write(self, place: Place, incoming: Incoming) -> None:
        try:
            await self._store.put(place.key, incoming.chunks())
        except BaseException:
            if incoming.failure is not None:
                raise incoming.failure from None
            raise

    async def _check_condition(self, request: web.BaseRequest, place: Place) -> None:
        if request.headers.get("If-None-Match") == "*" and await self._store.exists(place.key):
            raise StorageError(409, "BlobAlreadyExists", "The specified blob already exists.")

    async def _noted(self, place: Place, note: Note) -> web.StreamResponse:
        """Keep the note beside a blob that has been written, and answer."""
        await self._store.put(place.note_key, note.model_dump_json().encode())
        blob = await self._store.head(place.key)
        if blob is None:
            raise core.not_found()
        headers = {"ETag": core.plain_etag(blob.etag), "Content-MD5": note.md5}
        headers["Last-Modified"] = core.http_date(blob.modified_at)
        headers["x-ms-request-server-encrypted"] = "false"
        return web.Response(status=201, headers=headers)

    async def _put_metadata(self, request: web.BaseRequest, place: Place) -> web.StreamResponse:
        blob, note = await self._found(place)
        if request.query["comp"] == "metadata":
            changes: dict[str, object] = {"metadata": core.read_metadata(request.headers.items())}
        else:
            changes = {"content_type": _content_type(request)}
        changed = note.model_copy(update=changes)
        await self._store.put(place.note_key, changed.model_dump_json().encode())
        return web.Response(headers={"ETag": core.plain_etag(blob.etag)})

    async def _put_block(self, request: web.BaseRequest, place: Place) -> web.StreamResponse:
        """One part of a large blob; nothing is seen of it before the list of all is put."""
        key = place.block_key(core.check_block_id(request.query.get("blockid")))
        incoming = Incoming(request, always_md5=True)
        try:
            await self._store.put(key, incoming.chunks())
        except BaseException:
            if incoming.failure is not None:
                raise incoming.failure from None
            raise
        return web.Response(
            status=201, headers={"Content-MD5": base64.b64encode(incoming.md5).decode()}
        )

    async def _put_block_list(self, request: web.BaseRequest, place: Place) -> web.StreamResponse:
        """The blob becomes its blocks in this order, whole or not at all."""
        metadata = core.read_metadata(request.headers.items())
        await self._check_condition(request, place)
        raw = bytearray()
        async for chunk in Incoming(request).chunks():
            raw += chunk
            if len(raw) > BLOCK_LIST_BYTES_MAX:
                raise StorageError(413, "RequestBodyTooLarge", "The list of blocks is too long.")
        blocks = [
            place.block_key(each) for each in core.read_block_list(raw.decode("utf-8", "replace"))
        ]
        for key in blocks:
            if not await self._store.exists(key):
                raise StorageError(400, "InvalidBlockList", "A block of the list was never put.")
        sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)

        async def chunks() -> AsyncIterator[bytes]:
            for key in blocks:
                async for chunk in self._store.get(key):
                    sha256.update(chunk)
                    md5.update(chunk)
                    yield chunk

        await self._store.put(place.key, chunks())
        await self._forget_blocks(place)
        note = Note(
            content_type=_content_type(request),
            md5=base64.b64encode(md5.digest()).decode(),
            sha256=sha256.hexdigest(),
            metadata=metadata,
            created_at=self._backend.clock.now(),
        )
        return await self._noted(place, note)

    async def _forget_blocks(self, place: Place) -> None:
        for blob in await self._store.list(place.blocks_folder, limit=core.BLOCKS_MAX):
            await self._store.delete(blob.key)

    async def _delete(self, request: web.BaseRequest, place: Place) -> web.StreamResponse:
        await self._found(place)
        await self._store.delete(place.key)
        await self._store.delete(place.note_key)
        return web.Response(status=202)

    # --- containers ----------------------------------------------------------------------------

    async def _container(self, request: web.BaseRequest, place: Place) -> web.StreamResponse:
        return web.Response(headers={"ETag": '"0"', "x-ms-lease-state": "available"})

    async def _create_container(self, request: web.BaseRequest, place: Place) -> web.StreamResponse:
        """Containers are there as soon as something is in them."""
        return web.Response(status=201, headers={"ETag": '"0"'})

    async def _list(self, request: web.BaseRequest, place: Place) -> web.StreamResponse:
        wanted = core.read_wanted(request.query)
        folder = f"{place.key}/{wanted.prefix}".rpartition("/")[0]
        found = {
            blob.key.removeprefix(f"{place.key}/"): blob
            for blob in await self._store.list(folder, limit=LISTED_MAX)
        }
        page = core.page_of(sorted(found), wanted)
        blobs = []
        for name in page.names:
            blob = found[name]
            note = None
            if wanted.with_metadata:
                note = await self._note(Place(place.workspace, place.container, name))
            blobs.append(Listed(name, blob.size_bytes, blob.modified_at, blob.etag, note))
        address = f"{request.scheme}://{request.host}/"
        text = core.list_xml(address, place.container, wanted, blobs, page)
        return web.Response(text=text, content_type="application/xml")


def _content_type(request: web.BaseRequest) -> str:
    headers = request.headers
    given = headers.get("x-ms-blob-content-type") or headers.get("Content-Type") or ""
    return given[:256] or "application/octet-stream"


def _headers(blob: Blob, note: Note) -> dict[str, str]:
    headers = {
        "Content-Length": str(blob.size_bytes),
        "Content-Type": note.content_type,
        "ETag": core.plain_etag(blob.etag),
        "Last-Modified": core.http_date(blob.modified_at),
        "Accept-Ranges": "bytes",
        "x-ms-blob-type": "BlockBlob",
        "x-ms-lease-status": "unlocked",
        "x-ms-lease-state": "available",
        "x-ms-server-encrypted": "false",
        "x-ms-version": VERSION,
        "x-ms-creation-time": core.http_date(note.created_at or blob.modified_at),
        # Whatever a blob says it is, a browser must not take it for a page of ours.
        "Content-Disposition": "attachment",
    }
    if note.md5:
        headers["Content-MD5"] = note.md5
    headers |= {f"{core.META_PREFIX}{name}": text for name, text in note.metadata.items()}
    return headers


def _refusal(error: StorageError) -> web.Response:
    response = web.Response(
        status=error.status, text=core.error_xml(error), content_type="application/xml"
    )
    response.headers["x-ms-error-code"] = error.code
    response.headers["x-ms-version"] = VERSION
    return response
