"""Blobs over the object store: content, the note beside it, and blocks that wait for their list."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from heapq import nsmallest
from typing import Protocol
from weakref import WeakValueDictionary

from pydantic import ValidationError

from headgate.gateway.incoming import md5_differs
from headgate.gateway.storage_core import (
    BLOCKS_FOLDER,
    Note,
    Place,
    Stored,
    block_list_digest,
    newest_blocks,
)
from headgate.gateway.storage_errors import StorageError, not_found
from headgate.gateway.storage_lists import Page, Wanted, is_of, page_of
from headgate.runtime.clock import Clock, short_id
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


@dataclass(frozen=True, slots=True)
class Change:
    """A write as its client wants it. ``check`` refuses what is there now by raising."""

    place: Place
    check: Callable[[Stored | None], None]
    create_only: bool = False


class Objects:
    """The blobs of all workspaces. Changes of one blob are checked and made one at a time."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def _alone(self, place: Place) -> asyncio.Lock:
        return self._locks.setdefault(place.key, asyncio.Lock())

    async def find(self, place: Place) -> Stored | None:
        blob = await self._store.head(place.key)
        return None if blob is None else await self._with_note(place, blob)

    async def _with_note(self, place: Place, blob: Blob) -> Stored:
        opened = await self._store.open(place.note_key(blob.etag))
        raw = b""
        if opened is not None and opened.blob.size_bytes <= NOTE_BYTES_MAX:
            raw = b"".join([chunk async for chunk in opened.chunks])
        try:
            note = Note.model_validate_json(raw)
        except ValidationError:
            note = Note()
        # What came here by other means than this protocol has no note.
        return Stored(place, blob, note if note.etag == blob.etag else Note())

    async def open(self, stored: Stored, start: int, end: int) -> Opened | None:
        """The bytes of exactly this version; None when it has been replaced."""
        until = end if end > start else None  # there is no range without bytes
        opened = await self._store.open(stored.place.key, start=start, end=until)
        return opened if opened is not None and opened.blob.etag == stored.blob.etag else None

    async def write(self, change: Change, source: Source, note: Note, *, is_small: bool) -> Stored:
        """A blob with its note, which learns here what the content is."""
        if is_small:
            whole = b"".join([chunk async for chunk in source.chunks()])
            async with self._alone(change.place):
                return await self._put(change, whole, source, note, [await self._checked(change)])
        replaced = [await self._checked(change)]
        async with AsyncExitStack() as stack:

            async def until_checked() -> AsyncIterator[bytes]:
                async for chunk in source.chunks():
                    yield chunk
                # Not longer than needed: others must not wait for whoever sends slowly.
                await stack.enter_async_context(self._alone(change.place))
                replaced[:] = [await self._checked(change)]

            return await self._put(change, until_checked(), source, note, replaced)

    async def _checked(self, change: Change) -> Stored | None:
        present = await self.find(change.place)
        change.check(present)
        return present

    async def _put(
        self,
        change: Change,
        data: bytes | AsyncIterator[bytes],
        source: Source,
        note: Note,
        replaced: Sequence[Stored | None],
    ) -> Stored:
        """``replaced`` is read last: who sends for long learns only at the end what is there."""
        place = change.place
        etag = await self._store.put(place.key, data, create_only=change.create_only)
        known = {
            "etag": etag,
            "md5": base64.b64encode(source.md5).decode(),
            "sha256": source.sha256,
            "created_at": self._clock.now(),
        }
        stored = await self._noted(place, note.model_copy(update=known))
        for present in replaced:
            if present is not None and present.blob.etag != etag:
                await self._store.delete(place.note_key(present.blob.etag))
        return stored

    async def annotate(self, change: Change, **changes: object) -> Stored:
        """The same content with another note."""
        async with self._alone(change.place):
            stored = await self._present(change)
            note = stored.note.model_copy(update={**changes, "etag": stored.blob.etag})
            return await self._noted(stored.place, note)

    async def _present(self, change: Change) -> Stored:
        stored = await self.find(change.place)
        if stored is None:
            raise not_found()
        change.check(stored)
        return stored

    async def _noted(self, place: Place, note: Note) -> Stored:
        await self._store.put(place.note_key(note.etag), note.model_dump_json().encode())
        blob = await self._store.head(place.key)
        if blob is None:
            raise HeadgateError(ErrorCode.UNAVAILABLE, "the blob was deleted just now")
        return Stored(place, replace(blob, etag=note.etag), note)

    async def delete(self, change: Change) -> None:
        async with self._alone(change.place):
            stored = await self._present(change)
            await self._store.delete(change.place.key)
            await self._store.delete(change.place.note_key(stored.blob.etag))

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
        stamp = f"{int(self._clock.now() * 1e6):016x}-{short_id()}"
        await self._store.put(place.block_key(block_id, stamp), source.chunks())

    async def commit(
        self, change: Change, block_ids: Sequence[str], note: Note, *, md5: bytes | None = None
    ) -> Stored:
        """The blob becomes these blocks in this order, whole or not at all.

        A client whose answer was lost sends the list again; what it wants is there already then.
        """
        place = change.place
        async with self._alone(place):
            present = await self._checked(change)
            listed = block_list_digest(block_ids)
            waiting = [blob async for blob in self._store.walk(place.blocks_folder)]
            newest = newest_blocks(place, waiting)
            blocks = [newest[each] for each in block_ids if each in newest]
            if len(blocks) < len(block_ids):
                if present is not None and not blocks and present.note.block_list == listed:
                    return present
                raise StorageError(400, "InvalidBlockList", "A block of the list was never put.")
            size_bytes = sum(block.size_bytes for block in blocks)
            if size_bytes > limits.UPLOAD_FILE_BYTES_MAX:
                raise StorageError(413, "RequestBodyTooLarge", "The blocks together are too large.")
            joined = _Joined(self._store, [block.key for block in blocks], md5)
            note = note.model_copy(update={"block_list": listed})
            data: bytes | AsyncIterator[bytes] = joined.chunks()
            if size_bytes <= SMALL_BYTES_MAX:
                data = b"".join([chunk async for chunk in joined.chunks()])
            stored = await self._put(change, data, joined, note, [present])
            await self._forget(waiting)
            return stored

    async def sweep(self) -> None:
        """Remove blocks that nobody has committed for a week."""
        before = self._clock.now() - BLOCKS_KEPT_S
        async for blob in self._store.walk(BLOCKS_FOLDER):
            if blob.modified_at < before:
                await self._store.delete(blob.key)

    async def _forget(self, blocks: Sequence[Blob]) -> None:
        """Remove these and no others: blocks that came meanwhile belong to the next list."""
        limit = asyncio.Semaphore(NOTES_AT_ONCE)

        async def one(block: Blob) -> None:
            async with limit:
                await self._store.delete(block.key)

        await asyncio.gather(*map(one, blocks))


class _Joined:
    """Blocks one after the other."""

    def __init__(self, store: Store, keys: Sequence[str], announced_md5: bytes | None) -> None:
        self._store = store
        self._keys = keys
        self._announced_md5 = announced_md5
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
        if self._announced_md5 not in (None, self.md5):
            raise md5_differs()

    def _hash(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self._md5.update(chunk)
