"""Writes a job's output: from committed mini-batches alone, in the order of the input."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from headgate.batch import state
from headgate.batch.records import JobRecord
from headgate.runtime.places import joined
from headgate.runtime.store import Store
from headgate.runtime.tables import Database
from headgate_contracts.errors import ErrorCode, HeadgateError

_PAGE = 200

Stream = Callable[[], AsyncIterator[bytes]]


class LostResultError(Exception):
    """The result of a committed mini-batch is not where it was kept."""

    def __init__(self, number: int) -> None:
        super().__init__(f"the result of mini-batch {number} is lost")
        self.number = number


class Output:
    """The output of one job."""

    def __init__(self, job: JobRecord, database: Database, to: Store, own: Store) -> None:
        """``to`` is the store that the output goes to, ``own`` the one where results wait."""
        self._job = job
        self._database = database
        self._own = own
        self._to = to

    async def write(self) -> None:
        """Write all files of the output that are not there yet.

        Raises HeadgateError(OutputAlreadyExists) for a file that somebody else has written, and
        LostResultError.
        """
        if self._job.settings.output_action == "append_row":
            await self._ensure(self._job.settings.output_file_name, self._rows)
        for name, found in (await self._files()).items():

            def joined_up(found: list[tuple[int, str]] = found) -> AsyncIterator[bytes]:
                return self._objects(found)

            await self._ensure(name, joined_up)

    async def _ensure(self, name: str, content: Stream) -> None:
        """Write a file, unless an earlier run of ours has: then it has the very same bytes."""
        key = joined(self._job.document.to_place.path, name)
        try:
            await self._to.put(key, content(), create_only=True)
        except HeadgateError as error:
            if error.error.code is not ErrorCode.RESOURCE_EXISTS:
                raise
            if await _same(self._to.get(key), content()):
                return
            raise HeadgateError(
                ErrorCode.OUTPUT_EXISTS,
                f"{self._job.document.output.uri.rstrip('/')}/{name} exists already, and outputs "
                "never replace a file; move it away, then `headgate job resume`",
                target="outputs.uri",
            ) from None

    async def _results(self) -> AsyncIterator[state.Result]:
        after = -1
        while True:
            async with self._database.reading() as session:
                page = await state.results(session, self._job.id, after, _PAGE)
            if not page:
                return
            for result in page:
                yield result
            after = page[-1].number

    async def _rows(self) -> AsyncIterator[bytes]:
        async for result in self._results():
            if result.text:
                yield result.text.encode()
            if result.part:
                async for chunk in self._objects([(result.number, result.part)]):
                    yield chunk

    async def _files(self) -> dict[str, list[tuple[int, str]]]:
        """Files that the script wrote itself, by name; several of one name follow one another."""
        found: dict[str, list[tuple[int, str]]] = {}
        async for result in self._results():
            for each in result.outputs:
                found.setdefault(each.name, []).append((result.number, each.key))
        return found

    async def _objects(self, found: list[tuple[int, str]]) -> AsyncIterator[bytes]:
        for number, key in found:
            opened = await self._own.open(key)
            if opened is None:
                raise LostResultError(number)
            async for chunk in opened.chunks:
                yield chunk


async def _same(one: AsyncIterator[bytes], other: AsyncIterator[bytes]) -> bool:
    """Whether two streams have the same bytes, however they are cut."""
    left, right = b"", b""
    while True:
        if not left:
            left = await anext(one, b"")
        if not right:
            right = await anext(other, b"")
        size = min(len(left), len(right))
        if left[:size] != right[:size]:
            return False
        if not size:
            return await _is_over(left, one) and await _is_over(right, other)
        left, right = left[size:], right[size:]


async def _is_over(left: bytes, stream: AsyncIterator[bytes]) -> bool:
    if left:
        return False
    async for chunk in stream:
        if chunk:
            return False
    return True


async def forget(job: JobRecord, own: Store) -> None:
    """Remove what the output was made of."""
    async for blob in own.walk(job.parts):
        await own.delete(blob.key)
