"""Blobs over the object store: content, the note beside it, and blocks that wait for their list."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from heapq import nsmallest
from typing import Protocol
from weakref import WeakValueDictionary

from pydantic import ValidationError

from headgate.gateway.storage_core import BLOCKS_FOLDER, Note, Place, Stored, block_list_digest
from headgate.gateway.storage_errors import StorageError
from headgate.gateway.storage_lists import Page, Wanted, is_of, page_of
from headgate.runtime.clock import Clock
from headgate.runtime.store import Blob, Opened, Store
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError

NOTE_BYTES_MAX = 64 * 1024
SMALL_BYTES_MAX = 1024 * 1024
NOTES_AT_ONCE = 16
_WALKED_PAGES = 4
BLOCKS_KEPT_S = 7 * 86_400.0  # as Azure keeps what is never committed


class Source(Protocol):
    """Bytes on their way, with what is known of them once all have passed."""

    @property
    def sha256(self) -> str: ...

    @property
    def md5(self) -> bytes: ...

    def chunks(self) -> AsyncIterator[bytes]: ...


class Objects:
    """The blobs of all workspaces."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._commits: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def find(self, place: Place) -> Stored | None:
        blob = await self._store.head(place.key)
        return None if blob is None else await self._with_note(place, blob)

    async def _with_note(self, place: Place, blob: Blob) -> Stored:
        opened = await self._store.open(place.note_key)
        raw = b""
        if opened is not None and opened.blob.size_bytes <= NOTE_BYTES_MAX:
            raw = b"".join([chunk async for chunk in opened.chunks])
        try:
            note = Note.model_validate_json(raw)
        except ValidationError:
            note = Note()
        # What came here by other means than this protocol has no note, or another blob's.
        return Stored(place, blob, note if note.etag == blob.etag else Note())

    async def open(self, stored: Stored, start: int, end: int) -> Opened:
        """The bytes of exactly this version."""
        opened = await self._store.open(stored.place.key, start=start, end=end)
        if opened is None or opened.blob.etag != stored.blob.etag:
            raise HeadgateError(
                ErrorCode.UNAVAILABLE, "the blob was replaced just now; read it again"
            )
        return opened

    async def write(
        self, place: Place, source: Source, note: Note, *, is_small: bool, create_only: bool
    ) -> Stored:
        """A blob with its note, which learns here what the content is."""
        data: bytes | AsyncIterator[bytes] = source.chunks()
        if is_small:
            data = b"".join([chunk async for chunk in source.chunks()])
        etag = await self._store.put(place.key, data, create_only=create_only)
        known = {
            "etag": etag,
            "md5": base64.b64encode(source.md5).decode(),
            "sha256": source.sha256,
            "created_at": self._clock.now(),
        }
        return await self._noted(place, note.model_copy(update=known))

    async def annotate(self, stored: Stored, **changes: object) -> Stored:
        """The same content with another note."""
        note = stored.note.model_copy(update={**changes, "etag": stored.blob.etag})
        return await self._noted(stored.place, note)

    async def _noted(self, place: Place, note: Note) -> Stored:
        await self._store.put(place.note_key, note.model_dump_json().encode())
        blob = await self._store.head(place.key)
        if blob is None:
            raise HeadgateError(ErrorCode.UNAVAILABLE, "the blob was deleted just now")
        return Stored(place, blob, note if note.etag == blob.etag else Note())

    async def delete(self, place: Place) -> None:
        await self._store.delete(place.key)
        await self._store.delete(place.note_key)

    # --- lists ---------------------------------------------------------------------------------

    async def page(self, container: Place, wanted: Wanted) -> tuple[Page, Sequence[Stored]]:
        """A part of a container's blobs, by name."""
        try:
            found, folders = await self._named(container, wanted)
        except HeadgateError as error:
            if error.error.code is not ErrorCode.BAD_ARGUMENT:
                raise
            found, folders = {}, []  # no blob can have a name that begins like this
        page = page_of([*found, *folders], wanted)
        shown = [found[name] for name in page.names if name in found]
        return page, await self._with_notes(container, shown)

    async def _named(self, container: Place, wanted: Wanted) -> tuple[dict[str, Blob], list[str]]:
        """Blobs by name and folders; of very many blobs no more than a page can take."""
        start = f"{container.key}/"
        folder = f"{start}{wanted.prefix}".rpartition("/")[0]
        if wanted.by_folder:
            level = await self._store.level(folder)
            blobs = {blob.key.removeprefix(start): blob for blob in level.blobs}
            return blobs, [f"{key.removeprefix(start)}/" for key in level.folders]
        found: dict[str, Blob] = {}
        async for blob in self._store.walk(folder):
            name = blob.key.removeprefix(start)
            if is_of(name, wanted):
                found[name] = blob
            if len(found) > _WALKED_PAGES * wanted.size:
                found = {name: found[name] for name in nsmallest(wanted.size + 1, found)}
        return found, []

    async def _with_notes(self, container: Place, blobs: Sequence[Blob]) -> list[Stored]:
        limit, start = asyncio.Semaphore(NOTES_AT_ONCE), f"{container.key}/"

        async def one(blob: Blob) -> Stored:
            place = replace(container, blob=blob.key.removeprefix(start))
            async with limit:
                return await self._with_note(place, blob)

        return await asyncio.gather(*(one(blob) for blob in blobs))

    # --- blocks --------------------------------------------------------------------------------

    async def write_block(self, place: Place, block_id: str, source: Source) -> None:
        """One part of a blob that is sent in parts; nobody sees it before the list of all."""
        await self._store.put(place.block_key(block_id), source.chunks())

    async def commit(
        self, place: Place, block_ids: Sequence[str], note: Note, *, create_only: bool
    ) -> Stored:
        """The blob becomes these blocks in this order, whole or not at all.

        A client whose answer was lost sends the list again; what it wants is there already then.
        """
        lock = self._commits.setdefault(place.key, asyncio.Lock())
        async with lock:
            listed = block_list_digest(block_ids)
            keys = [place.block_key(each) for each in block_ids]
            waiting = {
                blob.key: blob.size_bytes async for blob in self._store.walk(place.blocks_folder)
            }
            if not waiting.keys() >= set(keys):
                present = await self.find(place)
                if present is not None and present.note.block_list == listed:
                    return present
                raise StorageError(400, "InvalidBlockList", "A block of the list was never put.")
            size_bytes = sum(waiting[key] for key in keys)
            if size_bytes > limits.UPLOAD_FILE_BYTES_MAX:
                raise StorageError(413, "RequestBodyTooLarge", "The blocks together are too large.")
            note = note.model_copy(update={"block_list": listed})
            joined, is_small = _Joined(self._store, keys), size_bytes <= SMALL_BYTES_MAX
            stored = await self.write(
                place, joined, note, is_small=is_small, create_only=create_only
            )
            await self._forget(place.blocks_folder)
            return stored

    async def sweep(self) -> None:
        """Remove blocks that nobody has committed for a week."""
        await self._forget(BLOCKS_FOLDER, before=self._clock.now() - BLOCKS_KEPT_S)

    async def _forget(self, folder: str, *, before: float | None = None) -> None:
        async for blob in self._store.walk(folder):
            if before is None or blob.modified_at < before:
                await self._store.delete(blob.key)


class _Joined:
    """Blocks one after the other."""

    def __init__(self, store: Store, keys: Sequence[str]) -> None:
        self._store = store
        self._keys = keys
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def md5(self) -> bytes:
        return self._md5.digest()

    async def chunks(self) -> AsyncIterator[bytes]:
        for key in self._keys:
            async for chunk in self._store.get(key):
                await asyncio.to_thread(self._hash, chunk)
                yield chunk

    def _hash(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self._md5.update(chunk)
