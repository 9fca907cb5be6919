"""Lists an input and stores its mini-batches as they are cut: nodes begin before it has ended.

What is stored says where to go on, so a listing that is broken off is continued, never repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from headgate.batch.cutting import Cutter, MiniBatch
from headgate.batch.records import JobRecord
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
    cutter = Cutter(job.settings)
    made: list[MiniBatch] = []
    group = FIRST  # nodes get the first one at once, and then they have enough to do
    async for part in _parts(job, places):
        made += cutter.add(part)
        if len(made) >= group:
            if not await store(made, False):
                return
            made, group = [], min(MOST, 4 * group)
    await store([*made, *cutter.rest()], True)


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


async def _parts(job: JobRecord, places: Places) -> AsyncIterator[FilePart]:
    """Files in order, from behind the last that is in a mini-batch."""
    place = job.document.from_place
    if place.is_web:
        if not job.listed_key:
            size_bytes = await _size_on_the_web(places, place.url)
            yield FilePart(path=job.document.file_name, size_bytes=size_bytes)
        return
    store = await places.store_of(place)
    if job.is_file:
        blob = await store.head(joined(place.path, job.document.file_name))
        if blob is not None and not job.listed_key:
            yield FilePart(path=job.document.file_name, size_bytes=blob.size_bytes)
        return
    folder = place.path.strip("/")
    after = joined(folder, job.listed_key) if job.listed_key else ""
    async for blob in store.walk_ordered(folder, after=after):
        relative = blob.key.removeprefix(folder).lstrip("/")
        yield FilePart(path=checked_key(relative), size_bytes=blob.size_bytes)
