"""Lists an input and stores its mini-batches as they are cut: nodes begin before it has ended.

What is stored says where to go on, so a listing that is broken off is continued, never repeated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from headgate.batch.cutting import Cutter, MiniBatch
from headgate.batch.records import JobRecord
from headgate.runtime.places import Places, joined
from headgate.runtime.store import checked_key
from headgate_contracts.mini_batches import FilePart

FIRST = 1
MOST = 500

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


async def _parts(job: JobRecord, places: Places) -> AsyncIterator[FilePart]:
    """Files in order, from behind the last that is in a mini-batch."""
    place = job.document.from_place
    store = places.store_of(place)
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
