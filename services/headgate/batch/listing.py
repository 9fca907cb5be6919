"""Lists an input and stores its mini-batches as they are cut: nodes begin before it has ended.

What is stored says where to go on, so a listing that is broken off is continued, never repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from headgate.batch.cutting import Cutter, MiniBatch
from headgate.batch.records import JobRecord
from headgate.batch.row_cutting import Position, RowCutter, parsed
from headgate.runtime.places import Places, joined
from headgate.runtime.store import checked_key
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.mini_batches import FilePart

FIRST = 1
MOST = 500
WEB_RETRIES_S = (1.0, 2.0, 4.0)

Store = Callable[[Sequence[MiniBatch], bool], Awaitable[bool]]


async def list_input(job: JobRecord, places: Places, store: Store) -> None:
    """List all that is not listed yet.

    ``store`` takes mini-batches, and whether they are the last; False from it ends the listing.
    Raises HeadgateError when the input cannot be read.
    """
    made: list[MiniBatch] = []
    group = FIRST  # nodes get the first one at once, and then they have enough to do
    cuts = _cut_by_rows if job.settings.mini_batch_rows else _cut_by_files
    async for mini_batch in cuts(job, places):
        made.append(mini_batch)
        if len(made) >= group:
            if not await store(made, False):
                return
            made, group = [], min(MOST, 4 * group)
    await store(made, True)


async def _cut_by_files(job: JobRecord, places: Places) -> AsyncIterator[MiniBatch]:
    cutter = Cutter(job.settings)
    async for part in _parts(job, places, job.listed_key):
        for mini_batch in cutter.add(part):
            yield mini_batch
    for mini_batch in cutter.rest():
        yield mini_batch


async def _cut_by_rows(job: JobRecord, places: Places) -> AsyncIterator[MiniBatch]:
    """All of the input is read for it, in chunks."""
    cutter = RowCutter(job.settings.mini_batch_rows or 1)
    begun, position = parsed(job.listed_key)
    if begun is not None and position is not None:
        async for mini_batch in _rows_of(begun, position, cutter, job, places):
            yield mini_batch
    async for part in _parts(job, places, begun.path if begun else ""):
        async for mini_batch in _rows_of(part, Position(), cutter, job, places):
            yield mini_batch
    for mini_batch in cutter.rest():
        yield mini_batch


async def _rows_of(
    part: FilePart, position: Position, cutter: RowCutter, job: JobRecord, places: Places
) -> AsyncIterator[MiniBatch]:
    cutter.begin(part, position)
    if position.start < part.size_bytes:
        async for chunk in places.read(job.document.from_place, part.path, start=position.start):
            for mini_batch in cutter.add(chunk):
                yield mini_batch
    for mini_batch in cutter.end():
        yield mini_batch


async def _size_on_the_web(places: Places, url: str) -> int:
    """A server that is away gets a few tries, for nobody may ever mend it."""
    for wait_s in (*WEB_RETRIES_S, None):
        try:
            return await places.web.size_bytes(url)
        except HeadgateError as error:
            if error.error.code is not ErrorCode.UNAVAILABLE:
                raise
            if wait_s is None:
                text = f"{error}, at {len(WEB_RETRIES_S) + 1} attempts"
                raise HeadgateError(ErrorCode.NO_INPUT, text, target="inputs.uri") from None
            await asyncio.sleep(wait_s)
    raise AssertionError("the last attempt returns or raises")


async def _parts(job: JobRecord, places: Places, listed: str) -> AsyncIterator[FilePart]:
    """Files in order, from behind the one that was ``listed`` last."""
    place = job.document.from_place
    if place.is_web:
        if not listed:
            size_bytes = await _size_on_the_web(places, place.url)
            yield FilePart(path=job.document.file_name, size_bytes=size_bytes)
        return
    store = await places.store_of(place)
    if job.is_file:
        blob = await store.head(joined(place.path, job.document.file_name))
        if blob is not None and not listed:
            yield FilePart(path=job.document.file_name, size_bytes=blob.size_bytes)
        return
    folder = place.path.strip("/")
    after = joined(folder, listed) if listed else ""
    async for blob in store.walk_ordered(folder, after=after):
        relative = blob.key.removeprefix(folder).lstrip("/")
        yield FilePart(path=checked_key(relative), size_bytes=blob.size_bytes)
